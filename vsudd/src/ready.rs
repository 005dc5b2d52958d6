// SPDX-License-Identifier: Apache-2.0
//! Tells the host when everything is in place: a connection to a port of the
//! host that says `READY=1`, as sd_notify(3) has it and as systemd tells the
//! host of a virtual machine.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, send};
use socket2::Socket;

use crate::endpoint::{Dialled, Endpoint};
use crate::engine::{Core, Part, Task, Token};
use crate::log::Tally;
use crate::retry::Retry;

/// What is said.
const MESSAGE: &[u8] = b"READY=1\n";

/// The announcement at work.
#[derive(Debug)]
pub struct Ready {
    number: u16,
    /// Who has to answer: the host, and on top of it the targets. Empty when
    /// the host was told.
    asked: Vec<Endpoint>,
    /// A connection to the topmost that is being made.
    dialling: Option<Socket>,
    /// When the program gives up, if it has nothing else to do.
    until: Option<Instant>,
    retry: Retry,
    failed: Tally,
}

impl Ready {
    /// Tells `host` once all targets have answered. With `until` it gives up
    /// then, and its end is the program's.
    pub fn new(host: Endpoint, targets: impl IntoIterator<Item = Endpoint>, until: Option<Instant>) -> Self {
        let asked = std::iter::once(host).chain(targets).collect();
        Self { number: 0, asked, dialling: None, until, retry: Retry::default(), failed: Tally::default() }
    }

    fn token(&self, part: Part) -> Token {
        Token { task: self.number, part }
    }

    /// Asks the topmost, and the next as long as they answer at once.
    fn ask(&mut self, core: &mut Core) {
        self.retry.trying();
        while let Some(endpoint) = self.asked.last() {
            match endpoint.dial() {
                Ok(Dialled::Connected(socket)) => self.answered(core, &socket),
                Ok(Dialled::Pending(socket)) => {
                    let flags = EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                    let token = self.token(Part::Sink);
                    match core.epoll.add(&socket, EpollEvent::new(flags, token.into())) {
                        Ok(()) => self.dialling = Some(socket),
                        Err(error) => self.failed(core, &error.into()),
                    }
                }
                Err(error) => self.failed(core, &error),
            }
            if self.dialling.is_some() || self.retry.deadline().is_some() {
                return;
            }
        }
    }

    /// The topmost is there. A target is let go; the host is told.
    fn answered(&mut self, core: &mut Core, socket: &Socket) {
        self.retry.rest();
        if let [host] = self.asked.as_slice() {
            if let Err(error) = send(socket.as_raw_fd(), MESSAGE, MsgFlags::MSG_NOSIGNAL) {
                return self.failed(core, &error.into());
            }
            core.log.line(format_args!("told {host} that everything is in place"));
            if self.until.take().is_some() {
                core.done = Some(true);
            }
        }
        self.asked.pop();
    }

    fn failed(&mut self, core: &mut Core, error: &io::Error) {
        let Some(endpoint) = self.asked.last() else {
            return;
        };
        let now = Instant::now();
        if let Some(times) = self.failed.add(now) {
            core.log.line(format_args!("not ready: {endpoint}: {error}; trying again{times}"));
        }
        self.retry.later(&core.epoll, self.token(Part::Watch), endpoint.path(), now);
    }
}

impl Task for Ready {
    fn start(&mut self, core: &mut Core, number: u16) -> io::Result<()> {
        self.number = number;
        self.ask(core);
        Ok(())
    }

    fn event(&mut self, core: &mut Core, part: Part, _: EpollFlags) {
        match part {
            Part::Sink => {
                let Some(socket) = self.dialling.take() else {
                    return;
                };
                match socket.take_error().and_then(|error| error.map_or(Ok(()), Err)) {
                    Ok(()) => self.answered(core, &socket),
                    Err(error) => self.failed(core, &error),
                }
                if self.retry.deadline().is_none() {
                    self.ask(core);
                }
            }
            Part::Watch if self.retry.appeared(self.asked.last().and_then(Endpoint::path)) => self.ask(core),
            Part::Watch | Part::Listener | Part::Link(..) => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.retry.deadline(), self.until].into_iter().flatten().min()
    }

    fn expired(&mut self, core: &mut Core, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            core.done = Some(false);
        } else if self.retry.is_due(now) {
            self.ask(core);
        }
    }
}
