// SPDX-License-Identifier: Apache-2.0
//! One forwarded connection: two sockets and the two flows between them.
//!
//! What one end does, the other end sees, as far as the two kinds of sockets
//! can say it:
//!
//! | one end                            | the other end                           |
//! |------------------------------------|-----------------------------------------|
//! | shuts down writing                 | reads the end, may go on writing        |
//! | shuts down reading                 | its writes fail with EPIPE              |
//! | closes                             | reads the end after the last byte, its writes fail |
//! | is reset, or closes with input unread | the same; a TCP end is reset         |
//!
//! A stream socket cannot tell a forwarder that its peer went from half closed
//! to closed; [`peer_reads`] asks, whenever something happened on the socket.

use std::net::Shutdown;
use std::time::Duration;

use nix::sys::epoll::EpollFlags;
use socket2::Socket;

use crate::buffer::Pool;
use crate::flow::{End, Flow, Pause, Shape, peer_reads};

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that connected to us.
    Client,
    /// The end that we connected to.
    Target,
}

/// What a link needs next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// To hear when the client takes more.
    pub client_writable: bool,
    /// To hear when the target takes more.
    pub target_writable: bool,
    /// Another turn.
    pub turn: bool,
    /// Nothing: it is over.
    pub nothing: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    client: Socket,
    target: Socket,
    /// From the client to the target.
    inward: Flow,
    /// From the target to the client.
    outward: Flow,
    /// The target is a datagram socket: it has no half-close.
    messages: bool,
}

impl Link {
    /// The flow from a client to a target that is still to be dialled. With
    /// `messages` the target is a datagram socket, and the client's stream
    /// carries messages with their length.
    pub fn inward(messages: bool) -> Flow {
        Flow::new(if messages { Shape::Unpack } else { Shape::Bytes })
    }

    /// Joins two connected sockets, the first of which may have been read from.
    pub fn new(client: Socket, target: Socket, inward: Flow, messages: bool) -> Self {
        let outward = Flow::new(if messages { Shape::Pack } else { Shape::Bytes });
        Self { client, target, inward, outward, messages }
    }

    /// The sockets: the client's and the target's.
    pub fn sockets(&self) -> (&Socket, &Socket) {
        (&self.client, &self.target)
    }

    /// The same, to be closed.
    pub fn into_sockets(self) -> (Socket, Socket) {
        (self.client, self.target)
    }

    /// The first turn. A target that was told something may have answered by
    /// the time that is done.
    pub fn begin(&mut self, pool: &mut Pool) -> Needs {
        if self.inward.moved > 0 {
            self.outward.source_ready(false);
        }
        self.drive(pool)
    }

    /// Ends both flows; what they hold is dropped.
    pub fn stop(&mut self, pool: &mut Pool) {
        self.inward.stop(End::Refused, pool);
        self.outward.stop(End::Refused, pool);
    }

    /// Takes note of what epoll(7) said about one of the sockets.
    pub fn note(&mut self, side: Side, flags: EpollFlags) {
        let (from, into) = match side {
            Side::Client => (&mut self.inward, &mut self.outward),
            Side::Target => (&mut self.outward, &mut self.inward),
        };
        let last = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if flags.intersects(last | EpollFlags::EPOLLIN) {
            from.source_ready(flags.intersects(last));
        }
        // Any news may be that writing fails from now on, which vsock does not
        // report as such.
        into.sink_ready();
    }

    /// Moves what can be moved, ends what is at its end.
    pub fn drive(&mut self, pool: &mut Pool) -> Needs {
        let inward = self.inward.pump(&self.client, &self.target, pool);
        let outward = self.outward.pump(&self.target, &self.client, pool);
        self.spread(pool);
        if self.inward.end().is_some() && self.outward.end().is_some() {
            self.finish();
            return Needs { nothing: true, ..Needs::default() };
        }
        self.announce();
        Needs {
            client_writable: outward == Pause::Blocked,
            target_writable: inward == Pause::Blocked,
            turn: inward == Pause::TurnOver || outward == Pause::TurnOver,
            nothing: false,
        }
    }

    /// Ends a flow where the end of the other means its own.
    fn spread(&mut self, pool: &mut Pool) {
        match self.inward.end() {
            Some(End::Reset) => self.outward.stop(End::Refused, pool),
            Some(End::Eof) if self.outward.end().is_none() && !peer_reads(&self.client) => {
                self.outward.stop(End::Refused, pool);
            }
            // A datagram socket refuses when nobody is behind it any more.
            Some(End::Refused) if self.messages => self.outward.stop(End::Reset, pool),
            _ => {}
        }
        match self.outward.end() {
            Some(End::Reset) => self.inward.stop(End::Refused, pool),
            Some(End::Eof) if self.inward.end().is_none() && !peer_reads(&self.target) => {
                self.inward.stop(End::Refused, pool);
            }
            _ => {}
        }
    }

    /// Passes on that one flow is over while the other goes on. Errors are
    /// those of a peer that is gone; the other flow meets them too.
    fn announce(&mut self) {
        if let Some(end) = self.inward.end_to_announce() {
            let _ = match end {
                End::Refused => self.client.shutdown(Shutdown::Read),
                End::Eof | End::Reset if self.messages => Ok(()),
                End::Eof | End::Reset => self.target.shutdown(Shutdown::Write),
            };
        }
        if let Some(end) = self.outward.end_to_announce() {
            let _ = match end {
                End::Refused if self.messages => Ok(()),
                End::Refused => self.target.shutdown(Shutdown::Read),
                End::Eof | End::Reset => self.client.shutdown(Shutdown::Write),
            };
        }
    }

    /// Closing says the rest; where one end was reset, a TCP socket at the
    /// other has to be told to say so.
    fn finish(&mut self) {
        if self.inward.end() == Some(End::Reset) {
            let _ = self.target.set_linger(Some(Duration::ZERO));
        }
        if self.outward.end() == Some(End::Reset) {
            let _ = self.client.set_linger(Some(Duration::ZERO));
        }
    }

    /// Bytes that went in and out, and messages that could not be passed on.
    pub fn totals(&self) -> (u64, u64, u64) {
        (self.inward.moved, self.outward.moved, self.inward.lost + self.outward.lost)
    }
}
