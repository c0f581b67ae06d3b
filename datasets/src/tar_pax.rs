//! The records of pax headers: those that say where a member's data lies and what it is called.

use crate::tar_header::until_zero;

/// What a pax header says. A record that is missing leaves its field as it was, an empty one clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxRecords {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    /// The member has holes, and its data is in pieces.
    pub(crate) sparse: bool,
    /// What a member with holes is called.
    pub(crate) sparse_name: Option<Vec<u8>>,
    /// The member is in several volumes.
    pub(crate) volume: bool,
}

impl PaxRecords {
    /// Takes the records in `bytes`: `<length> <key>=<value>\n` each, where the value is any bytes.
    ///
    /// # Errors
    /// What was found in place of a record.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !until_zero(bytes).is_empty() {
            let (key, value, rest) = record(bytes).ok_or_else(|| {
                let shown = &bytes[..bytes.len().min(40)];
                format!("{:?}", String::from_utf8_lossy(shown))
            })?;
            self.take(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" if value.is_empty() => self.size = None,
            b"size" => {
                let digits =
                    std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                let wrong = || format!("size {:?}", String::from_utf8_lossy(value));
                self.size = Some(digits.and_then(|v| v.parse().ok()).ok_or_else(wrong)?);
            }
            b"GNU.sparse.name" => (self.sparse, self.sparse_name) = (true, bytes()),
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            b"GNU.volume.filename" | b"GNU.volume.size" | b"GNU.volume.offset" => self.volume = true,
            _ => {}
        }
        Ok(())
    }
}

/// Key and value of the first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let digits = std::str::from_utf8(&bytes[..space]).ok()?;
    let length: usize = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    let (record, rest) = bytes.split_at_checked(length)?;
    let content = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|&b| b == b'=')?;
    Some((&content[..equals], &content[equals + 1..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let content = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = content.len() + 1;
        while length != content.len() + length.to_string().len() {
            length += 1;
        }
        [length.to_string().as_bytes(), &content].concat()
    }

    #[test]
    fn values_of_any_bytes_are_taken_by_their_length() {
        let values: [&[u8]; 5] = [b"a\n30 path=b\n", b"\0\0", b"caf\xe9", b"x=y=z", b"12 path=abc\n"];
        for value in values {
            let bytes = [
                record("comment", value),
                record("SCHILY.xattr.user.x", value),
                record("path", value),
                record("size", b"7"),
                vec![0; 9],
            ]
            .concat();
            let mut records = PaxRecords::default();
            records.read(&bytes).expect("the records are sound");
            let expected = PaxRecords { path: Some(value.to_vec()), size: Some(7), ..PaxRecords::default() };
            assert_eq!(records, expected);
        }
    }

    #[test]
    fn the_last_record_counts_and_an_empty_one_clears() {
        let mut records = PaxRecords::default();
        let twice = [record("path", b"a"), record("path", b"b"), record("linkpath", b"c")].concat();
        records.read(&twice).expect("the records are sound");
        assert_eq!((records.path.as_deref(), records.link.as_deref()), (Some(&b"b"[..]), Some(&b"c"[..])));
        records.read(&[record("path", b""), record("size", b"")].concat()).expect("the records are sound");
        assert_eq!((records.path, records.size), (None, None));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let bad: [&[u8]; 9] = [
            b"x path=a\n",
            b"9 path=abc\n",
            b"99 path=a\n",
            b"3 a",
            b"99999999999999999999999 path=a\n",
            b"-9 path=a\n",
            b"0 a=b\n",
            b"10 path abc\n",
            b"12 size=0x10\n",
        ];
        for bytes in bad {
            let mut records = PaxRecords::default();
            assert!(records.read(bytes).is_err(), "{:?}: {records:?}", String::from_utf8_lossy(bytes));
        }
        assert!(PaxRecords::default().read(&record("size", b"-1")).is_err());
        assert!(PaxRecords::default().read(&record("size", b"99999999999999999999")).is_err());
    }
}
