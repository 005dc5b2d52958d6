// SPDX-License-Identifier: Apache-2.0
//! Load for stream sockets: a server, and clients that know what has to come
//! back. The program `vsock-load` runs it inside a machine; the same code runs
//! here, as the host of one.
//!
//! A connection begins with a [`Request`]. Bytes are those of a [`Pattern`]
//! that is the connection's own, compared and not only summed up: a byte that
//! is lost, doubled, out of order or of another connection is seen where it is.

pub mod bench;
pub mod client;
pub mod forward;
pub mod pattern;
pub mod place;
pub mod serve;

pub use pattern::Pattern;
pub use place::Place;

use std::io::{self, Read, Write};

/// How a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Both sides send at the same time and say how much; nobody half-closes.
    Duplex,
    /// The client ends its side; the server answers after that end.
    HalfClose,
    /// The client closes in the middle, with answers unread.
    Abandon,
    /// As `Duplex`, without a look at the bytes: for measuring.
    Blind,
}

const MODES: [(u8, Mode); 4] =
    [(b'D', Mode::Duplex), (b'H', Mode::HalfClose), (b'A', Mode::Abandon), (b'B', Mode::Blind)];

/// What a client says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How the connection goes.
    pub mode: Mode,
    /// Which pattern the client sends; the server sends that of `!seed`.
    pub seed: u32,
    /// How many bytes the client sends.
    pub there: u64,
    /// How many bytes the server sends.
    pub back: u64,
}

impl Request {
    /// Its length.
    const LENGTH: usize = 21;

    /// Writes it.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mode = MODES.iter().find(|(_, mode)| *mode == self.mode).map_or(0, |(letter, _)| *letter);
        let mut bytes = vec![mode];
        bytes.extend(self.seed.to_le_bytes());
        bytes.extend(self.there.to_le_bytes());
        bytes.extend(self.back.to_le_bytes());
        to.write_all(&bytes)
    }

    /// Reads one.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; Self::LENGTH];
        from.read_exact(&mut bytes)?;
        let mode = MODES.iter().find(|(letter, _)| *letter == bytes[0]).map(|(_, mode)| *mode);
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Ok(Self {
            mode: mode.ok_or_else(|| wrong(format!("{:#x} is no mode", bytes[0])))?,
            seed: u32::from_le_bytes(std::array::from_fn(|i| bytes[1 + i])),
            there: number(5),
            back: number(13),
        })
    }
}

/// What the server says when it has had all: how many bytes came.
pub const VERDICT: usize = 8;

/// An error of what came, not of the sockets.
pub(crate) fn wrong(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let request = Request { mode: Mode::HalfClose, seed: 0xdead_beef, there: 1 << 40, back: 7 };
        let mut bytes = Vec::new();
        request.write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), Request::LENGTH);
        assert_eq!(Request::read(&mut &bytes[..]).unwrap(), request);
        assert!(Request::read(&mut &[b'?'; 21][..]).is_err());
    }
}
