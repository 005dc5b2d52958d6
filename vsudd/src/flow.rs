// SPDX-License-Identifier: Apache-2.0
//! One direction of a connection: reads from one socket what the other takes.
//!
//! A flow reads only when nothing it has read before is left to be written, so
//! a receiver that is stuck stops its sender and costs one buffer. The end of
//! what a sender has to say is therefore seen only after all of it was passed on.

use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::Socket;

use crate::buffer::{Buffer, CAPACITY, Pool};
use crate::frame;

/// How many bytes one flow moves before others get their turn.
const TURN: usize = 8 * CAPACITY;

/// What a flow makes of what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Stream to stream: bytes as they are.
    Bytes,
    /// Stream to datagrams: each message is sent without its header.
    Unpack,
    /// Datagrams to stream: each message gets a header.
    Pack,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The source has said all it had to say.
    Eof,
    /// The source is gone, or no message could be made of what it says.
    Reset,
    /// The destination takes no more.
    Refused,
}

/// Why a flow stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Nothing to read.
    Idle,
    /// The destination is full.
    Blocked,
    /// Its turn is over; there is more to do.
    TurnOver,
    /// It is at its end.
    Ended(End),
}

/// One direction.
#[derive(Debug)]
pub struct Flow {
    shape: Shape,
    end: Option<End>,
    announced: bool,
    /// The source may have something to read.
    readable: bool,
    /// What is read last is the end: a short read does not mean that nothing
    /// is left.
    ending: bool,
    /// The destination was full.
    blocked: bool,
    /// What the destination has not taken yet.
    held: Option<Buffer>,
    /// Messages that could not be passed on: cut off or too long.
    pub lost: u64,
    /// Bytes read.
    pub moved: u64,
}

impl Flow {
    /// A flow with nothing under way.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            end: None,
            announced: false,
            readable: false,
            ending: false,
            blocked: false,
            held: None,
            lost: 0,
            moved: 0,
        }
    }

    /// How it ended, when it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// How it ended, told once.
    pub fn end_to_announce(&mut self) -> Option<End> {
        let end = self.end.filter(|_| !self.announced);
        self.announced |= end.is_some();
        end
    }

    /// Says that the source may have something to read, or its end.
    pub fn source_ready(&mut self, ending: bool) {
        self.readable = true;
        self.ending |= ending;
    }

    /// Says that the destination may take more.
    pub fn sink_ready(&mut self) {
        self.blocked = false;
    }

    /// Ends it here and now. What it holds is dropped.
    pub fn stop(&mut self, end: End, pool: &mut Pool) {
        if self.end.is_none() {
            self.end = Some(end);
            if let Some(buffer) = self.held.take() {
                pool.give(buffer);
            }
        }
    }

    /// Reads what the source has said already, before there is a destination.
    pub fn begin(&mut self, from: &Socket, pool: &mut Pool) {
        self.readable = true;
        let mut buffer = self.buffer(pool);
        match self.fill(&mut buffer, from) {
            Ok(count) => {
                self.moved += count as u64;
                self.held = Some(buffer);
            }
            Err(pause) => {
                pool.give(buffer);
                self.note_end(pause);
            }
        }
    }

    fn buffer(&self, pool: &mut Pool) -> Buffer {
        match self.shape {
            Shape::Bytes => pool.take_any(),
            Shape::Pack | Shape::Unpack => pool.take(),
        }
    }

    fn note_end(&mut self, pause: Pause) {
        if let Pause::Ended(end) = pause {
            self.end = Some(end);
        }
    }

    /// Moves what can be moved. Calls made again after a [`Pause`] that has
    /// not been ended cost no system call.
    pub fn pump(&mut self, from: &Socket, to: &Socket, pool: &mut Pool) -> Pause {
        if let Some(end) = self.end {
            return Pause::Ended(end);
        }
        if self.blocked {
            return Pause::Blocked;
        }
        if self.held.is_none() && !self.readable {
            return Pause::Idle;
        }
        let mut buffer = self.held.take().unwrap_or_else(|| self.buffer(pool));
        let pause = self.run(&mut buffer, from, to);
        if buffer.is_empty() || matches!(pause, Pause::Ended(_)) {
            pool.give(buffer);
        } else {
            self.held = Some(buffer);
        }
        self.note_end(pause);
        pause
    }

    fn run(&mut self, buffer: &mut Buffer, from: &Socket, to: &Socket) -> Pause {
        let mut turn = TURN;
        loop {
            let written = match self.shape {
                Shape::Unpack => self.send_messages(buffer, to),
                Shape::Bytes | Shape::Pack => send_bytes(buffer, to),
            };
            if let Err(pause) = written {
                self.blocked = pause == Pause::Blocked;
                return pause;
            }
            if !self.readable {
                return Pause::Idle;
            }
            if turn == 0 {
                return Pause::TurnOver;
            }
            match self.fill(buffer, from) {
                Ok(count) => {
                    self.moved += count as u64;
                    turn = turn.saturating_sub(count);
                }
                Err(pause) => return pause,
            }
        }
    }

    /// Reads once.
    fn fill(&mut self, buffer: &mut Buffer, from: &Socket) -> Result<usize, Pause> {
        match self.shape {
            Shape::Bytes => {}
            Shape::Unpack => buffer.compact(),
            Shape::Pack => buffer.reserve(frame::HEADER),
        }
        // MSG_TRUNC: the length of a message, and not of what was read of it.
        let flags = match self.shape {
            Shape::Pack => MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC,
            Shape::Bytes | Shape::Unpack => MsgFlags::MSG_DONTWAIT,
        };
        let room = buffer.room().len();
        let count = loop {
            match recv(from.as_raw_fd(), buffer.room(), flags) {
                Err(Errno::EINTR) => {}
                Ok(count) => break count,
                Err(Errno::EAGAIN) => {
                    self.readable = false;
                    return Err(Pause::Idle);
                }
                Err(_) => return Err(Pause::Ended(End::Reset)),
            }
        };
        match self.shape {
            Shape::Bytes | Shape::Unpack if count == 0 => {
                self.lost += u64::from(!buffer.is_empty());
                return Err(Pause::Ended(End::Eof));
            }
            Shape::Bytes | Shape::Unpack => {
                buffer.filled(count);
                // What arrives after a short read makes epoll(7) report again.
                self.readable = count == room || self.ending;
            }
            Shape::Pack if count > room => {
                buffer.clear();
                self.lost += 1;
            }
            Shape::Pack => {
                buffer.filled(count);
                buffer.prepend(frame::header(count).as_bytes());
            }
        }
        Ok(count.max(1))
    }

    /// Sends every message that is there as a whole.
    fn send_messages(&mut self, buffer: &mut Buffer, to: &Socket) -> Result<(), Pause> {
        loop {
            let frame = match frame::first(buffer.pending()) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(frame::Malformed) => {
                    self.lost += 1;
                    return Err(Pause::Ended(End::Reset));
                }
            };
            match send(to.as_raw_fd(), frame.message, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Pause::Blocked),
                Err(Errno::EMSGSIZE) => self.lost += 1,
                Err(_) => return Err(Pause::Ended(End::Refused)),
            }
            let length = frame.length;
            buffer.consume(length);
        }
    }
}

/// Sends all pending bytes.
fn send_bytes(buffer: &mut Buffer, to: &Socket) -> Result<(), Pause> {
    while !buffer.is_empty() {
        match send(to.as_raw_fd(), buffer.pending(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => buffer.consume(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Pause::Blocked),
            Err(_) => return Err(Pause::Ended(End::Refused)),
        }
    }
    Ok(())
}

/// Whether the peer of a stream still reads: sending nothing is refused where
/// sending something would be.
pub fn peer_reads(socket: &Socket) -> bool {
    send(socket.as_raw_fd(), &[], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) != Err(Errno::EPIPE)
}
