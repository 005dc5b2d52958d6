// SPDX-License-Identifier: Apache-2.0
//! Terminals: opening one without becoming its session's leader, and writing
//! to it without ever being held up by it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Opens a device for writing: not the controlling terminal, non-blocking,
/// closed on exec.
///
/// # Errors
/// open(2)'s: ENXIO or ENODEV for a console that has no hardware.
pub fn open_for_writing(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)
}

/// Whether a terminal has been hung up, by vhangup(2) or because its hardware
/// is gone: nothing can be written to this file any more.
pub fn hung_up(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().filter_map(PollFd::revents).any(|events| events.intersects(gone))
}

/// Writes all of `bytes`, waiting for room until `patience` is over; what has
/// not gone out by then is dropped and its length returned.
pub fn write_within(mut file: &File, mut bytes: &[u8], patience: Duration) -> usize {
    let start = Instant::now();
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => break,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = patience.saturating_sub(start.elapsed());
                if left.is_zero() {
                    break;
                }
                let millis = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1);
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::from(millis)).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    bytes.len()
}
