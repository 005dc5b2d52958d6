// SPDX-License-Identifier: Apache-2.0
//! Where connections come in: a listener that no error of accept(2) ends, and
//! the gate behind it.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use socket2::Socket;

use crate::endpoint::{Endpoint, Peer};
use crate::engine::{Core, Token};
use crate::gate::Gate;
use crate::log::Tally;

/// How long the listener rests after accept(2) failed, at first and at most.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A listener.
#[derive(Debug)]
pub struct Door {
    /// Where it listens.
    pub listen: Endpoint,
    listener: Socket,
    /// When to accept again.
    resting: Option<Instant>,
    rest: Duration,
    failed: Tally,
    strangers: Tally,
}

impl Door {
    /// Binds it. Nothing is accepted before it is opened.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(listen: Endpoint, file_mode: u32) -> io::Result<Self> {
        let listener = listen.bind(file_mode)?;
        Ok(Self {
            listen,
            listener,
            resting: None,
            rest: REST.0,
            failed: Tally::default(),
            strangers: Tally::default(),
        })
    }

    /// Has connections reported under this token.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(&self, core: &Core, token: Token) -> io::Result<()> {
        Ok(core.epoll.add(&self.listener, EpollEvent::new(EpollFlags::EPOLLIN, token.into()))?)
    }

    /// One connection, of which epoll(7) said that it is there; none when it
    /// is not, or not from somebody who may connect, or when accepting has to
    /// wait.
    ///
    /// Only ever call it once an event: accept(2) on a vsock listener whose
    /// queue is empty sleeps until the next timer tick before it says EAGAIN
    /// (Linux 6.1 to 7.2, `vsock_accept`: schedule_timeout(0)).
    pub fn accept(&mut self, core: &Core, token: Token, gate: &Gate) -> Option<(Socket, Peer)> {
        let (client, address) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return None;
            }
            Err(error) => {
                self.failed(core, token, &error);
                return None;
            }
        };
        self.rest = REST.0;
        // An error here means that it is gone again already.
        let peer = self.listen.peer(&client, &address).ok()?;
        if gate.admits(peer) {
            return Some((client, peer));
        }
        if let Some(times) = self.strangers.add(Instant::now()) {
            core.log.line(format_args!("{}: turned away {peer}: not allowed{times}", self.listen));
        }
        None
    }

    /// Says and counts an error, and lets the listener rest where the error
    /// is not about one connection only: the condition lasts, the listener
    /// stays readable, and without a rest this would spin.
    fn failed(&mut self, core: &Core, token: Token, error: &io::Error) {
        let now = Instant::now();
        if let Some(times) = self.failed.add(now) {
            core.log.line(format_args!("{}: accept: {error}; going on{times}", self.listen));
        }
        if !matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EPROTO)) {
            self.resting = Some(now + self.rest);
            self.rest = (self.rest * 2).min(REST.1);
            let _ = self.listen_for(core, token, EpollFlags::empty());
        }
    }

    fn listen_for(&self, core: &Core, token: Token, flags: EpollFlags) -> nix::Result<()> {
        core.epoll.modify(&self.listener, &mut EpollEvent::new(flags, token.into()))
    }

    /// When the listener's rest is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.resting
    }

    /// Ends a rest that is over.
    pub fn expired(&mut self, core: &Core, token: Token, now: Instant) {
        if self.resting.is_some_and(|until| until <= now) {
            let open = self.listen_for(core, token, EpollFlags::EPOLLIN).is_ok();
            self.resting = if open { None } else { Some(now + self.rest) };
        }
    }
}
