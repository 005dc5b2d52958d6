// SPDX-License-Identifier: Apache-2.0
//! PID 1: starts rc.init and keeps it running, reaps what nobody else does,
//! and takes the machine down when a signal asks for it.
//!
//! One loop, one thread, no heap: [`Init::turn`] sleeps until a signal or a
//! deadline, hands what happened to [`policy`], and does what that says. It
//! never ends, and nothing it calls can hold it up: what may take its time (a
//! program, the last write to the disks) runs in a child.

pub mod policy;
pub mod watchdog;

mod last;
mod note;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, stat};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, access, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::console::Level;
use crate::log::{self, Log};
use crate::reaped::{self, Ring};
use crate::sys::power::{self, PowerAction};
use crate::sys::process::{self, Child};
use crate::sys::signal::{self, Signals};
use crate::sys::watchdog::{DEVICE, Watchdog};
use crate::sys::{clock, fault, memory};
use note::Note;
use policy::{Effect, Event, Policy, Program};
use watchdog::{Feeding, Meal};

/// How many children one turn reaps, so that processes which end faster than
/// they are reaped cannot keep a signal from being heard.
const REAP_AT_ONCE: usize = 256;

/// How long nothing has to happen before PID 1 makes itself small.
const IDLE: Duration = Duration::from_millis(100);

/// The environment variable that children get where nobody has set it.
const SEARCH_PATH: (&str, &str) = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

/// The files that PID 1 knows.
#[derive(Debug, Clone, Copy)]
pub struct Paths {
    /// The boot and the supervisor.
    pub rc: &'static CStr,
    /// What takes the machine down; its argument is a [`PowerAction`].
    pub shutdown: &'static CStr,
    /// Standard input, output and error of both, where it can be opened.
    pub console: &'static CStr,
    /// While this exists rc.init is not started again: rc.shutdown makes it,
    /// and touches it while the way down goes on.
    pub marker: &'static CStr,
    /// The record of what was reaped.
    pub reaped: &'static str,
    /// The watchdog.
    pub watchdog: &'static CStr,
}

/// Where they are in an image.
pub const PATHS: Paths = Paths {
    rc: c"/bin/rc.init",
    shutdown: c"/bin/rc.shutdown",
    console: c"/dev/console",
    marker: c"/run/lkinit/shutdown",
    reaped: reaped::PATH,
    watchdog: DEVICE,
};

/// PID 1.
#[derive(Debug)]
pub struct Init {
    paths: Paths,
    policy: Policy,
    signals: Signals,
    log: Log,
    ring: Ring,
    program: memory::Program,
    watchdog: Option<Watchdog>,
    feeding: Feeding,
    /// When rc.shutdown last gave a sign of life: the time of its file.
    sign: Option<TimeSpec>,
    /// There may be more to reap than the last turn did.
    unreaped: bool,
}

/// Is PID 1 from here on.
pub fn run() -> i32 {
    fault::report();
    process::default_variable(SEARCH_PATH.0, SEARCH_PATH.1);
    // A container has no such key, and may not change the machine's.
    let _ = power::set_ctrl_alt_del(false);
    let mut init = match Init::new(PATHS) {
        Ok(init) => init,
        Err(error) => {
            Log::default().line(Level::Error, format_args!("blocking signals: {error}"));
            return 1;
        }
    };
    loop {
        init.turn();
    }
}

impl Init {
    /// Takes over signals and children. The first turn starts rc.init.
    ///
    /// # Errors
    /// Those of [`Signals::block`].
    pub fn new(paths: Paths) -> std::io::Result<Self> {
        let (signals, log) = (Signals::block()?, Log::default());
        Ok(Self {
            paths,
            policy: Policy::new(),
            signals,
            log,
            ring: Ring::new(),
            program: memory::Program::find(),
            watchdog: None,
            feeding: Feeding::Off,
            sign: None,
            unreaped: true,
        })
    }

    /// Waits for what comes next and sees to it.
    pub fn turn(&mut self) {
        self.happened(Event::Time);
        self.feed();
        match self.wait() {
            Some(libc::SIGHUP) => self.look_at_watchdog(),
            Some(signal) => self.happened(Event::Signal(signal)),
            None => {}
        }
        self.reap();
    }

    /// Waits for a signal until the next deadline. Lets go of the program's own
    /// pages when there has been nothing to do for a while.
    fn wait(&self) -> Option<i32> {
        let timeout = match self.unreaped {
            true => Some(Duration::ZERO),
            false => {
                let deadlines = [self.policy.deadline(), self.feeding.deadline()];
                let next = deadlines.into_iter().flatten().min();
                next.map(|at| at.saturating_sub(clock::since_boot()))
            }
        };
        if timeout.is_some_and(|timeout| timeout <= IDLE) {
            return self.signals.wait(timeout);
        }
        let signal = self.signals.wait(Some(IDLE));
        if signal.is_some() {
            return signal;
        }
        self.signals.wait_small(&self.program, timeout.map(|timeout| timeout - IDLE))
    }

    /// Reaps what has ended, whoever its parent was, each after its record is
    /// written. A SIGCHLD says only that there is something: several are one.
    fn reap(&mut self) {
        self.unreaped = false;
        self.ring.attach(Path::new(self.paths.reaped));
        for _ in 0..REAP_AT_ONCE {
            match process::ended_child() {
                Child::Ended { pid, status } => {
                    let start_time = reaped::start_time(pid).unwrap_or(0);
                    self.ring.push(pid, start_time, status, clock::since_boot());
                    process::reap(pid);
                    let meant = self.policy.is_rc(pid) && self.going_down();
                    self.happened(if meant { Event::NotWanted } else { Event::Ended(pid, status) });
                }
                Child::Alive => return,
                Child::None => return self.happened(Event::Childless),
            }
        }
        self.unreaped = true;
    }

    /// Starts the watchdog that the command line asks for, if it does not run
    /// yet; stops it where rc.shutdown says that the machine is to halt. rc
    /// says by SIGHUP that it is time to look: the device comes with a module.
    fn look_at_watchdog(&mut self) {
        if self.watchdog.is_some() {
            let mut text = [0; 8];
            if first_bytes(self.paths.marker, &mut text) == b"halt"
                && let Some(watchdog) = self.watchdog.take()
            {
                watchdog.stop();
                self.feeding = Feeding::Off;
                self.say(Note::WatchdogStopped);
            }
            return;
        }
        let mut buffer = [0; 4096];
        let timeout = match watchdog::wanted(log::command_line(&mut buffer)) {
            Ok(None) => return,
            Ok(Some(timeout)) => timeout,
            Err(_) => return self.say(Note::WatchdogValue),
        };
        match Watchdog::start(self.paths.watchdog, timeout) {
            Ok((watchdog, timeout)) => {
                self.watchdog = Some(watchdog);
                self.feeding = Feeding::started(timeout, clock::since_boot());
                self.say(Note::Watched(timeout));
            }
            Err(error) => self.say(Note::Unwatched(error.raw_os_error().unwrap_or(Errno::EIO as i32))),
        }
    }

    fn feed(&mut self) {
        let now = clock::since_boot();
        if self.policy.is_leaving() {
            let sign = modified(self.paths.marker);
            if sign != self.sign {
                self.sign = sign;
                self.policy.sign_of_life(now);
            }
        }
        match (self.feeding.step(self.policy.hopeless(now), now), &self.watchdog) {
            (Some(Meal::Feed), Some(watchdog)) => watchdog.feed(),
            (Some(Meal::Starve(reason, timeout)), _) => self.say(Note::Starved(reason, timeout)),
            _ => {}
        }
    }

    fn say(&mut self, note: Note) {
        self.log.line(note.level(), format_args!("{note}"));
    }

    fn happened(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next {
            let decision = self.policy.step(event, clock::since_boot());
            if let Some(note) = decision.note {
                self.say(note);
            }
            next = decision.effect.and_then(|effect| self.carry_out(effect));
        }
    }

    /// Does one thing; gives what came of it, if that matters.
    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::StartRc => {
                if self.going_down() {
                    return Some(Event::NotWanted);
                }
                Some(self.start(Program::Rc, self.paths.rc, &[self.paths.rc]))
            }
            Effect::StartShutdown(action) => {
                let program = self.paths.shutdown;
                Some(self.start(Program::Shutdown, program, &[program, word(action)]))
            }
            Effect::SignalAll(signal) => {
                // The only error is EPERM, for processes that are not ours to end.
                let _ = process::signal_all(signal);
                self.unreaped = true;
                None
            }
            Effect::StartFinal(action) => {
                let child = || last::run(action, &mut Log::default());
                Some(started(Program::Final, process::fork(child)))
            }
            Effect::Reboot(action) => {
                last::end(action, &mut self.log);
                None
            }
        }
    }

    /// Whether rc.shutdown is at work, whoever has called it.
    fn going_down(&self) -> bool {
        access(self.paths.marker, AccessFlags::F_OK).is_ok()
    }

    /// Runs a program in a session of its own, with the console for standard
    /// input, output and error. A program that cannot be executed says so
    /// there and ends with the shells' exit status for that.
    fn start(&self, program: Program, path: &CStr, words: &[&CStr]) -> Event {
        let child = || {
            let _ = setsid();
            // Where it does not open (a container without a terminal), PID 1's
            // own streams stay.
            if let Ok(console) = open(self.paths.console, OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty()) {
                let _ = dup2_stdin(&console).and(dup2_stdout(&console)).and(dup2_stderr(&console));
            }
            signal::unblock_all();
            let error = process::exec(path, words);
            Log::default()
                .line(Level::Error, format_args!("cannot run {}: {error}", path.to_str().unwrap_or("?")));
            127
        };
        started(program, process::fork(child))
    }
}

fn started(program: Program, result: std::io::Result<i32>) -> Event {
    match result {
        Ok(pid) => Event::Started(program, pid),
        Err(error) => Event::NotStarted(program, error.raw_os_error().unwrap_or(Errno::EIO as i32)),
    }
}

/// The beginning of a file; nothing of one that cannot be read.
fn first_bytes<'a>(path: &CStr, buffer: &'a mut [u8]) -> &'a [u8] {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let length = open(path, flags, Mode::empty()).and_then(|file| nix::unistd::read(&file, buffer));
    buffer.get(..length.unwrap_or(0)).unwrap_or_default()
}

/// When a file was written to, or touched; of the wall clock, which may be set.
fn modified(path: &CStr) -> Option<TimeSpec> {
    stat(path).ok().map(|data| TimeSpec::new(data.st_mtime, data.st_mtime_nsec))
}

fn word(action: PowerAction) -> &'static CStr {
    match action {
        PowerAction::Poweroff => c"poweroff",
        PowerAction::Reboot => c"reboot",
        PowerAction::Halt => c"halt",
        PowerAction::Noop => c"noop",
    }
}
