// SPDX-License-Identifier: Apache-2.0
//! `rc.logger`: the one process that reads what containers print.
//!
//! It is not rc, so that rc may be killed and no container notices, and so
//! that a flood of output costs rc nothing. It keeps no output in its own
//! memory: see [`file`]. One thread looks after all pipes, one turn each.

mod external;
mod file;
mod requests;
mod stream;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use init::cmdline::Cmdline;
use init::console::Console;
use init::{error, info, warning};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::record::{self, Record, Stream as Which};
use super::{EXTERNAL, PID, SOCKET};
use crate::process::{CGROUPS, Identity, leave_group};
use requests::Requests;
use stream::{Stream, Turn};

/// What the event loop waits for, besides streams and requests.
const CHANGES: u64 = 0;
const CALLERS: u64 = 1;
const SIGNALS: u64 = 2;

/// The first number of a stream or a request. Each has four: its own times
/// four, and one of these.
const FIRST: u64 = 1;
const FIFO: u64 = 0;
const OUTLET: u64 = 1;
const CALLER: u64 = 2;

/// A socket has its name a moment before it takes anything (bind(2) makes the
/// file first), and there is no event for that: it is tried so often, with so
/// many milliseconds in between.
const TRIES: u32 = 100;
const AGAIN: u16 = 20;

/// So many rounds are made for what still waits when the machine goes down.
const LAST_ROUNDS: u32 = 64;

/// `rc.logger [FOLDER EXTERNAL]`: with words, for tests, as an ordinary
/// program that tells its errors on standard error.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (folder, external, console) = match (arguments.next(), arguments.next()) {
        (Some(folder), Some(external)) => {
            let console = io::stderr().as_fd().try_clone_to_owned().map(fs::File::from).map(Console::to_file);
            (folder.into(), external.into(), console)
        }
        _ => {
            let console = Console::open(&Cmdline::current().unwrap_or_default());
            // Whoever started it may be in a control group that ends before this does.
            leave_group(Path::new(CGROUPS));
            (PathBuf::from(record::FOLDER), PathBuf::from(EXTERNAL), Ok(console))
        }
    };
    let Ok(console) = console else { return ExitCode::FAILURE };
    let _ = nix::unistd::setsid();
    match Logger::new(folder, external, console).map(|logger| logger.map(Logger::run)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rc.logger: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Logger {
    folder: PathBuf,
    external: PathBuf,
    console: Console,
    epoll: Epoll,
    changes: Inotify,
    callers: UnixListener,
    _signals: SignalFd,
    streams: BTreeMap<u64, Slot>,
    requests: Requests,
    next: u64,
    /// How often the external logger is still tried.
    again: u32,
    /// Nobody else is the logger while this is locked.
    _lock: Flock<fs::File>,
}

/// A stream and whose it is.
struct Slot {
    id: String,
    which: Which,
    stream: Stream,
}

impl Logger {
    /// Takes the place of the logger; `None` where there is one.
    fn new(folder: PathBuf, external: PathBuf, console: Console) -> io::Result<Option<Self>> {
        fs::create_dir_all(&folder)?;
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(PID))?;
        let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
        lock.set_len(0)?;
        if let Some(identity) = Identity::of(std::process::id().cast_signed()) {
            lock.write_all(identity.to_string().as_bytes())?;
        }
        // Four descriptors a container.
        for limit in crate::boot::machine::limits() {
            let _ = init::action::Kernel::apply(&init::sys::Linux, &limit);
        }
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGTERM);
        wanted.thread_block()?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // The watches come before what they are to see.
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        changes.add_watch(&folder, events)?;
        let near = external.parent().and_then(|parent| fs::canonicalize(parent).ok());
        if let Some(near) = near.filter(|near| *near != folder) {
            changes.add_watch(&near, events)?;
        }
        let socket = folder.join(SOCKET);
        let _ = fs::remove_file(&socket);
        let callers = UnixListener::bind(&socket)?;
        callers.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&changes, EpollEvent::new(EpollFlags::EPOLLIN, CHANGES))?;
        epoll.add(&callers, EpollEvent::new(EpollFlags::EPOLLIN, CALLERS))?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        let mut logger = Self {
            folder,
            external,
            console,
            epoll,
            changes,
            callers,
            _signals: signals,
            streams: BTreeMap::new(),
            requests: Requests::default(),
            next: FIRST,
            again: 0,
            _lock: lock,
        };
        logger.load_all();
        Ok(Some(logger))
    }

    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let timeout = if self.again > 0 { EpollTimeout::from(AGAIN) } else { EpollTimeout::NONE };
            let count = self.epoll.wait(&mut events, timeout).unwrap_or_default();
            for event in events.iter().take(count) {
                match event.data() {
                    CHANGES => self.look_at_changes(),
                    CALLERS => self.accept(),
                    SIGNALS => {
                        self.last_rounds();
                        return;
                    }
                    data => match data % 4 {
                        FIFO => self.turn(data / 4),
                        OUTLET => self.outlet(data / 4, event.events()),
                        _ => self.hear(data / 4),
                    },
                }
            }
            if self.again > 0 {
                self.again = if self.find_external_again() { 0 } else { self.again - 1 };
            }
            self.answer();
        }
    }

    /// Finds every log that there is a record of.
    fn load_all(&mut self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        for id in names.iter().filter_map(|name| record::id_of(name)) {
            self.load(id);
        }
    }

    /// Reads a record, and does with its streams what it says.
    fn load(&mut self, id: &str) {
        let record = match Record::read(&self.folder, id) {
            Ok(record) => record,
            // It has been removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return warning!(self.console, "logs: cannot read the record of {id}: {error}"),
        };
        for which in Which::ALL {
            let known = self.streams.iter_mut().find(|(_, slot)| slot.id == id && slot.which == which);
            let number = match known {
                Some((number, slot)) => {
                    slot.stream.follow(record.clone());
                    *number
                }
                None => match self.open(id, which, record.clone()) {
                    Ok(number) => number,
                    Err(error) => {
                        error!(self.console, "logs: cannot open a pipe of {id}: {error}; nobody reads it");
                        continue;
                    }
                },
            };
            self.look_for_external(number);
            if let Some(slot) = self.streams.get_mut(&number) {
                slot.stream.make_file(&self.console);
            }
        }
    }

    fn open(&mut self, id: &str, which: Which, record: Record) -> io::Result<u64> {
        let stream = Stream::open(&self.folder, id, which, record)?;
        let number = self.number();
        self.epoll.add(&stream.fifo, EpollEvent::new(EpollFlags::EPOLLIN, number * 4 + FIFO))?;
        self.streams.insert(number, Slot { id: id.to_owned(), which, stream });
        Ok(number)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn look_for_external(&mut self, number: u64) {
        let Some(slot) = self.streams.get_mut(&number) else { return };
        let found = find_external(&self.epoll, &self.external, number, &mut slot.stream);
        if let Err(error) = found {
            self.again = TRIES;
            let (socket, path) = (self.external.display(), slot.stream.path());
            warning!(
                self.console,
                "logs: {}: the external logger at {socket} does not take it: {error}; it goes to {}",
                slot.id,
                path.display()
            );
        }
    }

    fn look_at_changes(&mut self) {
        let Ok(events) = self.changes.read_events() else { return };
        let socket = self.external.file_name().map(ToOwned::to_owned);
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                self.load_all();
                continue;
            }
            let Some(name) = event.name else { continue };
            if Some(&name) == socket.as_ref() {
                self.again = TRIES;
            } else if event.mask.contains(AddWatchFlags::IN_MOVED_TO)
                && let Some(id) = record::id_of(&name.to_string_lossy())
            {
                self.load(id);
            }
        }
    }

    /// Logs that had to leave the external logger go there again, if its
    /// socket takes them. `false`: some could not.
    fn find_external_again(&mut self) -> bool {
        let mut all = true;
        for (number, slot) in self.streams.iter_mut().filter(|(_, slot)| slot.stream.has_left_external()) {
            match find_external(&self.epoll, &self.external, *number, &mut slot.stream) {
                Ok(true) => {
                    let name = slot.stream.outlet.as_ref().map_or("", |outlet| &outlet.name);
                    info!(self.console, "logs: the external logger reads {name} again");
                }
                Ok(false) => {}
                Err(_) => all = false,
            }
        }
        all
    }

    fn turn(&mut self, number: u64) {
        let Some(slot) = self.streams.get_mut(&number) else { return };
        if slot.stream.turn(&self.console) == Turn::Full {
            self.wait_for_outlet(number, true);
        }
    }

    /// Stops looking at a log's pipe until the external logger's has room, or
    /// begins again.
    fn wait_for_outlet(&self, number: u64, wait: bool) {
        let Some(slot) = self.streams.get(&number) else { return };
        let (fifo, outlet) = match wait {
            true => (EpollFlags::empty(), EpollFlags::EPOLLOUT),
            false => (EpollFlags::EPOLLIN, EpollFlags::empty()),
        };
        // Both are in the set: nothing can fail but for want of memory.
        let _ = self.epoll.modify(&slot.stream.fifo, &mut EpollEvent::new(fifo, number * 4 + FIFO));
        if let Some(pipe) = slot.stream.outlet.as_ref().map(|outlet| &outlet.pipe) {
            let _ = self.epoll.modify(pipe, &mut EpollEvent::new(outlet, number * 4 + OUTLET));
        }
    }

    fn outlet(&mut self, number: u64, events: EpollFlags) {
        let Some(slot) = self.streams.get_mut(&number) else { return };
        if events.contains(EpollFlags::EPOLLERR) {
            slot.stream.leave_external(&self.console);
        }
        self.wait_for_outlet(number, false);
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.callers.accept() {
            let number = self.number();
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number * 4 + CALLER);
            if socket.set_nonblocking(true).is_ok() && self.epoll.add(&socket, event).is_ok() {
                self.requests.add(number, socket);
            }
        }
    }

    fn hear(&mut self, number: u64) {
        let Some(request) = self.requests.hear(number) else { return };
        // Its container may be younger than the last look at the folder.
        if !self.streams.values().any(|slot| slot.id == request.id) {
            self.load(&request.id);
        }
        let numbers: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, slot)| slot.id == request.id)
            .map(|(number, _)| *number)
            .collect();
        for stream in numbers {
            if let Some(slot) = self.streams.get(&stream) {
                let wanted = slot.stream.taken + slot.stream.waiting() as u64;
                self.requests.wait_for(number, stream, wanted);
            }
        }
    }

    /// Answers requests whose streams have come far enough.
    fn answer(&mut self) {
        let far = |stream: u64| self.streams.get(&stream).map(|slot| slot.stream.taken);
        let ended = self.requests.ending(&far);
        // Before the answer: whoever gets it may make a log of that name anew.
        for id in &ended {
            record::remove(&self.folder, id);
        }
        self.requests.answer(&far);
        self.streams.retain(|_, slot| !ended.contains(&slot.id));
    }

    /// The machine goes down: what waits now is kept.
    fn last_rounds(&mut self) {
        for _ in 0..LAST_ROUNDS {
            let mut waits = false;
            for slot in self.streams.values_mut().filter(|slot| slot.stream.waiting() > 0) {
                waits |= slot.stream.turn(&self.console) == Turn::Done;
            }
            if !waits {
                return;
            }
        }
    }
}

/// Looks for the external logger for one log, and waits for its pipe's end.
fn find_external(epoll: &Epoll, socket: &Path, number: u64, stream: &mut Stream) -> io::Result<bool> {
    let found = stream.look_for_external(socket)?;
    if let Some(outlet) = stream.outlet.as_ref().filter(|_| found) {
        // An end without a reader says so, whatever it is asked for.
        epoll.add(&outlet.pipe, EpollEvent::new(EpollFlags::empty(), number * 4 + OUTLET))?;
    }
    Ok(found)
}

/// Whether a logger runs, by its file.
pub(super) fn running(folder: &Path) -> Option<Identity> {
    let identity: Identity = fs::read_to_string(folder.join(PID)).ok()?.parse().ok()?;
    identity.is_alive().then_some(identity)
}
