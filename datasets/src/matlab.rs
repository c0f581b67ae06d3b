//! A reader of MATLAB's MAT files, level 5: enough of it for `meta.mat` of the ILSVRC development kits.
//!
//! The format is described in *MAT-File Format* (The MathWorks), chapter 1: a header of 128 bytes, then
//! elements of a tag and data, padded to 8 bytes; an element may be a matrix of further elements, or a zlib
//! stream that inflates to one element. The parser is total: it returns an error for any bytes that it does
//! not understand.

use std::cell::Cell;
use std::fmt;
use std::io::Read;

use flate2::read::ZlibDecoder;

const HEADER_BYTES: usize = 128;
/// Deeper nesting of cells and structs is refused.
const MAX_DEPTH: usize = 32;
/// All compressed elements together may not inflate beyond this; a `meta.mat` inflates to half a megabyte.
const MAX_INFLATED_BYTES: u64 = 8 << 20;
/// A `meta.mat` has 15,000 arrays, most of which take more memory than bytes of the file.
const MAX_ARRAYS: usize = 200_000;

/// An array of a MAT file. Elements are in column-major order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Array {
    /// Numbers of any type, their real part.
    Numeric(Vec<f64>),
    /// Characters.
    Text(String),
    /// One list of values for each element, in the order of `fields`.
    Struct {
        /// Names of the fields.
        fields: Vec<String>,
        /// Values of each element.
        elements: Vec<Vec<Self>>,
    },
    /// Arrays of any kind.
    Cell(Vec<Self>),
    /// An unsupported kind: sparse, object, function.
    Other,
}

/// For messages: the kind, and of numbers and texts the first few.
impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        match self {
            Self::Numeric(values) if values.len() <= SHOWN => write!(f, "{values:?}"),
            Self::Numeric(values) => write!(f, "{} numbers", values.len()),
            Self::Text(text) if text.chars().count() <= 40 => write!(f, "{text:?}"),
            Self::Text(text) => write!(f, "a text of {} characters", text.chars().count()),
            Self::Struct { .. } => f.write_str("a struct"),
            Self::Cell(_) => f.write_str("a cell array"),
            Self::Other => f.write_str("an array of another kind"),
        }
    }
}

/// What is wrong with a MAT file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MatlabError {
    /// In the file, or in what the compressed element inflates to.
    pub(crate) offset: usize,
    pub(crate) expected: String,
    pub(crate) found: String,
}

type Result<T> = std::result::Result<T, MatlabError>;

fn error<T>(offset: usize, expected: impl Into<String>, found: impl Into<String>) -> Result<T> {
    Err(MatlabError { offset, expected: expected.into(), found: found.into() })
}

/// The variables of a file with their names, in the order of the file.
pub(crate) fn parse(file: &[u8]) -> Result<Vec<(String, Array)>> {
    if file.len() < HEADER_BYTES {
        return error(0, "a MAT file's header of 128 bytes", format!("{} bytes", file.len()));
    }
    let big_endian = match &file[126..128] {
        b"IM" => false,
        b"MI" => true,
        other => return error(126, "the endian indicator \"IM\" or \"MI\"", format!("{other:?}")),
    };
    let context = Context { big_endian, arrays_left: Cell::new(MAX_ARRAYS) };
    let mut cursor = Cursor { bytes: &file[HEADER_BYTES..], at: 0, base: HEADER_BYTES, context: &context };
    let mut bytes_left = MAX_INFLATED_BYTES;
    let mut variables = Vec::new();
    while !cursor.is_empty() {
        let element = cursor.element()?;
        match element.kind {
            Kind::COMPRESSED => {
                let inflated = inflate(&element, bytes_left)?;
                bytes_left -= inflated.len() as u64;
                let mut inner = Cursor { bytes: &inflated, at: 0, base: 0, context: &context };
                let element = inner.element()?;
                variables.extend(variable(&element, &context)?);
            }
            _ => variables.extend(variable(&element, &context)?),
        }
    }
    Ok(variables)
}

fn variable(element: &Element, context: &Context) -> Result<Option<(String, Array)>> {
    if element.kind == Kind::MATRIX { matrix(element, context, 0).map(Some) } else { Ok(None) }
}

fn inflate(element: &Element, bytes_left: u64) -> Result<Vec<u8>> {
    let mut inflated = Vec::new();
    let result = ZlibDecoder::new(element.data).take(bytes_left + 1).read_to_end(&mut inflated);
    match result {
        Err(e) => error(element.offset, "a zlib stream", e.to_string()),
        Ok(_) if inflated.len() as u64 > bytes_left => {
            error(element.offset, format!("at most {MAX_INFLATED_BYTES} inflated bytes"), "more")
        }
        Ok(_) => Ok(inflated),
    }
}

/// The data types of elements that matter here.
struct Kind;

impl Kind {
    const INT8: u32 = 1;
    const UINT8: u32 = 2;
    const INT16: u32 = 3;
    const UINT16: u32 = 4;
    const INT32: u32 = 5;
    const UINT32: u32 = 6;
    const SINGLE: u32 = 7;
    const DOUBLE: u32 = 9;
    const INT64: u32 = 12;
    const UINT64: u32 = 13;
    const MATRIX: u32 = 14;
    const COMPRESSED: u32 = 15;
    const UTF8: u32 = 16;
    const UTF16: u32 = 17;
    const UTF32: u32 = 18;
}

/// The classes of arrays that matter here.
struct ArrayClass;

impl ArrayClass {
    const CELL: u32 = 1;
    const STRUCT: u32 = 2;
    const CHAR: u32 = 4;
    const DOUBLE: u32 = 6;
    const UINT64: u32 = 15;
}

/// What holds for the whole file.
struct Context {
    big_endian: bool,
    /// How many more arrays it may have.
    arrays_left: Cell<usize>,
}

struct Element<'a> {
    kind: u32,
    data: &'a [u8],
    /// Place of the data.
    offset: usize,
}

/// Reads elements one after the other.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Added to `at` in errors.
    base: usize,
    context: &'a Context,
}

impl<'a> Cursor<'a> {
    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn here(&self) -> usize {
        self.base + self.at
    }

    fn element(&mut self) -> Result<Element<'a>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((tag, after_tag)) = rest.split_first_chunk::<8>() else {
            return error(self.here(), "an element's tag of 8 bytes", format!("{} bytes", rest.len()));
        };
        let big_endian = self.context.big_endian;
        let first = u32_of([tag[0], tag[1], tag[2], tag[3]], big_endian);
        let second = u32_of([tag[4], tag[5], tag[6], tag[7]], big_endian);
        // Small element: at most 4 bytes of data, packed into the tag itself with a 16-bit size.
        let small_size = (first >> 16) as usize;
        if small_size > 0 {
            if small_size > 4 {
                return error(
                    self.here(),
                    "a small element of at most 4 bytes",
                    format!("{small_size} bytes"),
                );
            }
            let element =
                Element { kind: first & 0xffff, data: &rest[4..4 + small_size], offset: self.here() + 4 };
            self.at += 8;
            return Ok(element);
        }
        let size = second as usize;
        let Some(data) = after_tag.get(..size) else {
            return error(
                self.here(),
                format!("an element of {size} bytes"),
                format!("{} bytes", after_tag.len()),
            );
        };
        let element = Element { kind: first, data, offset: self.here() + 8 };
        // Compressed elements are not padded; the last element's padding may be cut off.
        let padded = if first == Kind::COMPRESSED { Some(size) } else { size.checked_next_multiple_of(8) };
        self.at = padded.and_then(|size| self.at.checked_add(8)?.checked_add(size)).unwrap_or(usize::MAX);
        Ok(element)
    }

    fn element_of(&mut self, kinds: &[u32], what: &str) -> Result<Element<'a>> {
        let at = self.here();
        let element = self.element()?;
        if kinds.contains(&element.kind) {
            Ok(element)
        } else {
            error(at, format!("{what} (element type {kinds:?})"), format!("element type {}", element.kind))
        }
    }
}

fn u32_of(bytes: [u8; 4], big_endian: bool) -> u32 {
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// The name and content of a matrix element.
fn matrix(element: &Element, context: &Context, depth: usize) -> Result<(String, Array)> {
    let Some(left) = context.arrays_left.get().checked_sub(1) else {
        return error(element.offset, format!("at most {MAX_ARRAYS} arrays"), "more");
    };
    context.arrays_left.set(left);
    if element.data.is_empty() {
        return Ok((String::new(), Array::Numeric(Vec::new())));
    }
    if depth > MAX_DEPTH {
        return error(element.offset, format!("at most {MAX_DEPTH} levels of nesting"), "more");
    }
    let big_endian = context.big_endian;
    let mut cursor = Cursor { bytes: element.data, at: 0, base: element.offset, context };
    let flags = cursor.element_of(&[Kind::UINT32], "array flags")?;
    let Some(flags) = flags.data.first_chunk::<4>() else {
        return error(flags.offset, "array flags of 8 bytes", format!("{} bytes", flags.data.len()));
    };
    let class = u32_of(*flags, big_endian) & 0xff;
    let dimensions = cursor.element_of(&[Kind::INT32], "dimensions")?;
    let count = element_count(&dimensions, big_endian)?;
    let name = cursor.element_of(&[Kind::INT8, Kind::UINT8, Kind::UTF8], "the array's name")?;
    let name = String::from_utf8_lossy(name.data).into_owned();
    let array = match class {
        ArrayClass::CELL => Array::Cell(matrices(&mut cursor, count, depth)?),
        ArrayClass::STRUCT => structure(&mut cursor, count, depth)?,
        ArrayClass::CHAR => Array::Text(text(&cursor.element()?, big_endian)?),
        ArrayClass::DOUBLE..=ArrayClass::UINT64 => Array::Numeric(numbers(&cursor.element()?, big_endian)?),
        _ => Array::Other,
    };
    Ok((name, array))
}

/// The product of the dimensions.
fn element_count(dimensions: &Element, big_endian: bool) -> Result<usize> {
    numbers(dimensions, big_endian)?
        .into_iter()
        .try_fold(1usize, |count, d| if d < 0.0 { None } else { count.checked_mul(d as usize) })
        .map_or_else(|| error(dimensions.offset, "dimensions that can be multiplied", "others"), Ok)
}

/// `count` matrices. A wrong count ends at the first one that is not there: memory is only allocated for
/// those that are.
fn matrices(cursor: &mut Cursor, count: usize, depth: usize) -> Result<Vec<Array>> {
    let mut arrays = Vec::new();
    for _ in 0..count {
        let element = cursor.element_of(&[Kind::MATRIX], "an array")?;
        arrays.push(matrix(&element, cursor.context, depth + 1)?.1);
    }
    Ok(arrays)
}

fn structure(cursor: &mut Cursor, count: usize, depth: usize) -> Result<Array> {
    let big_endian = cursor.context.big_endian;
    let length = cursor.element_of(&[Kind::INT32], "the length of field names")?;
    let length = match length.data.first_chunk::<4>() {
        Some(bytes) if u32_of(*bytes, big_endian) > 0 => u32_of(*bytes, big_endian) as usize,
        _ => return error(length.offset, "a positive length of field names", "none"),
    };
    let names = cursor.element_of(&[Kind::INT8, Kind::UINT8], "field names")?;
    let fields: Vec<String> = names
        .data
        .chunks(length)
        .map(|name| {
            let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
            String::from_utf8_lossy(&name[..end]).into_owned()
        })
        .collect();
    let mut elements = Vec::new();
    if !fields.is_empty() {
        for _ in 0..count {
            elements.push(matrices(cursor, fields.len(), depth)?);
        }
    }
    Ok(Array::Struct { fields, elements })
}

fn text(element: &Element, big_endian: bool) -> Result<String> {
    match element.kind {
        Kind::INT8 | Kind::UINT8 | Kind::UTF8 => Ok(String::from_utf8_lossy(element.data).into_owned()),
        Kind::UINT16 | Kind::UTF16 => {
            let (pairs, _) = element.data.as_chunks::<2>();
            let units =
                pairs.iter().map(|&b| if big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) });
            Ok(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        Kind::UINT32 | Kind::UTF32 => {
            let (quads, _) = element.data.as_chunks::<4>();
            let codes = quads.iter().map(|&b| u32_of(b, big_endian));
            Ok(codes.map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        other => error(element.offset, "characters", format!("element type {other}")),
    }
}

fn numbers(element: &Element, big_endian: bool) -> Result<Vec<f64>> {
    macro_rules! read {
        ($type:ty) => {{
            let (chunks, _) = element.data.as_chunks::<{ size_of::<$type>() }>();
            let number = |&b: &[u8; size_of::<$type>()]| {
                if big_endian { <$type>::from_be_bytes(b) } else { <$type>::from_le_bytes(b) }
            };
            Ok(chunks.iter().map(|b| number(b) as f64).collect())
        }};
    }
    match element.kind {
        Kind::INT8 => read!(i8),
        Kind::UINT8 => read!(u8),
        Kind::INT16 => read!(i16),
        Kind::UINT16 => read!(u16),
        Kind::INT32 => read!(i32),
        Kind::UINT32 => read!(u32),
        Kind::SINGLE => read!(f32),
        Kind::DOUBLE => read!(f64),
        Kind::INT64 => read!(i64),
        Kind::UINT64 => read!(u64),
        other => error(element.offset, "numbers", format!("element type {other}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;
    use crate::tests::{MatWriter, Synset};

    fn synsets() -> Vec<Synset> {
        vec![
            Synset::leaf(2, "n01440764", "tench, Tinca tinca"),
            Synset::leaf(1, "n02119789", "kit fox"),
            Synset { children: vec![1, 2], ..Synset::leaf(1001, "n00015388", "animal, créature") },
        ]
    }

    fn all_forms() -> Vec<MatWriter> {
        let mut forms = Vec::new();
        for bits in 0..8 {
            let (compressed, big_endian, compact) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            forms.push(MatWriter { year: 2012, compressed, big_endian, compact });
        }
        forms
    }

    #[test]
    fn struct_arrays_in_every_form() {
        for form in all_forms() {
            let variables = parse(&form.file(&synsets())).expect("the writer writes MAT files");
            let [(name, Array::Struct { fields, elements })] = variables.as_slice() else {
                panic!("{form:?}: {variables:?}");
            };
            assert_eq!(name, "synsets");
            assert_eq!(fields[..3], ["ILSVRC2012_ID", "WNID", "words"]);
            assert_eq!(elements.len(), 3);
            assert_eq!(elements[0][0], Array::Numeric(vec![2.0]), "{form:?}");
            assert_eq!(elements[0][1], Array::Text("n01440764".to_owned()), "{form:?}");
            assert_eq!(elements[2][2], Array::Text("animal, créature".to_owned()), "{form:?}");
            assert_eq!(elements[2][5], Array::Numeric(vec![1.0, 2.0]), "{form:?}");
        }
    }

    #[test]
    fn a_file_cut_off_is_an_error() {
        for form in all_forms() {
            let file = form.file(&synsets());
            // The padding of the last element may be missing.
            for length in (0..file.len() - 8).filter(|&length| length != HEADER_BYTES) {
                let error = parse(&file[..length]).expect_err("the file is incomplete");
                assert!(
                    !error.expected.is_empty() && !error.found.is_empty(),
                    "{form:?} {length}: {error:?}"
                );
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic_or_take_much_memory() {
        for form in all_forms() {
            let file = form.file(&synsets());
            for at in 0..file.len() {
                for change in [0x01, 0x02, 0x10, 0x80, 0xff] {
                    let mut bytes = file.clone();
                    bytes[at] ^= change;
                    // Whether it is an error depends on the place; both outcomes are right.
                    if let Ok(variables) = parse(&bytes) {
                        assert!(variables.len() <= 4, "{form:?}: byte {at} ^ {change}: {variables:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn deep_nesting_ends_with_an_error() {
        let mut element = Vec::new();
        for _ in 0..100 {
            let mut body: Vec<u8> = Vec::new();
            for word in [6, 8, 1, 0, 5, 8, 1, 1, 1, 0] {
                body.extend(u32::to_le_bytes(word));
            }
            body.extend(&element);
            element = [14u32.to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
            element.extend(body);
        }
        let mut file = MatWriter { compressed: false, ..MatWriter::USUAL }.file(&[])[..HEADER_BYTES].to_vec();
        file.extend(element);
        let error = parse(&file).expect_err("the nesting is too deep");
        assert_eq!(error.expected, "at most 32 levels of nesting");
    }

    /// A file with the compressed `element` that many times.
    fn compressed(element: &[u8], times: usize) -> Vec<u8> {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(element).expect("memory can be written");
        let zlib = zlib.finish().expect("memory can be written");
        let mut file = MatWriter::USUAL.file(&[])[..HEADER_BYTES].to_vec();
        for _ in 0..times {
            file.extend([15u32.to_le_bytes(), (zlib.len() as u32).to_le_bytes()].concat());
            file.extend(&zlib);
        }
        file
    }

    /// A cell array of `count` arrays without data.
    fn cells(count: u32) -> Vec<u8> {
        let mut body: Vec<u8> = Vec::new();
        for word in [6, 8, 1, 0, 5, 8, count, 1, 1, 0] {
            body.extend(u32::to_le_bytes(word));
        }
        body.extend([14, 0, 0, 0, 0, 0, 0, 0].repeat(count as usize));
        [&14u32.to_le_bytes(), &(body.len() as u32).to_le_bytes(), &body[..]].concat()
    }

    #[test]
    fn a_small_file_cannot_become_large() {
        let zeros = [&9u32.to_le_bytes()[..], &(7u32 << 20).to_le_bytes(), &vec![0; 7 << 20]].concat();
        assert!(parse(&compressed(&zeros, 1)).is_ok());
        let error = parse(&compressed(&zeros, 2)).expect_err("the sum counts");
        assert_eq!(error.expected, "at most 8388608 inflated bytes");
        assert!(parse(&compressed(&cells(100_000), 1)).is_ok());
        let error = parse(&compressed(&cells(100_000), 2)).expect_err("the sum counts");
        assert_eq!(error.expected, "at most 200000 arrays");
    }

    #[test]
    fn a_changed_checksum_of_a_compressed_element_is_an_error() {
        let mut file = compressed(&cells(3), 1);
        assert!(parse(&file).is_ok());
        *file.last_mut().expect("it has bytes") ^= 1;
        assert_eq!(parse(&file).expect_err("the checksum is wrong").expected, "a zlib stream");
    }
}
