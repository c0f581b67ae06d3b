//! Ones behind the data of a scan.

/// More than decoders read ahead.
const PADDING: [u8; 64] = {
    let mut padding = [0; 64];
    let mut at = 0;
    while at < padding.len() {
        padding[at] = 0xff;
        at += 2;
    }
    padding
};

/// The data of a scan with ones in place of the marker behind them, where decoders would fill missing data
/// with zeros. No Huffman code consists of ones alone, so they notice data that are too short, even in a
/// truncated file to which an end-of-image marker was appended, unless the ones happen to complete the very
/// last code.
pub(super) fn padded(data: &[u8]) -> Vec<u8> {
    // Further bytes of this value may stand before a marker.
    let length = data.iter().rposition(|&byte| byte != 0xff).map_or(0, |last| last + 1);
    [&data[..length], &PADDING].concat()
}
