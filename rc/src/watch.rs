// SPDX-License-Identifier: Apache-2.0
//! Waiting for descriptors and for changes to files, inside the event loop.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe;
use tokio::time::sleep;

/// A descriptor that the event loop waits for. tokio's own type for any
/// descriptor cannot be made without `unsafe` code; the reading end of a pipe
/// can, and asks the kernel the same question.
pub struct Readable(pipe::Receiver);

impl Readable {
    /// Takes a descriptor that poll(2) knows and that does not block.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// Waits until it can be read.
    ///
    /// # Errors
    /// The event loop is ending.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Reads what is there and throws it away, so that the next wait is for
    /// something new.
    fn drain(&self) {
        let mut buffer = [0; 4096];
        while self.0.try_read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

/// Tells when something happens in a folder, or to a file, by inotify(7).
pub struct Watch(Readable);

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
        Ok(Self(Readable::new(inotify.as_fd().try_clone_to_owned()?)?))
    }

    /// Waits for the next change: something was made, written to, or changed
    /// its owner or mode. Several changes may be told as one.
    pub async fn changed(&self) {
        if self.0.readable().await.is_err() {
            // The event loop is ending; do not spin until it has.
            sleep(Duration::from_millis(20)).await;
        }
        self.0.drain();
    }
}
