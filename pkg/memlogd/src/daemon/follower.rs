// SPDX-License-Identifier: Apache-2.0
//! One who asks for lines. What is still to be told is in the ring: whoever is
//! slow costs a buffer and no more.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::OWN;
use crate::entry::{Entry, now};
use crate::ring::Ring;

/// How much JSON is made at a time.
const BUFFER: usize = 32 * 1024;

/// Which lines are wanted: from the next one to be told to the last, if there
/// is a last one.
struct Wanted {
    next: u64,
    end: Option<u64>,
}

/// What is to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A question.
    Asks,
    /// New lines.
    Waits,
    /// Room in its socket.
    Full,
    /// Nothing: it has all it wanted, or is gone.
    Done,
}

/// One who asks.
pub(super) struct Follower {
    socket: UnixStream,
    wanted: Option<Wanted>,
    /// Lines as JSON, and how much of that has been sent.
    buffer: Vec<u8>,
    sent: usize,
    state: State,
}

impl Follower {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, wanted: None, buffer: Vec::new(), sent: 0, state: State::Asks }
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    pub(super) fn waits_for_lines(&self) -> bool {
        self.state == State::Waits
    }

    /// Reads the question: one byte.
    pub(super) fn ask(&mut self, ring: &Ring) {
        if self.state != State::Asks {
            return;
        }
        let mut byte = [0];
        self.state = match self.socket.read(&mut byte) {
            Ok(1) => {
                self.wanted = match byte {
                    [0] => Some(Wanted { next: ring.oldest(), end: Some(ring.next()) }),
                    [1] => Some(Wanted { next: ring.next(), end: None }),
                    [2] => Some(Wanted { next: ring.oldest(), end: None }),
                    _ => None,
                };
                State::Waits
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                State::Asks
            }
            _ => State::Done,
        };
    }

    /// Tells what it has not been told, as far as its socket has room.
    pub(super) fn tell(&mut self, ring: &Ring) -> State {
        if matches!(self.state, State::Waits | State::Full) {
            self.state = self.tell_on(ring);
        }
        self.state
    }

    fn tell_on(&mut self, ring: &Ring) -> State {
        let Some(wanted) = &mut self.wanted else { return State::Done };
        loop {
            while let Some(rest) = self.buffer.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match self.socket.write(rest) {
                    Ok(count) => self.sent += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return State::Full,
                    Err(_) => return State::Done,
                }
            }
            self.buffer.clear();
            self.sent = 0;
            let missed = ring.oldest().saturating_sub(wanted.next);
            if missed > 0 {
                wanted.next = ring.oldest();
                let text = format!("{missed} lines were dropped: this reader was too slow for them");
                Entry { time: now(), source: OWN.into(), msg: text.into_bytes().into() }
                    .tell(&mut self.buffer);
            }
            let end = wanted.end.unwrap_or(u64::MAX);
            while wanted.next < end
                && self.buffer.len() < BUFFER
                && let Some(entry) = ring.get(wanted.next)
            {
                entry.tell(&mut self.buffer);
                wanted.next += 1;
            }
            if self.buffer.is_empty() {
                return if wanted.next >= end { State::Done } else { State::Waits };
            }
        }
    }
}
