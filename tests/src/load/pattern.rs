// SPDX-License-Identifier: Apache-2.0
//! Bytes that tell where they belong.

use std::io::{self, Read, Write};
use std::sync::LazyLock;

use super::wrong;

/// After how many bytes a pattern begins again: a prime, so that no power of
/// two that a kernel cuts at falls on the same bytes soon.
const PERIOD: usize = 65_537;

/// The most one call writes or compares.
const MOST: usize = 2 * PERIOD;

/// Noise, three times over: any piece of up to [`MOST`] bytes lies in one.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let once: Vec<u8> = std::iter::repeat_with(next).take(PERIOD).collect();
    once.iter().copied().cycle().take(MOST + PERIOD).collect()
});

/// The bytes of one direction of one connection. Two patterns whose seeds
/// differ are the same noise from different places on.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    place: usize,
    /// How many bytes of it have gone by.
    pub count: u64,
}

impl Pattern {
    /// From its beginning.
    pub fn new(seed: u32) -> Self {
        Self { place: seed as usize % PERIOD, count: 0 }
    }

    fn piece(&self, length: usize) -> &'static [u8] {
        &NOISE[self.place..self.place + length.min(MOST)]
    }

    fn advance(&mut self, count: usize) {
        self.place = (self.place + count) % PERIOD;
        self.count += count as u64;
    }

    /// Writes the next `length` bytes, at most `piece` with a call.
    pub fn write(&mut self, to: &mut impl Write, length: u64, piece: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let now = self.piece(usize::try_from(left).unwrap_or(MOST).min(piece));
            let written = to.write(now)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
            left -= written as u64;
        }
        Ok(())
    }

    /// Compares the next bytes with these.
    pub fn compare(&mut self, bytes: &[u8]) -> io::Result<()> {
        for bytes in bytes.chunks(MOST) {
            let expected = self.piece(bytes.len());
            if bytes != expected {
                let at = bytes.iter().zip(expected).take_while(|(a, b)| a == b).count();
                return Err(wrong(format!("byte {} is not the one that was sent", self.count + at as u64)));
            }
            self.advance(bytes.len());
        }
        Ok(())
    }

    /// Reads and compares `length` bytes. A wrong byte is `InvalidData`, an end
    /// before the last one `UnexpectedEof`.
    pub fn read(&mut self, from: &mut impl Read, length: u64) -> io::Result<()> {
        let end = self.count + length;
        self.read_until(from, |pattern| end - pattern.count)?;
        if self.count < end {
            let text = format!("the end comes {} bytes early, after {}", end - self.count, self.count);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(())
    }

    /// Reads and compares up to the end of the stream.
    pub fn read_to_end(&mut self, from: &mut impl Read) -> io::Result<()> {
        self.read_until(from, |_| u64::MAX)
    }

    fn read_until(&mut self, from: &mut impl Read, left: impl Fn(&Self) -> u64) -> io::Result<()> {
        let mut buffer = vec![0; MOST];
        loop {
            let most = usize::try_from(left(self)).unwrap_or(MOST).min(MOST);
            // Reading nothing would wait all the same.
            if most == 0 {
                return Ok(());
            }
            match from.read(&mut buffer[..most]) {
                Ok(0) => return Ok(()),
                Ok(count) => self.compare(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_missing_and_a_foreign_byte_are_seen() {
        let length = 300_000;
        let mut bytes = Vec::new();
        Pattern::new(7).write(&mut bytes, length, 1000).unwrap();
        assert_eq!(bytes.len(), 300_000);
        Pattern::new(7).read(&mut &bytes[..], length).unwrap();
        let mut to_the_end = Pattern::new(7);
        to_the_end.read_to_end(&mut &bytes[..]).unwrap();
        assert_eq!(to_the_end.count, length);
        let error = |bytes: &[u8], seed: u32| {
            Pattern::new(seed).read(&mut &bytes[..], length).unwrap_err().to_string()
        };
        assert!(error(&bytes, 8).starts_with("byte 0 "));
        assert!(error(&bytes[..299_999], 7).contains("1 bytes early"));
        let mut missing = bytes.clone();
        missing.remove(200_000);
        assert!(error(&missing, 7).starts_with("byte 20000"), "{}", error(&missing, 7));
        bytes[123_456] ^= 1;
        assert!(error(&bytes, 7).starts_with("byte 123456 "));
    }
}
