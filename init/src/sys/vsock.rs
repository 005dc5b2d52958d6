// SPDX-License-Identifier: Apache-2.0
//! Options of vsock sockets: vsock(7).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;

/// `linux/vm_sockets.h`; libc does not have these.
const SO_VM_SOCKETS_BUFFER_SIZE: i32 = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: i32 = 2;

/// Sets how many bytes the kernel queues for a socket; its peer is told.
///
/// # Errors
/// setsockopt(2)'s.
pub fn set_window(socket: impl AsFd, bytes: u64) -> io::Result<()> {
    for option in [SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE] {
        let length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the kernel reads that many bytes, which are the number's.
        let result = unsafe {
            let socket = socket.as_fd().as_raw_fd();
            libc::setsockopt(socket, libc::AF_VSOCK, option, (&raw const bytes).cast(), length)
        };
        Errno::result(result)?;
    }
    Ok(())
}

/// How many bytes the kernel queues for a socket.
///
/// # Errors
/// getsockopt(2)'s.
pub fn window(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which are the number's.
    let result = unsafe {
        let socket = socket.as_fd().as_raw_fd();
        let (bytes, length) = ((&raw mut bytes).cast(), &raw mut length);
        libc::getsockopt(socket, libc::AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, bytes, length)
    };
    Errno::result(result)?;
    Ok(bytes)
}
