// SPDX-License-Identifier: Apache-2.0
//! The socket on which the kernel tells of devices that come and go
//! (netlink(7), `NETLINK_KOBJECT_UEVENT`).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};

/// The multicast group of the kernel's own messages; 2 is udev's.
const KERNEL_GROUP: u32 = 1;

/// Room for a boot's worth of messages that nobody has read yet. The kernel
/// counts what is queued, not what is reserved.
const RECEIVE_BUFFER: usize = 16 << 20;

/// What [`UeventSocket::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A message, so many bytes of the buffer.
    Message(usize),
    /// The queue overflowed: messages are lost and sysfs has to be read again.
    Overrun,
    /// Nothing is queued.
    Empty,
}

/// A non-blocking socket that receives the kernel's uevents, from the moment
/// it is opened. Its descriptor polls readable when one is queued.
#[derive(Debug)]
pub struct UeventSocket(OwnedFd);

impl UeventSocket {
    /// Opens the socket.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
        // Needs CAP_NET_ADMIN; without it the default stays, and an overrun
        // is noticed and made good.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self(fd))
    }

    /// Takes the next message that the kernel itself sent; a process's
    /// (its port is not 0) is dropped.
    ///
    /// # Errors
    /// recvfrom(2)'s, but for those that are an answer.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), buffer) {
                Ok((length, Some(sender))) if sender.pid() == 0 => return Ok(Received::Message(length)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Empty),
                Err(Errno::ENOBUFS) => return Ok(Received::Overrun),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_socket_is_open_and_silent() {
        let socket = UeventSocket::open().unwrap();
        let mut buffer = [0; 64];
        // A device of this machine may come or go meanwhile; it must not block.
        socket.receive(&mut buffer).unwrap();
    }
}
