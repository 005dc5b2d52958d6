// SPDX-License-Identifier: Apache-2.0
//! The event loop: one thread, one epoll(7) instance, and the tasks that the
//! rules became. Between events nothing runs.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use socket2::Socket;

use crate::buffer::Pool;
use crate::link::Side;
use crate::log::Log;
use crate::slab::Key;
use crate::window::Windows;

/// How many events one epoll_wait(2) returns at most.
const EVENTS: usize = 64;

/// Which of a task's descriptors something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The one it listens on.
    Listener,
    /// The one it sends to.
    Sink,
    /// The one that reports on directories.
    Watch,
    /// An end of a connection.
    Link(Key, Side),
}

/// What epoll(7) hands back with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The task's number.
    pub task: u16,
    /// Which descriptor of it.
    pub part: Part,
}

/// The signals' token: no task has that number.
const SIGNALS: u64 = u64::MAX;

/// How many tasks there can be: 13 bits for their number, and one value less.
pub const TASKS: usize = (1 << 13) - 1;

impl From<Token> for u64 {
    // From the lowest bit: 3 for the part, 13 for the task, 24 for the slot,
    // 24 for the generation.
    fn from(token: Token) -> Self {
        let (part, slot, generation) = match token.part {
            Part::Listener => (0, 0, 0),
            Part::Sink => (1, 0, 0),
            Part::Watch => (2, 0, 0),
            Part::Link(key, Side::Client) => (3, key.slot, key.generation),
            Part::Link(key, Side::Target) => (4, key.slot, key.generation),
        };
        part | Self::from(token.task) << 3 | Self::from(slot) << 16 | Self::from(generation) << 40
    }
}

impl Token {
    fn from_bits(bits: u64) -> Option<Self> {
        let field = |shift: u32, width: u32| u32::try_from(bits >> shift & ((1 << width) - 1)).ok();
        let key = Key { slot: field(16, 24)?, generation: field(40, 24)? };
        let part = match bits & 7 {
            0 => Part::Listener,
            1 => Part::Sink,
            2 => Part::Watch,
            3 => Part::Link(key, Side::Client),
            4 => Part::Link(key, Side::Target),
            _ => return None,
        };
        Some(Self { task: u16::try_from(field(3, 13)?).ok()?, part })
    }
}

/// What all tasks share.
#[derive(Debug)]
pub struct Core {
    /// Where descriptors are watched.
    pub epoll: Epoll,
    /// Memory for bytes under way.
    pub pool: Pool,
    /// What vsock sockets may queue.
    pub windows: Windows,
    /// Where to say what happens.
    pub log: Log,
    /// Connections that have more to do than one turn.
    pub again: Vec<Token>,
    /// Sockets that are done with. Closing one of vsock sends a packet, which
    /// can wait until nobody else does.
    pub closing: Vec<Socket>,
    /// Set when nothing is left to do: whether it was done.
    pub done: Option<bool>,
}

/// One rule at work.
pub trait Task {
    /// Begins, as the task with this number.
    ///
    /// # Errors
    /// When the kernel refuses to watch its descriptors.
    fn start(&mut self, core: &mut Core, number: u16) -> io::Result<()>;

    /// Something happened on one of its descriptors, or a connection's next
    /// turn has come (then without flags).
    fn event(&mut self, core: &mut Core, part: Part, flags: EpollFlags);

    /// When it wants to be called although nothing happened.
    fn deadline(&self) -> Option<Instant>;

    /// That time has come.
    fn expired(&mut self, core: &mut Core, now: Instant);
}

/// Holds back SIGTERM and SIGINT until an engine asks for them. Call it first:
/// neither ends the program halfway then, and a process that is PID 1 of its
/// container gets no signal it does not handle anyway.
///
/// # Errors
/// The kernel's.
pub fn hold_signals() -> nix::Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    Ok(signals)
}

/// The loop, ready to run: it has what it needs of the kernel.
#[derive(Debug)]
pub struct Engine {
    core: Core,
    /// Open for as long as the loop runs.
    _signals: SignalFd,
}

impl Engine {
    /// Makes it, in the process that runs it: a signalfd(2) that is watched
    /// before a fork(2) reports the parent's signals.
    ///
    /// # Errors
    /// When the kernel refuses epoll(7) or signalfd(2).
    pub fn new(log: Log, held: &SigSet) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let signals = SignalFd::with_flags(held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        let core = Core {
            epoll,
            pool: Pool::default(),
            windows: Windows::default(),
            log,
            again: Vec::new(),
            closing: Vec::new(),
            done: None,
        };
        Ok(Self { core, _signals: signals })
    }

    /// Runs tasks until SIGTERM or SIGINT, or until one says that nothing is
    /// left to do; false when that could not be done.
    ///
    /// # Errors
    /// When the kernel refuses to watch a task's descriptors, or to wait.
    pub fn run(mut self, tasks: &mut [Box<dyn Task>]) -> io::Result<bool> {
        let core = &mut self.core;
        for (number, task) in (0..).zip(tasks.iter_mut()) {
            task.start(core, number)?;
        }
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut count = 0;
        loop {
            if let Some(done) = core.done {
                return Ok(done);
            }
            let wait = if core.again.is_empty() { wait(tasks) } else { EpollTimeout::ZERO };
            count = match next(core, &mut events, wait, count > 0) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in events.iter().take(count) {
                if event.data() == SIGNALS {
                    return Ok(true);
                }
                if let Some(token) = Token::from_bits(event.data()) {
                    dispatch(tasks, core, token, event.events());
                }
            }
            for token in std::mem::take(&mut core.again) {
                dispatch(tasks, core, token, EpollFlags::empty());
            }
            expire(tasks, core);
        }
    }
}

/// The next events; `busy` after some were dealt with.
///
/// Whoever was just sent something may answer at once, and may have only been
/// waiting for this processor: let it. When the answer is there first, nobody
/// has to wake this thread, which epoll(7) does on an idle processor if there
/// is one. docs/vsudd.md has what this saves.
fn next(core: &mut Core, events: &mut [EpollEvent], wait: EpollTimeout, busy: bool) -> nix::Result<usize> {
    if busy && core.again.is_empty() {
        thread::yield_now();
    }
    if (1..EVENTS).contains(&core.closing.len()) {
        let count = core.epoll.wait(events, EpollTimeout::ZERO)?;
        if count > 0 {
            return Ok(count);
        }
    }
    core.closing.clear();
    core.epoll.wait(events, wait)
}

fn dispatch(tasks: &mut [Box<dyn Task>], core: &mut Core, token: Token, flags: EpollFlags) {
    if let Some(task) = tasks.get_mut(usize::from(token.task)) {
        task.event(core, token.part, flags);
    }
}

/// How long nothing needs to be done, rounded up to milliseconds.
fn wait(tasks: &[Box<dyn Task>]) -> EpollTimeout {
    let Some(next) = tasks.iter().filter_map(|task| task.deadline()).min() else {
        return EpollTimeout::NONE;
    };
    let left = next.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
}

fn expire(tasks: &mut [Box<dyn Task>], core: &mut Core) {
    if tasks.iter().all(|task| task.deadline().is_none()) {
        return;
    }
    let now = Instant::now();
    for task in tasks {
        if task.deadline().is_some_and(|deadline| deadline <= now) {
            task.expired(core, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_read_back(task in 0..TASKS as u16, slot in 0..Key::SLOTS, generation in 0..Key::GENERATIONS) {
            let key = Key { slot, generation };
            for part in [Part::Listener, Part::Sink, Part::Watch, Part::Link(key, Side::Client), Part::Link(key, Side::Target)] {
                let token = Token { task, part };
                prop_assert_eq!(Token::from_bits(token.into()), Some(token));
                prop_assert_ne!(u64::from(token), SIGNALS);
            }
        }
    }
}
