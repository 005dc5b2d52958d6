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

    /// The next connection from somebody who may connect; none when there is
    /// none, or when accepting has to wait.
    pub fn accept(&mut self, core: &Core, token: Token, gate: &Gate) -> Option<(Socket, Peer)> {
        loop {
            let (client, address) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if self.failed(core, token, &error) => continue,
                Err(_) => return None,
            };
            self.rest = REST.0;
            match self.listen.peer(&client, &address) {
                Ok(peer) if gate.admits(peer) => return Some((client, peer)),
                Ok(peer) => {
                    if let Some(times) = self.strangers.add(Instant::now()) {
                        core.log
                            .line(format_args!("{}: turned away {peer}: not allowed{times}", self.listen));
                    }
                }
                // Gone again already.
                Err(_) => {}
            }
        }
    }

    /// Says and counts an error. True when it was about one connection only,
    /// and the next can be accepted at once.
    fn failed(&mut self, core: &Core, token: Token, error: &io::Error) -> bool {
        let now = Instant::now();
        let passing = matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO));
        if let Some(times) = self.failed.add(now) {
            let next = if passing { "going on" } else { "trying again shortly" };
            core.log.line(format_args!("{}: accept: {error}; {next}{times}", self.listen));
        }
        if !passing {
            // The condition lasts and the listener stays readable: without a
            // rest this would spin.
            self.resting = Some(now + self.rest);
            self.rest = (self.rest * 2).min(REST.1);
            let _ = self.listen_for(core, token, EpollFlags::empty());
        }
        passing
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
