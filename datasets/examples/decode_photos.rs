//! Decodes the files whose paths come on standard input, one a line. For each it writes `ok WIDTH HEIGHT`,
//! followed by 3·W·H bytes of RGB, or `error REASON`. `datasets/benches/compare_decoders.py` reads it.

use std::fs;
use std::io::{self, BufRead, BufWriter, Write};

use fovea_datasets::photo::{Orientation, Photo, PhotoFile};

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut photo = Photo::default();
    for path in io::stdin().lock().lines() {
        let bytes = fs::read(path?)?;
        match PhotoFile::parse(&bytes).and_then(|file| file.decode(Orientation::Ignore, &mut photo)) {
            Ok(()) => {
                writeln!(out, "ok {} {}", photo.width, photo.height)?;
                out.write_all(&photo.rgb)?;
            }
            Err(error) => writeln!(out, "error {error}")?,
        }
    }
    out.flush()
}
