// SPDX-License-Identifier: Apache-2.0
//! A forward at work: a door, and a link for each connection that comes in.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use socket2::Socket;

use crate::buffer::CAPACITY;
use crate::door::Door;
use crate::endpoint::{Dialled, Endpoint, is_transient};
use crate::engine::{Core, Part, Task, Token};
use crate::flow::{End, Flow};
use crate::gate::Gate;
use crate::link::{Link, Needs, Side};
use crate::log::Tally;
use crate::retry::Retry;
use crate::slab::{Key, Slab};

/// How long a connection to a target may take: the kernel's own limit for TCP
/// is more than two minutes.
const DIALLING: Duration = Duration::from_secs(10);

/// Edge-triggered: one system call less a turn. Writability is asked for when
/// a connection needs it for the first time.
const READ: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLRDHUP).union(EpollFlags::EPOLLET);
const READ_AND_WRITE: EpollFlags = READ.union(EpollFlags::EPOLLOUT);

/// What all forwards have in common.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who may connect.
    pub gate: Rc<Gate>,
    /// How many connections a forward has at one time, at most.
    pub limit: usize,
    /// How long a connection waits for a target that is not there.
    pub patience: Duration,
}

/// A connection that has no other half yet.
#[derive(Debug)]
struct Half {
    client: Socket,
    /// What it has said already.
    inward: Flow,
    /// When it began to wait for the target.
    since: Option<Instant>,
}

/// A connection under way.
#[derive(Debug)]
enum Connection {
    /// Its other half is being made.
    Dialling { half: Half, target: Socket },
    /// It is whole. Says for which sides writability was asked for, and whether
    /// its vsock end has one of the large windows.
    Whole { link: Link, client_armed: bool, target_armed: bool, wide: bool },
}

/// A forward at work.
#[derive(Debug)]
pub struct Forward {
    number: u16,
    door: Door,
    target: Endpoint,
    terms: Terms,
    connections: Slab<Connection>,
    /// Connections whose target is being dialled, the oldest first; some may
    /// be past that.
    dialling: VecDeque<(Key, Instant)>,
    /// Connections that wait for the target, the oldest first.
    waiting: VecDeque<Half>,
    retry: Retry,
    /// Connections closed since the target last answered.
    unanswered: Tally,
    over_limit: Tally,
    lost: Tally,
}

impl Forward {
    /// A forward of what comes in at this door.
    pub fn new(door: Door, target: Endpoint, terms: Terms) -> Self {
        Self {
            number: 0,
            door,
            target,
            terms,
            connections: Slab::default(),
            dialling: VecDeque::new(),
            waiting: VecDeque::new(),
            retry: Retry::default(),
            unanswered: Tally::default(),
            over_limit: Tally::default(),
            lost: Tally::default(),
        }
    }

    fn token(&self, part: Part) -> Token {
        Token { task: self.number, part }
    }

    fn accept(&mut self, core: &mut Core) {
        let Some((client, peer)) = self.door.accept(core, self.token(Part::Listener), &self.terms.gate)
        else {
            return;
        };
        let Terms { limit, .. } = self.terms;
        if self.connections.count() + self.waiting.len() >= limit {
            if let Some(times) = self.over_limit.add(Instant::now()) {
                let listen = &self.door.listen;
                core.log
                    .line(format_args!("{listen}: turned away {peer}: {limit} connections already{times}"));
            }
            return;
        }
        core.log.detail(format_args!("{}: connection from {peer}", self.door.listen));
        let mut half = Half { client, inward: Link::inward(self.messages()), since: None };
        if !self.waiting.is_empty() {
            half.since = Some(Instant::now());
            self.waiting.push_back(half);
            return;
        }
        // Clients mostly speak first, and have by now. A target that is dialled
        // and told in one go is woken once.
        half.inward.begin(&half.client, &mut core.pool);
        if let Some((half, error)) = self.dial(core, half) {
            self.wait(core, half, &error);
        }
    }

    /// Whether the target takes messages.
    fn messages(&self) -> bool {
        matches!(self.target, Endpoint::Datagram(_))
    }

    /// Starts the other half. Gives the connection back when the target is not
    /// there.
    fn dial(&mut self, core: &mut Core, half: Half) -> Option<(Half, io::Error)> {
        match self.target.dial() {
            Ok(Dialled::Connected(target)) => self.join(core, half, target),
            Ok(Dialled::Pending(target)) => self.dialling(core, half, target),
            Err(error) if is_transient(&error) => return Some((half, error)),
            Err(error) => self.close(core, half, &error),
        }
        None
    }

    /// The target has to answer first.
    fn dialling(&mut self, core: &mut Core, half: Half, target: Socket) {
        let Some(key) = self.connections.insert(Connection::Dialling { half, target }) else {
            return;
        };
        let token = self.token(Part::Link(key, Side::Target));
        if let Some(Connection::Dialling { target, .. }) = self.connections.get_mut(key)
            && core.epoll.add(&*target, EpollEvent::new(READ_AND_WRITE, token.into())).is_ok()
        {
            self.dialling.push_back((key, Instant::now()));
        } else if let Some(Connection::Dialling { mut half, .. }) = self.connections.remove(key) {
            half.inward.stop(End::Refused, &mut core.pool);
        }
    }

    /// The socket of a target that is being dialled became writable: it has
    /// answered, or not.
    fn dialled(&mut self, core: &mut Core, key: Key) {
        if let Some(Connection::Dialling { half, target }) = self.connections.remove(key) {
            match target.take_error().and_then(|error| error.map_or(Ok(()), Err)) {
                Ok(()) => {
                    // Watched anew, as one half of a whole connection.
                    let _ = core.epoll.delete(&target);
                    self.join(core, half, target);
                }
                Err(error) if is_transient(&error) => self.wait(core, half, &error),
                Err(error) => self.close(core, half, &error),
            }
        }
        self.forget_dialled(core, None);
        self.rest();
    }

    /// Drops notes about connections that are past being dialled, and
    /// connections that have been at it for too long.
    fn forget_dialled(&mut self, core: &mut Core, now: Option<Instant>) {
        while let Some((key, started)) = self.dialling.front().copied() {
            if matches!(self.connections.get_mut(key), Some(Connection::Dialling { .. })) {
                if now.is_none_or(|now| started + DIALLING > now) {
                    return;
                }
                if let Some(Connection::Dialling { half, .. }) = self.connections.remove(key) {
                    self.close(core, half, &ErrorKind::TimedOut.into());
                }
            }
            self.dialling.pop_front();
        }
    }

    /// Both halves are there.
    fn join(&mut self, core: &mut Core, half: Half, target: Socket) {
        let link = Link::new(half.client, target, half.inward, self.messages());
        let whole = Connection::Whole { link, client_armed: false, target_armed: false, wide: false };
        let Some(key) = self.connections.insert(whole) else {
            return;
        };
        let closed = self.unanswered.end();
        if closed > 0 {
            let listen = &self.door.listen;
            core.log
                .line(format_args!("{listen}: {} answers again; closed meanwhile: {closed}", self.target));
        }
        if let Err(error) = self.begin(core, key) {
            core.log.line(format_args!("{}: epoll: {error}: connection closed", self.door.listen));
            if let Some(Connection::Whole { mut link, .. }) = self.connections.remove(key) {
                link.stop(&mut core.pool);
            }
        }
    }

    /// The first turn of a connection that has become whole. Both its sockets
    /// are watched from then on: what comes first does not have to wait for
    /// that.
    fn begin(&mut self, core: &mut Core, key: Key) -> nix::Result<()> {
        let task = self.number;
        let Some(Connection::Whole { link, client_armed, target_armed, .. }) = self.connections.get_mut(key)
        else {
            return Ok(());
        };
        let Needs { client_writable, target_writable, turn, nothing } = link.begin(&mut core.pool);
        if nothing {
            self.ended(core, key);
            return Ok(());
        }
        (*client_armed, *target_armed) = (client_writable, target_writable);
        let (client, target) = link.sockets();
        for (needed, socket, end, side) in [
            (client_writable, client, &self.door.listen, Side::Client),
            (target_writable, target, &self.target, Side::Target),
        ] {
            if needed {
                widen(socket, end);
            }
            let token = Token { task, part: Part::Link(key, side) };
            let flags = if needed { READ_AND_WRITE } else { READ };
            core.epoll.add(socket, EpollEvent::new(flags, token.into()))?;
        }
        if turn {
            core.again.push(self.token(Part::Link(key, Side::Client)));
        }
        Ok(())
    }

    /// Nobody is there: the connection waits, unless it has waited long enough.
    fn wait(&mut self, core: &mut Core, mut half: Half, error: &io::Error) {
        let now = Instant::now();
        let since = *half.since.get_or_insert(now);
        if now.duration_since(since) >= self.terms.patience {
            self.close(core, half, error);
            return;
        }
        self.waiting.push_front(half);
        self.retry.later(&core.epoll, self.token(Part::Watch), self.target.path(), now);
    }

    /// Tries the target again for all that wait, until it is not there.
    fn try_again(&mut self, core: &mut Core) {
        self.retry.trying();
        while let Some(half) = self.waiting.pop_front() {
            if let Some((half, error)) = self.dial(core, half) {
                self.wait(core, half, &error);
                if self.retry.deadline().is_some() {
                    return;
                }
            }
        }
        self.rest();
    }

    /// Forgets how long tries took once nothing is left to try for.
    fn rest(&mut self) {
        if self.waiting.is_empty() && self.dialling.is_empty() {
            self.retry.rest();
        }
    }

    /// Closes a connection that cannot be made whole. Said once until the
    /// target answers, and then counted.
    fn close(&mut self, core: &mut Core, mut half: Half, error: &io::Error) {
        half.inward.stop(End::Refused, &mut core.pool);
        drop(half);
        if let Some(times) = self.unanswered.add(Instant::now()) {
            let listen = &self.door.listen;
            core.log.line(format_args!("{listen}: {}: {error}: connection closed{times}", self.target));
        }
    }

    /// Something happened on a connection, or its next turn has come.
    fn turn(&mut self, core: &mut Core, key: Key, side: Side, flags: EpollFlags) {
        let task = self.number;
        let (link, client_armed, target_armed, wide) = match self.connections.get_mut(key) {
            Some(Connection::Whole { link, client_armed, target_armed, wide }) => {
                (link, client_armed, target_armed, wide)
            }
            Some(Connection::Dialling { .. }) => return self.dialled(core, key),
            // It ended a moment ago.
            None => return,
        };
        link.note(side, flags);
        let Needs { client_writable, target_writable, turn, nothing } = link.drive(&mut core.pool);
        if nothing {
            return self.ended(core, key);
        }
        let (client, target) = link.sockets();
        let (inward, outward, _) = link.totals();
        if !*wide {
            *wide = match (&self.door.listen, &self.target) {
                (Endpoint::Vsock(..), _) => core.windows.open(client, inward),
                (_, Endpoint::Vsock(..)) => core.windows.open(target, outward),
                _ => false,
            };
        }
        for (needed, armed, socket, end, side) in [
            (client_writable, client_armed, client, &self.door.listen, Side::Client),
            (target_writable, target_armed, target, &self.target, Side::Target),
        ] {
            if needed && !*armed {
                widen(socket, end);
                let token = Token { task, part: Part::Link(key, side) };
                *armed =
                    core.epoll.modify(socket, &mut EpollEvent::new(READ_AND_WRITE, token.into())).is_ok();
            }
        }
        if turn {
            core.again.push(self.token(Part::Link(key, side)));
        }
    }

    fn ended(&mut self, core: &mut Core, key: Key) {
        let Some(Connection::Whole { link, wide, .. }) = self.connections.remove(key) else {
            return;
        };
        core.windows.close(wide);
        let listen = &self.door.listen;
        let (inward, outward, lost) = link.totals();
        // Who serves one client after the other waits for the target's end.
        let (client, target) = link.into_sockets();
        drop(target);
        core.closing.push(client);
        core.log.detail(format_args!("{listen}: connection closed: {inward} bytes in, {outward} bytes out"));
        if lost > 0
            && let Some(times) = self.lost.add(Instant::now())
        {
            core.log.line(format_args!(
                "{listen}: {lost} messages of a connection were cut off or too long{times}"
            ));
        }
    }
}

/// A unix socket that was full counts as writable when three quarters of it
/// are empty again: let that be a piece worth waking up for. Connections that
/// never fill one need no more.
fn widen(socket: &Socket, end: &Endpoint) {
    if let Endpoint::Unix(_) = end {
        let _ = socket.set_send_buffer_size(CAPACITY);
    }
}

impl Task for Forward {
    fn start(&mut self, core: &mut Core, number: u16) -> io::Result<()> {
        self.number = number;
        self.door.open(core, self.token(Part::Listener))
    }

    fn event(&mut self, core: &mut Core, part: Part, flags: EpollFlags) {
        match part {
            Part::Listener => self.accept(core),
            Part::Link(key, side) => self.turn(core, key, side, flags),
            Part::Watch if self.retry.appeared(self.target.path()) => self.try_again(core),
            Part::Watch | Part::Sink => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let dialling = self.dialling.front().map(|(_, started)| *started + DIALLING);
        [self.door.deadline(), self.retry.deadline(), dialling].into_iter().flatten().min()
    }

    fn expired(&mut self, core: &mut Core, now: Instant) {
        self.door.expired(core, self.token(Part::Listener), now);
        if self.retry.is_due(now) {
            self.try_again(core);
        }
        self.forget_dialled(core, Some(now));
    }
}
