//! The content of a gzip file: all its members, each with its checksum looked at, and nothing behind them.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Inflates a gzip file to its last byte.
///
/// Zeros behind the last member are padding, as tapes and some servers leave it; anything else there is an
/// error, and so is a checksum that does not fit.
pub(crate) struct Gunzip<R> {
    /// Of the current member; `None` at the end.
    decoder: Option<GzDecoder<Counted<R>>>,
}

impl<R: BufRead> Gunzip<R> {
    /// Reads `input` from its beginning.
    pub(crate) fn new(input: R) -> Self {
        Self { decoder: Some(GzDecoder::new(Counted { input, consumed: 0 })) }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let input = self.decoder.take().expect("it is there").into_inner();
            self.decoder = next_member(input)?;
        }
        Ok(0)
    }
}

/// A decoder for what follows a member; `None` if that is nothing or padding.
fn next_member<R: BufRead>(mut input: Counted<R>) -> io::Result<Option<GzDecoder<Counted<R>>>> {
    let mut padding = false;
    loop {
        let bytes = input.fill_buf()?;
        let (len, zeros) = (bytes.len(), bytes.iter().take_while(|&&b| b == 0).count());
        match bytes.get(zeros) {
            None if len == 0 => return Ok(None),
            None => {
                padding = true;
                input.consume(len);
            }
            Some(0x1f) if zeros == 0 && !padding => return Ok(Some(GzDecoder::new(input))),
            Some(_) => {
                let at = input.consumed + zeros as u64;
                let what = format!("data behind the end of the gzip data, at byte {at} of the gzip file");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
    }
}

/// Counts the bytes that are consumed.
struct Counted<R> {
    input: R,
    consumed: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.consumed += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.consumed += amount as u64;
        self.input.consume(amount);
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::tests::gzip;

    /// Inflates with a buffer of `capacity`, so that every place is at the edge of one for some capacity.
    fn inflate(bytes: &[u8], capacity: usize) -> io::Result<Vec<u8>> {
        let mut inflated = Vec::new();
        Gunzip::new(BufReader::with_capacity(capacity, bytes)).read_to_end(&mut inflated)?;
        Ok(inflated)
    }

    #[test]
    fn members_and_padding_are_read_and_other_data_behind_them_is_not() {
        let (a, b) = (gzip(b"first "), gzip(b"second"));
        for capacity in [1, 2, 7, 30, 1 << 16] {
            for padding in [0, 1, 511, 10_240] {
                let bytes = [&a[..], &b, &vec![0; padding]].concat();
                assert_eq!(inflate(&bytes, capacity).expect("it is sound"), b"first second");
            }
            for garbage in [&b"x"[..], b"\0\0x", b"\0\x1f\x8b", b"\x1f", b"\x1fx", b"text behind it"] {
                let error = inflate(&[&a[..], garbage].concat(), capacity).expect_err("there is more");
                let padding_end = garbage.iter().position(|&b| b != 0).expect("it has other bytes");
                if garbage[padding_end] != 0x1f || padding_end > 0 {
                    let place = format!("at byte {} of the gzip file", a.len() + padding_end);
                    assert!(error.to_string().contains(&place), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_data_or_checksum_is_an_error_or_changes_nothing() {
        let content: Vec<u8> = (0..300u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        let whole = gzip(&content);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            // Not every bit means something, as those of the time in the header.
            match inflate(&bytes, 512) {
                Ok(inflated) => assert!(inflated == content, "byte {at}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        for length in 1..whole.len() {
            assert!(inflate(&whole[..length], 512).is_err(), "{length} bytes");
        }
    }
}
