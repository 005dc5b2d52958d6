// SPDX-License-Identifier: Apache-2.0
//! An external logger: whoever has the socket of CONTRACT 7, as memlogd does.
//!
//! It is given a pipe of its own for each log and not the container's: when it
//! ends, the pipe says so, what it has not read is still there, and the
//! container has noticed nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::unistd::pipe2;

/// A log's way to an external logger.
pub(super) struct Outlet {
    /// The end that is written to; non-blocking.
    pub(super) pipe: OwnedFd,
    pub(super) name: String,
}

impl Outlet {
    /// Hands a new pipe to the logger behind `socket`.
    ///
    /// # Errors
    /// Those of pipe(2) and sendmsg(2): ENOENT and ECONNREFUSED when there is
    /// nobody, EAGAIN when it does not look after its socket.
    pub(super) fn open(socket: &Path, name: &str) -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let sender = UnixDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        let address = UnixAddr::new(socket)?;
        let descriptors = [reader.as_raw_fd()];
        sendmsg(
            sender.as_raw_fd(),
            &[IoSlice::new(name.as_bytes())],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::empty(),
            Some(&address),
        )?;
        Ok(Self { pipe: writer, name: name.to_owned() })
    }

    /// What the logger has not read, once it is gone.
    ///
    /// # Errors
    /// Those of opening `/proc/self/fd/N`, which gives a pipe a new reading end.
    pub(super) fn unread(&self) -> io::Result<File> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.pipe.as_raw_fd()));
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
    }
}
