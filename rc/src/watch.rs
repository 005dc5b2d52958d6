// SPDX-License-Identifier: Apache-2.0
//! Waiting for descriptors and for changes to files, inside the event loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

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

    /// Waits until it can be written to: a socket that connects has done so,
    /// or has failed.
    ///
    /// # Errors
    /// The event loop is ending.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
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
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MODIFY;
        let watch = Self::nothing()?;
        watch.add(path, events)?;
        Ok(watch)
    }

    /// Watches a folder for what comes into it, and for its own end.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2).
    pub fn folder(path: &Path) -> io::Result<Self> {
        let watch = Self::nothing()?;
        watch.add(path, COMES | GOES)?;
        Ok(watch)
    }

    /// Watches files for what is written to them, and for others taking their
    /// names, as when logs are rotated. A file that is not there may come.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2).
    pub fn files<'a>(paths: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let watch = Self::nothing()?;
        for path in paths {
            match watch.add(path, AddWatchFlags::IN_MODIFY | GOES) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            // The second of two files in one folder replaces an equal watch.
            if let Some(folder) = path.parent() {
                watch.add(folder, COMES)?;
            }
        }
        Ok(watch)
    }

    fn nothing() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let readable = Readable::new(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inotify, readable })
    }

    fn add(&self, path: &Path, events: AddWatchFlags) -> io::Result<()> {
        self.inotify.add_watch(path, events)?;
        Ok(())
    }

    /// Waits for the next change: something was made, written to, or changed
    /// its owner or mode. Several changes may be told as one.
    pub async fn changed(&self) {
        // An error means that the event loop ends, and this task with it.
        let _ = self.readable.take(|| while self.inotify.read_events().is_ok() {}).await;
    }
}

/// Something comes into a folder.
const COMES: AddWatchFlags = AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_MOVED_TO);

/// What is watched goes, or gets another name.
const GOES: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF);
