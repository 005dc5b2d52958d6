// SPDX-License-Identifier: Apache-2.0
//! When to try again to reach something that is not there: when its socket
//! file appears, and after a while in any case.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::engine::Token;

/// The first wait, and after a socket file appeared: between bind(2) and
/// listen(2) it refuses.
const FIRST: Duration = Duration::from_millis(2);

/// The longest wait.
const LAST: Duration = Duration::from_millis(500);

/// When to try again; by default there is nothing to try.
#[derive(Debug)]
pub struct Retry {
    delay: Duration,
    next: Option<Instant>,
    watch: Option<Inotify>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { delay: FIRST, next: None, watch: None }
    }
}

impl Retry {
    /// It failed: try again later. Of a unix socket the directory is watched,
    /// and what happens there is reported under `token`.
    pub fn later(&mut self, epoll: &Epoll, token: Token, file: Option<&Path>, now: Instant) {
        if self.next.is_none() {
            self.next = Some(now + self.delay);
            self.delay = (self.delay * 2).min(LAST);
        }
        if self.watch.is_none() {
            // Where it cannot be watched, time alone decides.
            self.watch = file.and_then(Path::parent).and_then(|directory| watch(epoll, token, directory));
        }
    }

    /// Nothing to try any more.
    pub fn rest(&mut self) {
        *self = Self::default();
    }

    /// A try is being made.
    pub fn trying(&mut self) {
        self.next = None;
    }

    /// When the next try is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// True when it is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Something happened in the directory. True when it is about the file:
    /// a try is due.
    pub fn appeared(&mut self, file: Option<&Path>) -> bool {
        let Some(events) = self.watch.as_ref().and_then(|watch| watch.read_events().ok()) else {
            return false;
        };
        let name = file.and_then(Path::file_name);
        let about = events.iter().any(|event| event.name.as_deref() == name);
        if about {
            self.delay = FIRST;
        }
        about
    }
}

fn watch(epoll: &Epoll, token: Token, directory: &Path) -> Option<Inotify> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    watch.add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO).ok()?;
    epoll.add(&watch, EpollEvent::new(EpollFlags::EPOLLIN, token.into())).ok()?;
    Some(watch)
}
