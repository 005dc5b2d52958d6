// SPDX-License-Identifier: Apache-2.0
//! Pipes: what the kernel knows of one that no safe library asks for.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;

/// How many bytes wait in a pipe (`FIONREAD`, pipe(7)); either end may be asked.
///
/// # Errors
/// ENOTTY: not a pipe.
pub fn waiting(pipe: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and `count` outlives the call.
    Errno::result(unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or_default())
}
