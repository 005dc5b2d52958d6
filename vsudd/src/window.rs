// SPDX-License-Identifier: Apache-2.0
//! How much a vsock socket lets its peer send before it is read. The usual 256
//! KiB make a host that streams wait for each credit update; more of it is
//! memory of the kernel for as long as a receiver is stuck, so there are few
//! large ones.

use init::sys;
use socket2::Socket;

/// What a large one queues, in bytes.
pub const LARGE: u64 = 1024 * 1024;

/// How many sockets have a large one at one time, at most.
pub const MOST: usize = 16;

/// From how many bytes on a connection counts as a stream: what the kernel
/// queues for a socket by default.
const STREAM: u64 = 256 * 1024;

/// The large ones that are left.
#[derive(Debug)]
pub struct Windows(usize);

impl Default for Windows {
    fn default() -> Self {
        Self(MOST)
    }
}

impl Windows {
    /// Gives this vsock socket, from which so many bytes were read, a large
    /// one if it should and can have it; true when it has.
    pub fn open(&mut self, socket: &Socket, moved: u64) -> bool {
        if moved < STREAM || self.0 == 0 {
            return false;
        }
        let opened = sys::vsock::set_window(socket, LARGE).is_ok();
        // A kernel that cannot do it for one cannot do it for others.
        self.0 = if opened { self.0 - 1 } else { 0 };
        opened
    }

    /// Takes it back, if the socket had one.
    pub fn close(&mut self, large: bool) {
        self.0 += usize::from(large);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody connects to it: the option is the socket's own.
    fn socket() -> Option<Socket> {
        Socket::new(socket2::Domain::VSOCK, socket2::Type::STREAM, None).ok()
    }

    #[test]
    fn only_streams_have_one_and_few_at_a_time() {
        let Some(socket) = socket() else {
            eprintln!("LEFT OUT: large windows: this kernel has no vsock");
            return;
        };
        let mut windows = Windows::default();
        assert!(!windows.open(&socket, STREAM - 1));
        for _ in 0..MOST {
            assert!(windows.open(&socket, STREAM));
        }
        assert!(!windows.open(&socket, STREAM));
        windows.close(false);
        assert!(!windows.open(&socket, STREAM));
        windows.close(true);
        assert!(windows.open(&socket, STREAM));
        assert_eq!(sys::vsock::window(&socket).unwrap(), LARGE);
    }

    #[test]
    fn other_sockets_have_none() {
        let (socket, _other) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let mut windows = Windows::default();
        assert!(!windows.open(&socket, STREAM));
        assert_eq!(windows.0, 0);
    }
}
