//! TensorBoard's event files: protocol-buffer messages in TFRecord framing.
//!
//! A record is the length of the message as a little-endian u64, a checksum of those eight bytes, the
//! message, and a checksum of it; a checksum is a CRC-32C, masked so that a CRC over data that holds CRCs
//! stays sound. Of the messages (`tensorboard/compat/proto/event.proto` and `summary.proto`) only the fields
//! that scalars need are written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::MetricsError;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    // Optional, because a plain field of value 0 would be left out and TensorBoard would see no value.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.START`: a reader drops data of earlier files from this event's step on.
const START: i32 = 1;

/// Distinguishes files that one process opens within a second.
static OPENED: AtomicU32 = AtomicU32::new(0);

/// Writes scalars to an event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Creates a new event file in `folder` for a run that has done `steps` updates. TensorBoard reads all
    /// files of a folder as one run and drops steps beyond `steps` from the earlier ones.
    ///
    /// # Errors
    /// [`MetricsError`] with the file.
    pub fn create(folder: &Path, steps: u64) -> Result<Self, MetricsError> {
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let name = format!("events.out.tfevents.{:010}.fovea.{}.{number}", now().floor(), process::id());
        let path = folder.join(name);
        let file =
            OpenOptions::new().create_new(true).append(true).open(&path).map_err(MetricsError::at(&path))?;
        let mut writer = Self { path, file };
        writer.write(0, What::FileVersion("brain.Event:2".to_owned()))?;
        writer.write(steps + 1, What::SessionLog(SessionLog { status: START }))?;
        Ok(writer)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the values of one step, each under its tag.
    ///
    /// # Errors
    /// [`MetricsError`] with the file.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), MetricsError> {
        let scalar =
            |(tag, value): &(&str, f64)| Scalar { tag: (*tag).to_owned(), simple_value: Some(*value as f32) };
        self.write(step, What::Summary(Summary { value: values.iter().map(scalar).collect() }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<(), MetricsError> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let event = Event { wall_time: now(), step, what: Some(what) };
        self.file.write_all(&framed(&event.encode_to_vec())).map_err(MetricsError::at(&self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(message);
    record.extend(masked(crc32c(message)).to_le_bytes());
    record
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

/// The remainders of all bytes.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = if remainder & 1 == 1 { (remainder >> 1) ^ 0x82f6_3b78 } else { remainder >> 1 };
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The messages of an event file, with every checksum verified.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (length, tail) = rest.split_at(8);
            let message = &tail[4..][..u64::from_le_bytes(length.try_into().unwrap()) as usize];
            assert_eq!(rest[..message.len() + 16], framed(message));
            events.push(Event::decode(message).unwrap());
            rest = &rest[message.len() + 16..];
        }
        events
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!((masked(0), masked(1)), (0xa282_ead8, 0xa284_ead8));
    }

    #[test]
    fn a_file_begins_with_its_version_and_holds_the_scalars() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 0).unwrap();
        writer.scalars(7, &[("loss", 0.0), ("rate", 0.01)]).unwrap();
        let events = read(writer.path());
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".to_owned())));
        // The reader must drop anything that an earlier attempt left in the folder.
        assert_eq!(
            (events[1].step, &events[1].what),
            (1, &Some(What::SessionLog(SessionLog { status: START })))
        );
        assert_eq!(events[2].step, 7);
        let Some(What::Summary(summary)) = &events[2].what else { panic!("{events:?}") };
        let values: Vec<_> = summary.value.iter().map(|v| (v.tag.as_str(), v.simple_value)).collect();
        assert_eq!(values, [("loss", Some(0.0)), ("rate", Some(0.01))]);
    }

    #[test]
    fn a_resumed_run_makes_readers_drop_repeated_steps() {
        let folder = tempfile::tempdir().unwrap();
        let writer = EventWriter::create(folder.path(), 5).unwrap();
        let events = read(writer.path());
        assert_eq!(
            (events[1].step, &events[1].what),
            (6, &Some(What::SessionLog(SessionLog { status: START })))
        );
    }
}
