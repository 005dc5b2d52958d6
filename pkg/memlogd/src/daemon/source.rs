// SPDX-License-Identifier: Apache-2.0
//! A log that is read: bytes become lines.

use std::fs::File;
use std::io::{self, Read as _};
use std::rc::Rc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::entry::{Entry, now};
use crate::ring::Ring;

/// What is read at once. Less than the lines that are kept by default, even if
/// each byte were one: those who follow are told in between.
const TURN: usize = 4096;

/// A log.
pub(super) struct Source {
    file: File,
    name: Rc<str>,
    longest: usize,
    /// A line without an end so far.
    partial: Vec<u8>,
}

impl Source {
    /// A log that `file` is read from.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub(super) fn new(file: File, name: &str, longest: usize) -> io::Result<Self> {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { file, name: name.into(), longest, partial: Vec::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads once. `false`: it has ended.
    ///
    /// # Errors
    /// Those of read(2); WouldBlock: nothing is there.
    pub(super) fn read(&mut self, ring: &mut Ring) -> io::Result<bool> {
        let mut buffer = [0; TURN];
        let count = self.file.read(&mut buffer)?;
        let time = now();
        let mut push = |msg: &[u8]| ring.push(Entry { time, source: self.name.clone(), msg: msg.into() });
        let mut rest = buffer.get(..count).unwrap_or_default();
        if count == 0 && !self.partial.is_empty() {
            push(&self.partial);
        }
        while !rest.is_empty() {
            let room = self.longest - self.partial.len();
            let end = rest.iter().take(room + 1).position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(room.min(rest.len()));
            let (piece, behind) = rest.split_at(taken);
            self.partial.extend_from_slice(piece);
            rest = behind.get(usize::from(end.is_some())..).unwrap_or_default();
            // A longer line goes on as another, once there is more of it.
            if end.is_some() || (self.partial.len() == self.longest && !rest.is_empty()) {
                push(&self.partial);
                self.partial.clear();
            }
        }
        Ok(count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The lines of pieces that are read one by one.
    fn lines(longest: usize, pieces: &[&str]) -> Vec<String> {
        let (reader, writer) = io::pipe().unwrap();
        let mut writer = Some(writer);
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let mut source = Source::new(file, "x", longest).unwrap();
        let mut ring = Ring::new(100);
        for piece in pieces {
            writer.as_mut().unwrap().write_all(piece.as_bytes()).unwrap();
            assert!(source.read(&mut ring).unwrap());
        }
        assert_eq!(source.read(&mut ring).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        writer = None;
        assert!(!source.read(&mut ring).unwrap());
        let text = |number| Some(String::from_utf8_lossy(&ring.get(number)?.msg).into_owned());
        drop(writer);
        (0..100).map_while(text).collect()
    }

    #[test]
    fn lines_come_in_pieces() {
        assert_eq!(lines(9, &["a\nb", "c\n\nd"]), ["a", "bc", "", "d"]);
    }

    #[test]
    fn a_longer_line_goes_on_as_another() {
        assert_eq!(lines(3, &["abcdefgh\n"]), ["abc", "def", "gh"]);
        assert_eq!(lines(3, &["abc\ndef", "\n", "ghi", "j\n"]), ["abc", "def", "ghi", "j"]);
    }
}
