// SPDX-License-Identifier: Apache-2.0
//! Messages from a datagram socket to a port of the host, over one connection
//! that is made anew whenever it breaks.
//!
//! What was written to a connection that broke may not have arrived, and
//! nothing tells how much of it; the last message is sent again, so that one
//! may arrive twice rather than never. While there is no connection messages
//! are kept, up to [`KEPT`] bytes; then the oldest go, because a program that
//! logs must not stand still for a host that does not listen.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::Socket;

use crate::endpoint::{Dialled, Endpoint};
use crate::engine::{Core, Part, Task, Token};
use crate::flow::peer_reads;
use crate::frame;
use crate::log::Tally;
use crate::retry::Retry;

/// How many bytes of messages are kept while nobody takes them.
pub const KEPT: usize = 1024 * 1024;

/// How many messages are read before others get their turn.
const BATCH: usize = 256;

/// How long a connection has to last for the next to be tried at once. A host
/// that takes connections and closes them must not make this spin.
const LASTING: Duration = Duration::from_secs(5);

/// The connection.
#[derive(Debug)]
enum Sink {
    /// There is none.
    Closed,
    /// It is being made.
    Dialling(Socket),
    /// It is there: how much of the first message has been written, and since
    /// when.
    Open { socket: Socket, written: usize, since: Instant },
}

/// A syslog forward at work.
#[derive(Debug)]
pub struct Syslog {
    number: u16,
    source: Socket,
    to: Endpoint,
    sink: Sink,
    queue: Queue,
    retry: Retry,
    down: Tally,
}

impl Syslog {
    /// Binds the datagram socket, for everybody to write to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(source: &Endpoint, to: Endpoint) -> io::Result<Self> {
        let source = source.bind(0o666)?;
        Ok(Self {
            number: 0,
            source,
            to,
            sink: Sink::Closed,
            queue: Queue::default(),
            retry: Retry::default(),
            down: Tally::default(),
        })
    }

    fn token(&self, part: Part) -> Token {
        Token { task: self.number, part }
    }

    /// Takes messages from the socket.
    fn receive(&mut self, core: &mut Core) {
        let mut buffer = core.pool.take();
        for _ in 0..BATCH {
            let room = buffer.room();
            match recv(self.source.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
                Ok(length) => match room.get(..length).filter(|message| message.len() <= frame::LONGEST) {
                    Some([]) => {}
                    Some(message) => self.queue.push(message),
                    None => self.queue.lost += 1,
                },
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        core.pool.give(buffer);
        self.send(core);
    }

    /// Writes what the connection takes, and makes one if there is none.
    fn send(&mut self, core: &mut Core) {
        loop {
            match &mut self.sink {
                Sink::Dialling(_) => return,
                Sink::Closed => {
                    if self.queue.is_empty() || self.retry.deadline().is_some() {
                        return;
                    }
                    self.dial(core);
                }
                Sink::Open { socket, written, .. } => {
                    let Some(rest) = self.queue.first().and_then(|first| first.get(*written..)) else {
                        return;
                    };
                    match send(socket.as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                        Ok(count) if count == rest.len() => {
                            self.queue.sent();
                            *written = 0;
                        }
                        Ok(count) => *written += count,
                        Err(Errno::EINTR) => {}
                        Err(Errno::EAGAIN) => return,
                        Err(error) => self.broken(core, &error.into()),
                    }
                }
            }
        }
    }

    fn dial(&mut self, core: &mut Core) {
        self.retry.trying();
        let socket = match self.to.dial() {
            // One that is there already is reported writable at once.
            Ok(Dialled::Connected(socket) | Dialled::Pending(socket)) => socket,
            Err(error) => return self.unreachable(core, &error),
        };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        match core.epoll.add(&socket, EpollEvent::new(flags, self.token(Part::Sink).into())) {
            Ok(()) => self.sink = Sink::Dialling(socket),
            Err(error) => self.unreachable(core, &error.into()),
        }
    }

    /// Something happened on the connection.
    fn sink_event(&mut self, core: &mut Core) {
        match std::mem::replace(&mut self.sink, Sink::Closed) {
            Sink::Closed => {}
            Sink::Dialling(socket) => match socket.take_error().and_then(|error| error.map_or(Ok(()), Err)) {
                Ok(()) => {
                    self.sink = Sink::Open { socket, written: 0, since: Instant::now() };
                    let (failures, lost) = (self.down.end(), std::mem::take(&mut self.queue.lost));
                    if failures > 0 || lost > 0 {
                        core.log.line(format_args!(
                            "syslog: {} answers; messages lost meanwhile: {lost}",
                            self.to
                        ));
                    }
                }
                Err(error) => self.unreachable(core, &error),
            },
            open @ Sink::Open { .. } => {
                self.sink = open;
                self.listen(core);
            }
        }
        self.send(core);
    }

    /// Nobody is meant to speak on this connection; what is read from it tells
    /// that it is over, also while nothing is sent.
    fn listen(&mut self, core: &mut Core) {
        let mut ignored = [0; 512];
        while let Sink::Open { socket, .. } = &self.sink {
            match recv(socket.as_raw_fd(), &mut ignored, MsgFlags::MSG_DONTWAIT) {
                Ok(0) if peer_reads(socket) => return,
                Ok(0) => self.broken(core, &io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(error) => self.broken(core, &error.into()),
            }
        }
    }

    /// The connection ended. What was last written to it is still to be sent,
    /// so the next is made without waiting for more.
    fn broken(&mut self, core: &mut Core, error: &io::Error) {
        let now = Instant::now();
        if let Sink::Open { since, .. } = std::mem::replace(&mut self.sink, Sink::Closed)
            && now.duration_since(since) >= LASTING
        {
            self.retry.rest();
        }
        self.queue.again();
        core.log.detail(format_args!("syslog: {}: {error}: connecting anew", self.to));
        self.retry.later(&core.epoll, self.token(Part::Watch), None, now);
    }

    fn unreachable(&mut self, core: &mut Core, error: &io::Error) {
        let now = Instant::now();
        if let Some(times) = self.down.add(now) {
            core.log
                .line(format_args!("syslog: {}: {error}: messages are kept, trying again{times}", self.to));
        }
        self.retry.later(&core.epoll, self.token(Part::Watch), None, now);
    }
}

impl Task for Syslog {
    fn start(&mut self, core: &mut Core, number: u16) -> io::Result<()> {
        self.number = number;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.token(Part::Listener).into());
        Ok(core.epoll.add(&self.source, event)?)
    }

    fn event(&mut self, core: &mut Core, part: Part, _: EpollFlags) {
        match part {
            Part::Listener => self.receive(core),
            Part::Sink => self.sink_event(core),
            Part::Watch | Part::Link(..) => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry.deadline()
    }

    fn expired(&mut self, core: &mut Core, _: Instant) {
        self.retry.trying();
        self.send(core);
    }
}

/// Messages with their headers, in order.
#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// The last message that was written as a whole.
    last: Option<Box<[u8]>>,
    /// Messages that were dropped.
    lost: u64,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn first(&self) -> Option<&[u8]> {
        self.messages.front().map(AsRef::as_ref)
    }

    fn push(&mut self, message: &[u8]) {
        let mut framed = frame::header(message.len()).into_bytes();
        framed.extend_from_slice(message);
        self.bytes += framed.len();
        self.messages.push_back(framed.into());
        // The first may be half written; it goes out whole.
        while self.bytes > KEPT {
            let Some(oldest) = self.messages.remove(1) else {
                break;
            };
            self.bytes -= oldest.len();
            self.lost += 1;
        }
    }

    /// The first message was written.
    fn sent(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.len();
            self.last = Some(message);
        }
    }

    /// A connection ended: the last message that was written to it goes first.
    fn again(&mut self) {
        if let Some(message) = self.last.take() {
            self.bytes += message.len();
            self.messages.push_front(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(queue: &Queue) -> Vec<String> {
        queue.messages.iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect()
    }

    #[test]
    fn the_last_message_goes_first_after_a_connection_ended_and_only_once() {
        let mut queue = Queue::default();
        queue.push(b"one");
        queue.push(b"two");
        queue.sent();
        assert_eq!(text(&queue), ["3 two"]);
        queue.again();
        assert_eq!(text(&queue), ["3 one", "3 two"]);
        queue.again();
        assert_eq!(text(&queue).len(), 2);
        queue.sent();
        queue.sent();
        queue.again();
        assert_eq!(text(&queue), ["3 two"]);
        assert_eq!(queue.bytes, 5);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut queue = Queue::default();
        for number in 0..3000 {
            queue.push(format!("{number:0>1000}").as_bytes());
        }
        assert!(queue.bytes <= KEPT && queue.bytes > KEPT - 2000);
        assert_eq!(queue.lost as usize, 3000 - queue.messages.len());
        assert!(text(&queue).last().unwrap().ends_with("2999"));
        let bytes: usize = queue.messages.iter().map(|message| message.len()).sum();
        assert_eq!(bytes, queue.bytes);
    }
}
