// SPDX-License-Identifier: Apache-2.0
//! `memlogd`: one thread, one loop. Logs are read a little at a time, each in
//! its turn; those who follow are written to when they can take it, and whoever
//! cannot misses lines and is told how many.

mod follower;
mod source;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use init::sys::{pass, process};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::arguments::{Daemon as Options, Socket};
use crate::entry::{Entry, now};
use crate::ring::Ring;
use follower::{Follower, State};
use source::Source;

/// The name that memlogd's own lines have.
pub const OWN: &str = "memlogd";

const LOGS: u64 = 0;
const QUERIES: u64 = 1;
const SIGNALS: u64 = 2;
const FIRST: u64 = 3;

/// The longest name of a log.
const NAME: usize = 4096;

/// So many rounds are read of what still waits when the machine goes down.
const LAST_ROUNDS: u32 = 64;

/// Why memlogd does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its sockets.
    #[error("cannot open {socket}: {source}")]
    Socket {
        /// Which.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// Another one has the socket.
    #[error("{0} is in use: another one runs")]
    InUse(String),
    /// The kernel gave it no event loop or process.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs until SIGTERM.
///
/// # Errors
/// What keeps it from beginning.
pub fn run(options: &Options) -> Result<(), Error> {
    let log = match &options.log {
        Socket::Descriptor(number) => {
            socket(format!("descriptor {number}"), pass::inherited(*number))?.into()
        }
        Socket::Path(path) => {
            let used = UnixDatagram::unbound().and_then(|socket| socket.connect(path)).is_ok();
            free(path, used)?;
            socket(path.display().to_string(), UnixDatagram::bind(path))?
        }
    };
    let query = match &options.query {
        Socket::Descriptor(number) => {
            socket(format!("descriptor {number}"), pass::inherited(*number))?.into()
        }
        Socket::Path(path) => {
            free(path, UnixStream::connect(path).is_ok())?;
            socket(path.display().to_string(), UnixListener::bind(path))?
        }
    };
    // From here on they wait until they are asked for, also in the process to come.
    ends().thread_block().map_err(io::Error::from)?;
    let serve = || Memlogd::new(options, log, query).map(Memlogd::run);
    if options.daemonize {
        // This program has one thread. The process that was called ends here,
        // with both sockets there.
        process::fork(|| i32::from(leave_terminal().and_then(|()| serve()).is_err()))?;
        return Ok(());
    }
    Ok(serve()?)
}

/// The signals that end it.
fn ends() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
}

fn socket<T>(name: String, opened: io::Result<T>) -> Result<T, Error> {
    opened.map_err(|source| Error::Socket { socket: name, source })
}

/// Removes a socket that a dead process has left.
fn free(path: &Path, used: bool) -> Result<(), Error> {
    if used {
        return Err(Error::InUse(path.display().to_string()));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => socket(path.display().to_string(), Err(error)),
        _ => Ok(()),
    }
}

/// Lets go of whatever the caller works with.
fn leave_terminal() -> io::Result<()> {
    let _ = nix::unistd::setsid();
    // It may have been called by the name of a script.
    let _ = nix::sys::prctl::set_name(c"memlogd");
    std::env::set_current_dir("/")?;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

struct Memlogd {
    epoll: Epoll,
    logs: UnixDatagram,
    queries: UnixListener,
    _signals: SignalFd,
    ring: Ring,
    max_line_len: usize,
    sources: BTreeMap<u64, Source>,
    followers: BTreeMap<u64, Follower>,
    next: u64,
    /// The ring's next line when all who follow were last looked after.
    told: u64,
}

impl Memlogd {
    fn new(options: &Options, logs: UnixDatagram, queries: UnixListener) -> io::Result<Self> {
        logs.set_nonblocking(true)?;
        queries.set_nonblocking(true)?;
        let signals = SignalFd::with_flags(&ends(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&logs, EpollEvent::new(EpollFlags::EPOLLIN, LOGS))?;
        epoll.add(&queries, EpollEvent::new(EpollFlags::EPOLLIN, QUERIES))?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        let mut memlogd = Self {
            epoll,
            logs,
            queries,
            _signals: signals,
            ring: Ring::new(options.max_lines),
            max_line_len: options.max_line_len,
            sources: BTreeMap::new(),
            followers: BTreeMap::new(),
            next: FIRST,
            told: 0,
        };
        memlogd.say("memlogd started");
        Ok(memlogd)
    }

    /// A line of its own.
    fn say(&mut self, text: &str) {
        self.ring.push(Entry { time: now(), source: OWN.into(), msg: text.as_bytes().into() });
    }

    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = self.epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or_default();
            for event in events.iter().take(count) {
                match event.data() {
                    LOGS => self.take_logs(),
                    QUERIES => self.accept(),
                    SIGNALS => return self.end(),
                    number if self.sources.contains_key(&number) => self.read(number),
                    number => self.serve(number, event.events()),
                }
                // Before those who follow and keep up can miss anything.
                if self.ring.next() - self.told >= self.ring.most() as u64 / 8 {
                    self.tell_all();
                }
            }
            self.tell_all();
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes the logs that are handed in.
    fn take_logs(&mut self) {
        let mut name = [0; NAME];
        while let Ok((count, descriptors)) = pass::receive(&self.logs, &mut name) {
            let name = String::from_utf8_lossy(name.get(..count).unwrap_or_default());
            let name = name.trim_end_matches(['\0', '\n']).to_owned();
            for descriptor in descriptors {
                if let Err(error) = self.add(&name, descriptor) {
                    self.say(&format!("{name}: cannot be read: {error}"));
                }
            }
        }
    }

    fn add(&mut self, name: &str, descriptor: OwnedFd) -> io::Result<()> {
        let file = File::from(descriptor);
        let number = self.number();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        match self.epoll.add(&file, event) {
            Ok(()) => {
                let source = Source::new(file, name, self.max_line_len)?;
                self.sources.insert(number, source);
            }
            // A plain file is always ready: all of it is read at once.
            Err(Errno::EPERM) => {
                let mut source = Source::new(file, name, self.max_line_len)?;
                while source.read(&mut self.ring)? {}
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn read(&mut self, number: u64) {
        let Some(source) = self.sources.get_mut(&number) else { return };
        match source.read(&mut self.ring) {
            Ok(true) => {}
            Ok(false) => drop(self.sources.remove(&number)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                if let Some(source) = self.sources.remove(&number) {
                    self.say(&format!("{}: cannot be read: {error}", source.name()));
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.queries.accept() {
            let number = self.number();
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
            if socket.set_nonblocking(true).is_ok() && self.epoll.add(&socket, event).is_ok() {
                self.followers.insert(number, Follower::new(socket));
            }
        }
    }

    /// Looks after one who asks: there is a question, or room for an answer.
    fn serve(&mut self, number: u64, events: EpollFlags) {
        let Some(follower) = self.followers.get_mut(&number) else { return };
        let state = if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            State::Done
        } else {
            follower.ask(&self.ring);
            follower.tell(&self.ring)
        };
        self.settle(number, state);
    }

    /// Tells those who follow what is new.
    fn tell_all(&mut self) {
        if self.told == self.ring.next() {
            return;
        }
        self.told = self.ring.next();
        let waiting = self.followers.iter().filter(|(_, follower)| follower.waits_for_lines());
        let numbers: Vec<u64> = waiting.map(|(number, _)| *number).collect();
        for number in numbers {
            if let Some(follower) = self.followers.get_mut(&number) {
                let state = follower.tell(&self.ring);
                self.settle(number, state);
            }
        }
    }

    fn settle(&mut self, number: u64, state: State) {
        let Some(follower) = self.followers.get(&number) else { return };
        let wanted = match state {
            State::Done => {
                self.followers.remove(&number);
                return;
            }
            State::Asks => EpollFlags::EPOLLIN,
            State::Waits => EpollFlags::empty(),
            State::Full => EpollFlags::EPOLLOUT,
        };
        // It is in the set: this fails for want of memory only.
        let _ = self.epoll.modify(follower.socket(), &mut EpollEvent::new(wanted, number));
    }

    /// What waits is read and told, as far as that goes without waiting.
    fn end(mut self) {
        self.take_logs();
        self.accept();
        let numbers: Vec<u64> = self.followers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.serve(number, EpollFlags::empty()));
        for _ in 0..LAST_ROUNDS {
            let numbers: Vec<u64> = self.sources.keys().copied().collect();
            let before = self.ring.next();
            numbers.into_iter().for_each(|number| self.read(number));
            self.tell_all();
            if self.ring.next() == before {
                break;
            }
        }
        self.say("memlogd ended");
        self.tell_all();
    }
}
