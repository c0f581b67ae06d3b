//! The folder of one checkpoint.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use fovea_files::{
    FileError, PartialFolder, SealError, hexadecimal, read_regular, seal, sha256_of, unseal, write_atomically,
};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CheckpointError, FORMAT, Meta};
use crate::state::{Tensor, TensorRef, Tensors};

const TENSORS: &str = "state.safetensors";
const META: &str = "checkpoint.json";
/// Prefix of checkpoint folders.
pub(super) const PREFIX: &str = "step-";

/// Content of `checkpoint.json`.
#[derive(Serialize, Deserialize)]
struct MetaFile {
    format: u32,
    tensors_bytes: u64,
    tensors_sha256: String,
    #[serde(flatten)]
    meta: Meta,
}

/// Read first; the rest is only read if the format is known.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Writes a checkpoint to `folder`, which must not exist and appears only when complete.
///
/// # Errors
/// [`CheckpointError::Write`]; no files are left behind.
pub fn save(folder: &Path, meta: &Meta, tensors: &[(&str, TensorRef)]) -> Result<(), CheckpointError> {
    let refused = |error: FileError| CheckpointError::write(error.path)(error.source);
    let partial = PartialFolder::create(folder).map_err(refused)?;
    write_parts(partial.hidden_path(), meta, tensors)?;
    partial.finish().map_err(refused)
}

fn write_parts(hidden: &Path, meta: &Meta, tensors: &[(&str, TensorRef)]) -> Result<(), CheckpointError> {
    let path = hidden.join(TENSORS);
    let written = safetensors::serialize_to_file(tensors.iter().copied(), None, &path);
    written
        .map_err(|error| match error {
            SafeTensorError::IoError(reason) => reason,
            other => io::Error::new(io::ErrorKind::InvalidInput, other.to_string()),
        })
        .and_then(|()| File::open(&path)?.sync_all())
        .map_err(CheckpointError::write(&path))?;
    let file = MetaFile {
        format: FORMAT,
        tensors_bytes: fs::metadata(&path).map_err(CheckpointError::read(&path))?.len(),
        tensors_sha256: sha256_of(&path).map_err(CheckpointError::read(&path))?,
        meta: meta.clone(),
    };
    let (tensors, path) = (path, hidden.join(META));
    write_atomically(&path, |out| Ok(serde_json::to_writer_pretty(out, &seal(&file)?)?))
        .map_err(CheckpointError::write(&path))?;
    // The library makes its file readable by the owner only; give it the permissions of the other file.
    let permissions = fs::metadata(&path).map_err(CheckpointError::read(&path))?.permissions();
    fs::set_permissions(&tensors, permissions).map_err(CheckpointError::write(&tensors))
}

/// Whether a folder of this name is a checkpoint that is not complete.
pub(super) fn is_hidden(name: &str) -> bool {
    PartialFolder::final_name(name).is_some_and(|name| name.starts_with(PREFIX))
}

/// Reads the checkpoint in `folder` and verifies every byte of it.
///
/// # Errors
/// A variant of [`CheckpointError`] that names the file, for any kind of damage.
pub fn load(folder: &Path) -> Result<(Meta, Tensors), CheckpointError> {
    let file = load_meta(folder)?;
    let path = folder.join(TENSORS);
    let found_bytes = fs::metadata(&path).map_err(CheckpointError::read(&path))?.len();
    let expected_bytes = file.tensors_bytes;
    if found_bytes < expected_bytes {
        return Err(CheckpointError::Truncated { path, found_bytes, expected_bytes });
    }
    if found_bytes > expected_bytes {
        return Err(CheckpointError::Damaged { path });
    }
    let bytes = read_regular(&path).map_err(CheckpointError::read(&path))?;
    if hexadecimal(&Sha256::digest(&bytes)) != file.tensors_sha256 {
        return Err(CheckpointError::Damaged { path });
    }
    let foreign = |reason: String| CheckpointError::Foreign { path: path.clone(), reason };
    let parsed = SafeTensors::deserialize(&bytes).map_err(|error| foreign(error.to_string()))?;
    let mut by_name = BTreeMap::new();
    for (name, view) in parsed.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(foreign(format!("tensor `{name}` is of type {:?}, expected F32", view.dtype())));
        }
        let (words, _) = view.data().as_chunks();
        let values = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        by_name.insert(name.to_owned(), Tensor { shape: view.shape().to_vec(), values });
    }
    Ok((file.meta, Tensors::new(&path, by_name)))
}

/// Reads the checkpoint in `folder` without its tensors.
///
/// # Errors
/// As [`load`].
pub fn read_meta(folder: &Path) -> Result<Meta, CheckpointError> {
    Ok(load_meta(folder)?.meta)
}

fn load_meta(folder: &Path) -> Result<MetaFile, CheckpointError> {
    let path = folder.join(META);
    let text = read_regular(&path).map_err(CheckpointError::read(&path))?;
    let foreign = |reason: String| CheckpointError::Foreign { path: path.clone(), reason };
    let FormatOnly { format } = serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))?;
    if format != FORMAT {
        return Err(CheckpointError::Format { path, found: format, known: FORMAT });
    }
    let file: MetaFile = unseal(&text).map_err(|error| match error {
        SealError::Hash { .. } => CheckpointError::Damaged { path: path.clone() },
        SealError::Json(error) => foreign(error.to_string()),
    })?;
    file.meta.check_counts().map_err(foreign)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;
    use crate::checkpoint::tests::meta;

    const WEIGHTS: [f32; 6] = [0.1, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::INFINITY, -3.5];

    fn save_sample(folder: &Path, step: u64) -> Result<(), CheckpointError> {
        let tensors = [
            ("conv1.weight", TensorRef { shape: &[2, 3], values: &WEIGHTS }),
            ("conv1.bias", TensorRef { shape: &[2], values: &[1.0, 2.0] }),
        ];
        save(folder, &meta(step), &tensors)
    }

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        let (read, mut tensors) = load(&folder).unwrap();
        assert_eq!(read, meta(1));
        let weight = tensors.take("conv1.weight", &[2, 3]).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&weight.values), bits(&WEIGHTS));
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["conv1.bias"]);
    }

    #[test]
    fn a_checkpoint_never_takes_the_place_of_another() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        assert!(matches!(save_sample(&folder, 2).unwrap_err(), CheckpointError::Write { .. }));
        assert_eq!(load(&folder).unwrap().0.step, 1);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_cut_at_any_length_or_with_a_flipped_bit_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        for name in [TENSORS, META] {
            let path = folder.join(name);
            let whole = fs::read(&path).unwrap();
            for length in 0..whole.len() {
                fs::write(&path, &whole[..length]).unwrap();
                let error = load(&folder).expect_err(&format!("{name} cut to {length} bytes")).to_string();
                assert!(error.contains(path.to_str().unwrap()), "{error}");
            }
            fs::write(&path, &whole).unwrap();
        }
        let path = folder.join(TENSORS);
        let mut bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(load(&folder).unwrap_err(), CheckpointError::Truncated { .. }));
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(load(&folder).unwrap_err(), CheckpointError::Damaged { .. }));
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(&folder).unwrap_err(), CheckpointError::Read { .. }));
    }

    #[test]
    fn a_changed_file_is_refused_or_gives_the_same_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        let intact = |folder: &Path| {
            let (meta, mut tensors) = load(folder).ok()?;
            let values = tensors.take("conv1.weight", &[2, 3]).ok()?.values;
            Some((meta, values.iter().map(|value| value.to_bits()).collect::<Vec<_>>()))
        };
        let expected = intact(&folder);
        for name in [TENSORS, META] {
            let path = folder.join(name);
            let whole = fs::read(&path).unwrap();
            let mut refused = 0;
            for place in 0..whole.len() {
                for changed in [whole[place] ^ 1 << (place % 8), b'9', 0xff] {
                    let mut bytes = whole.clone();
                    bytes[place] = changed;
                    fs::write(&path, &bytes).unwrap();
                    match intact(&folder) {
                        None => refused += 1,
                        same => assert!(same == expected, "{name}: byte {place} is {changed}"),
                    }
                }
            }
            assert!(refused > 2 * whole.len(), "{name}: {refused} of {} refused", 3 * whole.len());
            fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn a_checkpoint_of_an_earlier_version_has_no_hash_and_its_numbers_are_checked() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        let path = folder.join(META);
        let mut file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        file.as_object_mut().unwrap().remove("sha256").unwrap();
        fs::write(&path, file.to_string()).unwrap();
        assert_eq!(load(&folder).unwrap().0, meta(1));
        for (pointer, value, expected) in [
            ("/schedule/divisions", u64::from(u32::MAX), "schedule.divisions is 4294967295 after 3 epochs"),
            ("/schedule/epochs", 4, "schedule.epochs is 4 after 3 epochs"),
            ("/schedule/epochs_without_gain", 4, "schedule.epochs_without_gain is 4"),
            ("/step", u64::MAX, "step is 18446744073709551615"),
            ("/batch", u64::MAX, "batch is"),
            ("/discarded", u64::MAX, "discarded is"),
            ("/sums/rows", u64::MAX, "sums.rows is"),
            ("/sums/top5", 449, "sums.top5 is 449 of 448 images"),
            ("/tensors_bytes", 1, "state.safetensors is damaged"),
        ] {
            let mut damaged = file.clone();
            *damaged.pointer_mut(pointer).unwrap() = value.into();
            fs::write(&path, damaged.to_string()).unwrap();
            let error = load(&folder).unwrap_err().to_string();
            assert!(error.contains(expected), "{pointer}: {error}");
            assert!(error.contains("delete its folder to use the checkpoint before it"), "{error}");
        }
        file["class_names"] = ["one"].into();
        fs::write(&path, file.to_string()).unwrap();
        let error = load(&folder).unwrap_err().to_string();
        assert!(error.contains("there are 1 class_names for 2 classes"), "{error}");
    }

    #[test]
    fn a_device_in_place_of_a_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        fs::remove_file(folder.join(META)).unwrap();
        symlink("/dev/null", folder.join(META)).unwrap();
        let error = load(&folder).unwrap_err().to_string();
        assert!(error.contains("it is a character device, expected a regular file"), "{error}");
    }

    #[test]
    fn a_checkpoint_of_another_format_is_an_error_with_both_formats() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        fs::write(folder.join(META), r#"{"format": 3, "something": "new"}"#).unwrap();
        let error = load(&folder).unwrap_err();
        assert!(matches!(error, CheckpointError::Format { found: 3, known: 2, .. }), "{error}");
    }

    /// Run as a child process by `a_full_disk_leaves_the_earlier_checkpoint_and_no_litter`, under a limit on
    /// the size of files.
    #[test]
    fn save_under_a_limit() {
        let Some(folder) = std::env::var_os("FOVEA_SAVE_UNDER_A_LIMIT") else { return };
        let values = vec![0.5; 1 << 20];
        let tensors = [("big", TensorRef { shape: &[1 << 20], values: &values })];
        let error = save(Path::new(&folder), &meta(2), &tensors).unwrap_err();
        assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
        assert!(error.to_string().contains(TENSORS), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_full_disk_leaves_the_earlier_checkpoint_and_no_litter() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("step-1");
        save_sample(&folder, 1).unwrap();
        let name = "checkpoint::folder::tests::save_under_a_limit";
        let output = Command::new("bash")
            .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "bash"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("FOVEA_SAVE_UNDER_A_LIMIT", &folder)
            .output()
            .unwrap();
        let output_text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output_text.contains("1 passed"), "{output_text}");
        assert_eq!(load(&folder).unwrap().0.step, 1);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
