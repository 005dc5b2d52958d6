// SPDX-License-Identifier: Apache-2.0
//! Descriptors that another process passes over a unix socket.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// The most descriptors that one message may carry here; the kernel closes
/// further ones.
pub const MOST: usize = 8;

/// Receives one message and the descriptors that came with it (unix(7),
/// `SCM_RIGHTS`). They are ours alone, and closed on exec.
///
/// # Errors
/// recvmsg(2)'s.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut buffers = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!([i32; MOST]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just put these into our table, and
            // nobody else here knows of them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// A descriptor that the program was started with, by its number. It is taken
/// once, before anything else is opened.
///
/// # Errors
/// EBADF: there is none.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD asks about a number and touches no memory.
    nix::errno::Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and the caller knows of nobody else who has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
