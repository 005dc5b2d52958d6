// SPDX-License-Identifier: Apache-2.0
//! The asking side, without an event loop: `service` is up and gone in no time.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Answer, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody listens: there is no supervisor.
    #[error("no supervisor answers at {path}: {source}")]
    NoSupervisor {
        /// Where.
        path: String,
        /// What connect(2) said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the supervisor did not answer: {0}")]
    Broken(#[source] io::Error),
    /// It answered something else.
    #[error("the supervisor answered something else: {0}")]
    Unexpected(String),
}

/// A connection to the supervisor.
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `NoSupervisor`.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path);
        let failed = |source| Failure::NoSupervisor { path: path.display().to_string(), source };
        Ok(Self(BufReader::new(stream.map_err(failed)?)))
    }

    /// Asks, and waits for the answer, for so long at most.
    ///
    /// # Errors
    /// `Broken`, also when the time is over.
    pub fn ask(&mut self, request: &Request, patience: Option<Duration>) -> Result<Answer, Failure> {
        self.send(request)?;
        self.receive(patience)
    }

    /// Asks.
    ///
    /// # Errors
    /// `Broken`.
    pub fn send(&mut self, request: &Request) -> Result<(), Failure> {
        let mut line = serde_json::to_string(request).map_err(|error| Failure::Broken(error.into()))?;
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes()).map_err(Failure::Broken)
    }

    /// Whether an answer, or the end of the supervisor, comes within so long.
    pub fn is_answered(&self, patience: Duration) -> bool {
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        let mut fds = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO)) == Ok(1)
    }

    /// What the next answer comes by; `None` where it may be here already.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.0.buffer().is_empty().then(|| self.0.get_ref().as_fd())
    }

    /// Waits for an answer, for so long at most.
    ///
    /// # Errors
    /// `Broken`, also when the time is over.
    pub fn receive(&mut self, patience: Option<Duration>) -> Result<Answer, Failure> {
        self.0.get_ref().set_read_timeout(patience).map_err(Failure::Broken)?;
        let mut answer = String::new();
        if self.0.read_line(&mut answer).map_err(Failure::Broken)? == 0 {
            return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&answer).map_err(|error| Failure::Broken(error.into()))
    }
}
