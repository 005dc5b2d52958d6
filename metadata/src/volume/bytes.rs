// SPDX-License-Identifier: Apache-2.0
//! Numbers and names in the fields of on-disk structures. A field behind the
//! end of its structure reads as `None`.

/// A little-endian number of two bytes.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A little-endian number of four bytes.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A little-endian number of eight bytes.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Text of 16-bit characters, big-endian.
pub fn utf16_be(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_be_bytes(*pair.first_chunk()?)));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Text of single bytes, which are the first 256 characters of Unicode.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A label as it is compared and shown: without the padding.
pub fn label(text: &str) -> Option<String> {
    let label = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!label.is_empty()).then(|| label.to_owned())
}
