//! JSON files that carry a hash of their content.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::hexadecimal;

/// Key of the hash, at the end of the object.
const KEY: &str = "sha256";

/// An object together with the SHA-256 of its content.
///
/// The hash is that of [`canonical_json`], so a file may be formatted anew, but not changed.
#[derive(Debug, Serialize)]
pub struct Sealed<T> {
    #[serde(flatten)]
    content: T,
    sha256: String,
}

/// Why JSON is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is not the expected JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Its content is not the one that was hashed.
    #[error("its content has sha256 {found}, it records {expected}: it was changed or damaged")]
    Hash {
        /// The hash of the content.
        found: String,
        /// The hash in the file.
        expected: String,
    },
}

/// Adds the hash to an object that is about to be written.
///
/// # Errors
/// When `content` cannot be expressed in JSON as an object.
pub fn seal<T: Serialize>(content: T) -> Result<Sealed<T>, serde_json::Error> {
    // By way of text, as the reader has no other: a number may have several forms in memory.
    let read: Value = serde_json::from_str(&serde_json::to_string(&content)?)?;
    Ok(Sealed { sha256: hash(&read), content })
}

/// Reads an object and compares it with its hash, if it has one: files of earlier versions do not.
///
/// # Errors
/// [`SealError`] when it is not the expected JSON, or was changed since it was written.
pub fn unseal<T: DeserializeOwned>(text: &[u8]) -> Result<T, SealError> {
    let mut value: Value = serde_json::from_slice(text)?;
    if let Some(object) = value.as_object_mut()
        && let Some(expected) = object.remove(KEY)
    {
        let (found, expected) = (hash(&value), expected.as_str().unwrap_or_default().to_owned());
        if found != expected {
            return Err(SealError::Hash { found, expected });
        }
    }
    // From the text once more, for errors that name a line.
    Ok(serde_json::from_slice(text)?)
}

fn hash(value: &Value) -> String {
    hexadecimal(&Sha256::digest(canonical_json(value)))
}

/// JSON for hashes: sorted keys, without quotes around them and without white space. (The order in which
/// `serde_json` writes keys depends on a feature that any crate in the tree may enable.)
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                out.push_str(key);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                write_canonical(value, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct State {
        step: u64,
        loss: f32,
        best: Option<f64>,
        names: Vec<String>,
    }

    fn state() -> State {
        State { step: u64::MAX, loss: 0.1, best: Some(0.1 + 0.2), names: vec!["crane".into(), "é".into()] }
    }

    #[test]
    fn an_object_comes_back_from_both_forms_of_its_text_and_without_a_hash() {
        let sealed = seal(state()).unwrap();
        for text in [serde_json::to_vec(&sealed).unwrap(), serde_json::to_vec_pretty(&sealed).unwrap()] {
            assert!(text.windows(8).any(|part| part == b"\"sha256\""));
            assert_eq!(unseal::<State>(&text).unwrap(), state());
        }
        assert_eq!(unseal::<State>(&serde_json::to_vec(&state()).unwrap()).unwrap(), state());
    }

    #[test]
    fn every_changed_bit_is_an_error_or_changes_nothing() {
        let text = serde_json::to_vec_pretty(&seal(state()).unwrap()).unwrap();
        let mut refused = 0;
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[place] ^= 1 << bit;
                match unseal::<State>(&changed) {
                    Ok(read) => assert_eq!(read, state(), "bit {bit} of byte {place}"),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > text.len() * 7, "{refused} of {} refused", text.len() * 8);
    }

    #[test]
    fn a_changed_value_is_an_error_with_both_hashes() {
        let sealed = seal(state()).unwrap();
        let text = serde_json::to_string(&sealed).unwrap().replace("crane", "drone");
        let error = unseal::<State>(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&sealed.sha256) && error.contains("changed or damaged"), "{error}");
    }
}
