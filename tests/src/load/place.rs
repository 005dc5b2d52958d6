// SPDX-License-Identifier: Apache-2.0
//! Where a server listens and a client connects.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, bail};
use socket2::{Domain, SockAddr, Socket, Type};

use super::wrong;

/// Longer than anything takes: nothing hangs for ever.
const LONG: Duration = Duration::from_secs(60);

/// A stream socket's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `vsock:CID:PORT`. Only the loopback's CID, 1, and the host's, 2, are
    /// meant to be connected to; a listener has any.
    Vsock(u32, u32),
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `bridge:PORT:PATH`: a port of a guest, behind the unix socket of the
    /// machine's vsock device. One says `CONNECT PORT` and is told `OK`.
    Bridge(u32, PathBuf),
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, rest) = text.split_once(':').context("a place is KIND:…")?;
        let two = || rest.split_once(':').context("two parts are needed");
        Ok(match kind {
            "vsock" => Self::Vsock(two()?.0.parse()?, two()?.1.parse()?),
            "unix" => Self::Unix(rest.into()),
            "bridge" => Self::Bridge(two()?.0.parse()?, two()?.1.into()),
            _ => bail!("{kind} is none of vsock, unix, bridge"),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(cid, port) => write!(f, "vsock:{cid}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Bridge(port, path) => write!(f, "bridge:{port}:{}", path.display()),
        }
    }
}

impl Place {
    fn open(&self, listen: bool) -> io::Result<(Socket, SockAddr)> {
        let (domain, address) = match self {
            Self::Vsock(cid, port) => {
                let cid = if listen { u32::MAX } else { *cid };
                (Domain::VSOCK, SockAddr::vsock(cid, *port))
            }
            Self::Unix(path) | Self::Bridge(_, path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        Ok((socket, address))
    }

    /// Connects.
    pub fn connect(&self) -> io::Result<Socket> {
        let (socket, address) = self.open(false)?;
        socket.connect(&address)?;
        socket.set_read_timeout(Some(LONG))?;
        socket.set_write_timeout(Some(LONG))?;
        if let Self::Bridge(port, _) = self {
            (&socket).write_all(format!("CONNECT {port}\n").as_bytes())?;
            let mut answer = Vec::new();
            while answer.last() != Some(&b'\n') {
                let mut byte = [0];
                // The device closes where nobody in the guest listens.
                (&socket).read_exact(&mut byte).map_err(|_| ErrorKind::ConnectionRefused)?;
                answer.push(byte[0]);
            }
            if !answer.starts_with(b"OK ") {
                return Err(wrong(format!("the device says {:?}", String::from_utf8_lossy(&answer))));
            }
        }
        Ok(socket)
    }

    /// Listens, in place of whoever did before.
    pub fn listen(&self) -> io::Result<Socket> {
        if let Self::Unix(path) = self {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let (socket, address) = self.open(true)?;
        socket.bind(&address)?;
        socket.listen(4096)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        for text in ["vsock:1:5000", "unix:/a:b", "bridge:7:/a/b"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "vsock:1", "tcp:1:2", "bridge:x:/a"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
