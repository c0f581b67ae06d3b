//! A prepared data set: a directory of shards with its `dataset.json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use fovea_files::{read_regular, unseal};
use ndarray::Array3;
use ndarray_npy::ReadNpyExt;
use ndarray_npy::npy::header::Header;
use serde::Deserialize;

use crate::dataset_error::DatasetError;
use crate::records::Records;
use crate::shard::{FORMAT_VERSION, MAX_IMAGE_SIZE, Shard};
use crate::shard_check;
use crate::shard_files::{Folder, ShardFiles};
use crate::{DatasetInfo, Split};

/// A prepared data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    directory: PathBuf,
    info: Arc<DatasetInfo>,
    files: Arc<dyn ShardFiles>,
}

impl Dataset {
    /// Opens the data set that was prepared into `directory`, reading its `dataset.json`.
    ///
    /// # Errors
    /// [`DatasetError`] when there is no `dataset.json`, or it is damaged or of another version.
    pub fn open(directory: &Path) -> Result<Self, DatasetError> {
        Self::open_with_files(directory, Arc::new(Folder(directory.into())))
    }

    /// Opens the data set whose `dataset.json`, and what else lies beside its shards, is in `directory`, and
    /// whose shards come from `files`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_files(directory: &Path, files: Arc<dyn ShardFiles>) -> Result<Self, DatasetError> {
        let path = directory.join(DatasetInfo::FILE_NAME);
        let text = read_regular(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                DatasetError::NotPrepared { directory: directory.into() }
            }
            _ => DatasetError::Io { path: path.clone(), source },
        })?;
        let unreadable = |reason| DatasetError::Unreadable { path: path.clone(), reason };
        let VersionOnly { format_version } =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        let version = format_version.as_u64();
        let known = 1..=u64::from(FORMAT_VERSION);
        if !version.is_some_and(|version| known.contains(&version)) {
            let found = version.map_or("none".into(), |version| version.to_string());
            return Err(unreadable(format!("format version {found}, expected 1 to {FORMAT_VERSION}")));
        }
        let info: DatasetInfo = unseal(&text).map_err(|error| unreadable(error.to_string()))?;
        check(&info).map_err(unreadable)?;
        Ok(Self { directory: directory.into(), info: Arc::new(info), files })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it holds.
    #[must_use]
    pub fn info(&self) -> &DatasetInfo {
        &self.info
    }

    /// Reads the mean training image, `f32 [3,S,S]`, 0..=255.
    ///
    /// # Errors
    /// [`DatasetError`] when the file is missing or of another size; [`DatasetError::NoMeanImage`] when
    /// images have differing sizes.
    pub fn mean_image(&self) -> Result<Array3<f32>, DatasetError> {
        if !self.info.image_shape.is_square() {
            return Err(DatasetError::NoMeanImage { directory: self.directory.clone() });
        }
        let path = self.directory.join(DatasetInfo::MEAN_IMAGE_FILE_NAME);
        let io_error = |source| DatasetError::Io { path: path.clone(), source };
        let unreadable = |reason| DatasetError::Unreadable { path: path.clone(), reason };
        let size = self.info.image_size as usize;
        let values = 3 * size * size;
        let bytes = fs::metadata(&path).map_err(io_error)?.len();
        let expected = 4 * values as u64 + MOST_HEADER_BYTES;
        if bytes > expected {
            let shape = format!("f32 [3,{size},{size}]");
            return Err(unreadable(format!("{bytes} bytes, expected at most {expected} for {shape}")));
        }
        let file = read_regular(&path).map_err(io_error)?;
        if let Some(expected) = &self.info.mean_image_blake3 {
            let found = blake3::hash(&file).to_string();
            if found != *expected {
                return Err(unreadable(format!("BLAKE3 digest {found}, but dataset.json says {expected}")));
            }
        }
        parse_mean_image(&file, size).map_err(unreadable)
    }

    /// The records of a split. Shards are mapped when one of their records is first used.
    ///
    /// # Errors
    /// [`DatasetError::Empty`] when it has no images; [`DatasetError::Disagreement`] or [`DatasetError::Io`]
    /// when a shard in a folder has another size or is missing.
    pub fn records(&self, split: Split) -> Result<Records, DatasetError> {
        if self.info.images(split) == 0 {
            return Err(DatasetError::Empty { directory: self.directory.clone(), split });
        }
        self.files.check(self.info.shards(split))?;
        Ok(Records::new(Arc::clone(&self.info), Arc::clone(&self.files), split))
    }

    /// Where the files of the shards come from.
    #[must_use]
    pub fn files(&self) -> &dyn ShardFiles {
        &*self.files
    }

    /// Every mismatch between `shard` and the entry of shard `number` of `split` in `dataset.json`, each as a
    /// [`DatasetError::Disagreement`].
    ///
    /// # Panics
    /// When the split has no shard `number`.
    #[must_use]
    pub fn disagreements(&self, shard: &Shard, split: Split, number: usize) -> Vec<DatasetError> {
        shard_check::disagreements(&self.info, shard, split, number)
    }
}

/// Read before the version is known.
#[derive(Deserialize)]
struct VersionOnly {
    #[serde(default)]
    format_version: serde_json::Value,
}

/// More images, or bytes, than any data set has, and so few that sums do not overflow.
const MOST: u64 = 1 << 60;

/// Checks that the numbers are such as a preparation writes.
fn check(info: &DatasetInfo) -> Result<(), String> {
    if !(1..=MAX_IMAGE_SIZE).contains(&info.image_size) {
        return Err(format!("image_size {}, expected 1 to {MAX_IMAGE_SIZE} pixels", info.image_size));
    }
    if info.format_version != info.image_shape.format_version(info.labels) {
        let DatasetInfo { labels, image_shape, format_version, .. } = info;
        return Err(format!(
            "images of the shape {image_shape} with labels of the kind {labels} in format version {format_version}"
        ));
    }
    let shards = info.train.iter().chain(&info.val);
    for (name, number) in [
        ("images", shards.clone().map(|shard| shard.images).fold(0, u64::saturating_add)),
        ("bytes", shards.clone().map(|shard| shard.bytes).fold(0, u64::saturating_add)),
    ] {
        if number > MOST {
            return Err(format!("shards of {number} {name} in all, expected at most {MOST}"));
        }
    }
    if let Some(shard) = shards.clone().find(|shard| shard.images > shard.bytes) {
        return Err(format!("{}: {} images in {} bytes", shard.file, shard.images, shard.bytes));
    }
    match shards.map(|shard| &shard.file).find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        Some(name) => Err(format!("a shard named `{name}`, expected the name of a file in this folder")),
        None => Ok(()),
    }
}

/// More than the header of an array of three axes has, in any version of the format.
const MOST_HEADER_BYTES: u64 = 1024;

/// Reads a mean image of `size`×`size` pixels from the bytes of its file.
fn parse_mean_image(file: &[u8], size: usize) -> Result<Array3<f32>, String> {
    // The reader allocates what a header asks for, so the header is looked at before.
    let header_bytes = match file {
        [_, _, _, _, _, _, 1, _, a, b, ..] => u16::from_le_bytes([*a, *b]).into(),
        [_, _, _, _, _, _, _, _, a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]).into(),
        _ => u64::MAX,
    };
    if header_bytes > MOST_HEADER_BYTES {
        return Err("no header of an .npy file".into());
    }
    let header = Header::from_reader(&mut &*file).map_err(|error| error.to_string())?;
    if header.shape != [3, size, size] {
        return Err(format!("shape {:?}, expected [3, {size}, {size}]", header.shape));
    }
    Array3::read_npy(file).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use ndarray_npy::WriteNpyExt;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::{Encoding, test_support};

    /// A data set of 8 images whose `dataset.json` has been changed.
    fn changed(change: impl FnOnce(&mut Value)) -> TempDir {
        let directory = test_support::dataset(Encoding::Raw, 8);
        let path = directory.path().join(DatasetInfo::FILE_NAME);
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut json);
        // As in a file of an earlier version; otherwise each change would be noticed by it.
        json.as_object_mut().unwrap().remove("sha256");
        fs::write(path, json.to_string()).unwrap();
        directory
    }

    fn error_of(directory: &TempDir) -> String {
        error_of_split(directory, Split::Train)
    }

    /// The error of reading all records, if not an earlier one.
    fn error_of_split(directory: &TempDir, split: Split) -> String {
        let read = Dataset::open(directory.path()).and_then(|dataset| {
            let records = dataset.records(split)?;
            (0..records.len()).try_for_each(|index| records.record(index).map(|_| ()))
        });
        read.unwrap_err().to_string()
    }

    #[test]
    fn a_folder_that_is_not_prepared_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let error = error_of(&directory);
        assert!(error.contains("no dataset.json") && error.contains("prepare_imagenet"), "{error}");
    }

    #[test]
    fn another_version_is_refused_with_both() {
        for (version, found) in [(json!(4), "4"), (json!(0), "0"), (json!("1"), "none")] {
            let error = error_of(&changed(|json| json["format_version"] = version));
            assert!(error.contains(&format!("format version {found}, expected 1 to 3")), "{error}");
        }
    }

    #[test]
    fn shards_that_disagree_with_the_data_set_are_refused_by_name_and_value() {
        for (key, value, expected) in [
            ("image_size", json!(21), "image size 20, but dataset.json says 21"),
            ("encoding", json!("jpeg"), "encoding raw, but dataset.json says jpeg"),
            ("classes", json!([]), "number of classes 10, but dataset.json says 0"),
        ] {
            let error = error_of(&changed(|json| json[key] = value));
            assert!(error.contains("train-00000.arrow") && error.contains(expected), "{key}: {error}");
        }
        let error = error_of(&changed(|json| json["train"][1]["images"] = json!(3)));
        assert!(error.contains("train-00001.arrow: number of images 2, but dataset.json says 3"), "{error}");
        let directory = changed(|json| json["val"] = json["train"].clone());
        let error = error_of_split(&directory, Split::Val);
        assert!(error.contains("train-00000.arrow: split train, but dataset.json says val"), "{error}");
        let error = error_of(&changed(|json| json["classes"][4]["name"] = json!("other")));
        assert!(error.contains("class Class") && error.contains("name: \"other\""), "{error}");
        let error = error_of(&changed(|json| json["train"].as_array_mut().unwrap().swap(1, 2)));
        assert!(
            error.contains("train-00002.arrow: position in its split 2, but dataset.json says 1"),
            "{error}"
        );
        let error = error_of(&changed(|json| json["source"] = json!("folders")));
        assert!(error.contains("source test, but dataset.json says folders"), "{error}");
    }

    #[test]
    fn a_split_without_images_is_refused() {
        let error = error_of(&changed(|json| json["train"] = json!([])));
        assert!(error.contains("no train images"), "{error}");
    }

    #[test]
    fn the_mean_image_must_have_the_size_of_the_images() {
        let directory = changed(|json| json["mean_image_blake3"] = Value::Null);
        let path = directory.path().join(DatasetInfo::MEAN_IMAGE_FILE_NAME);
        let dataset = Dataset::open(directory.path()).unwrap();
        let write = |shape| Array3::<f32>::ones(shape).write_npy(fs::File::create(&path).unwrap()).unwrap();
        write((3, 20, 20));
        assert_eq!(dataset.mean_image().unwrap().sum(), 1200.0);
        write((3, 20, 19));
        let error = dataset.mean_image().unwrap_err().to_string();
        assert!(error.contains("shape [3, 20, 19], expected [3, 20, 20]"), "{error}");
    }

    #[test]
    fn a_mean_image_that_asks_for_more_memory_than_its_file_has_bytes_is_refused() {
        let directory = changed(|json| json["mean_image_blake3"] = Value::Null);
        let dataset = Dataset::open(directory.path()).unwrap();
        let path = directory.path().join(DatasetInfo::MEAN_IMAGE_FILE_NAME);
        let header = |shape: &str| {
            let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
            [b"\x93NUMPY\x01\x00\x76\x00", format!("{text:117}\n").as_bytes()].concat()
        };
        for shape in ["(3, 9999999999, 9999999999)", "(3, 20000000, 20000000)", "(3, 20, 20)", "()"] {
            fs::write(&path, header(shape)).unwrap();
            dataset.mean_image().expect_err(shape);
        }
        fs::write(&path, b"\x93NUMPY\x02\x00\xff\xff\xff\xff".repeat(10)).unwrap();
        let error = dataset.mean_image().unwrap_err().to_string();
        assert!(error.contains("mean_image.npy: no header of an .npy file"), "{error}");
        fs::write(&path, vec![0; 10_000]).unwrap();
        let error = dataset.mean_image().unwrap_err().to_string();
        assert!(error.contains("10000 bytes, expected at most 5824"), "{error}");
    }

    #[test]
    fn numbers_and_names_that_no_preparation_writes_are_refused() {
        let most = json!(u64::MAX);
        for (pointer, value, expected) in [
            ("/image_size", json!(0), "image_size 0, expected 1 to 16384"),
            ("/image_size", json!(4_000_000_000_u32), "image_size 4000000000"),
            ("/train/0/images", most.clone(), "shards of 18446744073709551615 images in all"),
            ("/train/2/bytes", most, "shards of 18446744073709551615 bytes in all"),
            ("/train/1/file", json!("../train-00001.arrow"), "a shard named `../train-00001.arrow`"),
            ("/train/1/file", json!(""), "a shard named ``"),
        ] {
            let error = error_of(&changed(|json| *json.pointer_mut(pointer).unwrap() = value));
            assert!(error.contains("dataset.json") && error.contains(expected), "{pointer}: {error}");
        }
    }

    #[test]
    fn devices_and_files_in_place_of_a_data_set_are_refused() {
        let directory = test_support::dataset(Encoding::Raw, 8);
        for name in [DatasetInfo::MEAN_IMAGE_FILE_NAME, DatasetInfo::FILE_NAME] {
            let path = directory.path().join(name);
            fs::remove_file(&path).unwrap();
            symlink("/dev/null", &path).unwrap();
            let read = Dataset::open(directory.path()).and_then(|dataset| dataset.mean_image());
            let error = read.unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("it is a character device"), "{error}");
        }
        let error = Dataset::open(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(error, DatasetError::NotPrepared { .. }), "{error}");
    }

    #[test]
    fn a_changed_dataset_json_is_refused_and_one_without_a_hash_is_read() {
        let directory = test_support::dataset(Encoding::Raw, 8);
        let path = directory.path().join(DatasetInfo::FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"class 4\"", "\"class 5\"")).unwrap();
        let error = Dataset::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("dataset.json: its content has sha256"), "{error}");
        error_of(&changed(|json| json["train"] = json!([])));
        Dataset::open(changed(|_| ()).path()).unwrap().records(Split::Train).unwrap();
    }

    /// The data set without what earlier versions did not write.
    fn of_an_earlier_version() -> TempDir {
        changed(|json| {
            for shard in json["train"].as_array_mut().unwrap() {
                shard.as_object_mut().unwrap().remove("records_blake3");
            }
            json.as_object_mut().unwrap().remove("mean_image_blake3");
        })
    }

    #[test]
    fn a_changed_label_is_refused_when_the_shard_is_opened() {
        let directory = test_support::dataset(Encoding::Raw, 8);
        let path = directory.path().join("train-00000.arrow");
        let mut bytes = fs::read(&path).unwrap();
        // The labels of images 0 to 3, 64 bits each.
        let labels: Vec<u8> = (0..4_i64).flat_map(i64::to_le_bytes).collect();
        let place = bytes.windows(labels.len()).position(|window| window == labels).unwrap();
        bytes[place + 8] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let error = error_of(&directory);
        assert!(error.contains("train-00000.arrow: digest of labels, keys and checksums"), "{error}");
        let old = of_an_earlier_version();
        fs::write(old.path().join("train-00000.arrow"), &bytes).unwrap();
        let records = Dataset::open(old.path()).unwrap().records(Split::Train).unwrap();
        assert_eq!(records.record(1).unwrap().label(), 5);
    }

    #[test]
    fn a_shard_of_another_preparation_is_refused() {
        let directory = test_support::dataset(Encoding::Raw, 8);
        // As many images of the same size and classes, in another order.
        test_support::write_shard(directory.path(), Encoding::Raw, 1, 2..4);
        let error = error_of(&directory);
        assert!(error.contains("train-00001.arrow: digest of labels, keys and checksums"), "{error}");
        assert!(error.contains("or of another preparation"), "{error}");
    }
}
