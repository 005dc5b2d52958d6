// SPDX-License-Identifier: Apache-2.0
//! A line of text in a fixed buffer, for programs and signal handlers that
//! must not use the heap.

use std::fmt;

/// Up to `N` bytes on one line: line breaks become blanks, and what does not
/// fit is cut off.
#[derive(Debug, Clone)]
pub struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Line<N> {
    /// An empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// A line with this text.
    pub fn of(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self::new();
        line.push(text);
        line
    }

    /// Adds text; a value whose own formatting fails ends the line there.
    pub fn push(&mut self, text: fmt::Arguments<'_>) {
        let _ = fmt::write(self, text);
    }

    /// Adds bytes as they are, line breaks included.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *slot = *byte;
            self.length += 1;
        }
    }

    /// Ends it with a line break, for which a full line gives up its last byte.
    pub fn end(&mut self) {
        self.length = self.length.min(N.saturating_sub(1));
        self.push_bytes(b"\n");
    }

    /// What is in the line.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.push_bytes(&[if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_is_cut_off_at_its_end() {
        let mut line = Line::<8>::of(format_args!("a\nb{}", 1));
        assert_eq!(line.as_bytes(), b"a b1");
        line.push(format_args!("{:>6}", "x"));
        assert_eq!(line.as_bytes(), b"a b1    ");
        line.push_bytes(b"\n");
        assert_eq!(line.as_bytes(), b"a b1    ");
        line.end();
        assert_eq!(line.as_bytes(), b"a b1   \n");
        let mut line = Line::<8>::of(format_args!("a"));
        line.end();
        assert_eq!(line.as_bytes(), b"a\n");
    }
}
