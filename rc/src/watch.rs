// SPDX-License-Identifier: Apache-2.0
//! Waiting for descriptors and for changes to files, inside the event loop.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// A descriptor that the event loop waits for: any that poll(2) knows.
///
/// tokio's own type for that cannot be made without `unsafe` code; its
/// datagram socket can, and asks the kernel nothing that only a socket could
/// answer.
pub struct Readable(UnixDatagram);

impl Readable {
    /// Takes a descriptor, and makes it non-blocking.
    ///
    /// # Errors
    /// Those of ioctl(2) and epoll_ctl(2).
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = StdDatagram::from(fd);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixDatagram::from_std(socket)?))
    }

    /// Waits until it can be read.
    ///
    /// # Errors
    /// The event loop is ending.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Waits until it can be read and calls `take`, which takes all that is
    /// there.
    ///
    /// # Errors
    /// The event loop is ending.
    pub async fn take(&self, take: impl FnOnce()) -> io::Result<()> {
        self.readable().await?;
        let emptied = || {
            take();
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        };
        // "It would block" is what makes the next wait a wait for something new.
        let _ = self.0.try_io(Interest::READABLE, emptied);
        Ok(())
    }
}

/// Tells when something happens in a folder, or to a file, by inotify(7).
pub struct Watch {
    inotify: Inotify,
    readable: Readable,
}

impl Watch {
    /// Watches a path, which must be there.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2).
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MODIFY;
        inotify.add_watch(path, events)?;
        let readable = Readable::new(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inotify, readable })
    }

    /// Waits for the next change: something was made, written to, or changed
    /// its owner or mode. Several changes may be told as one.
    pub async fn changed(&self) {
        // An error means that the event loop ends, and this task with it.
        let _ = self.readable.take(|| while self.inotify.read_events().is_ok() {}).await;
    }
}
