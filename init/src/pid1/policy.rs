// SPDX-License-Identifier: Apache-2.0
//! What PID 1 decides: a state machine without clock or system calls.
//!
//! [`Policy::step`] takes what happened and when, and answers with at most one
//! thing to say and one thing to do. Doing it may give the next event.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::note::Note;
use crate::sys::power::PowerAction;

/// The first wait before rc.init is started again, and after [`SETTLED`].
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait; each is twice the one before.
pub const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// An rc.init that has been up for so long starts with [`FIRST_DELAY`] again.
pub const SETTLED: Duration = Duration::from_secs(60);
/// What processes get to end after SIGTERM, if rc.shutdown has not stopped them.
pub const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// What the kernel gets to end them after SIGKILL.
pub const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// What writing to the disks may take before the machine goes down without it.
pub const FINAL_PATIENCE: Duration = Duration::from_secs(30);
/// So many ends of rc.init in a row, with none of its lives as long as
/// [`SETTLED`], and it counts as one that cannot be brought back: 13 s of waits
/// in all.
pub const HOPELESS: u32 = 8;
/// How long a machine on its way down may go without a sign of life of
/// rc.shutdown before it counts as one that hangs.
pub const DOWN_PATIENCE: Duration = Duration::from_secs(300);

/// Why the machine is better reset by its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hopeless {
    /// rc.init cannot be brought back.
    Rc,
    /// The way down does not end.
    Shutdown,
}

/// What a signal asks PID 1 for: sinit's conventions, busybox's, and
/// powerstatd's SIGPWR. `None` for all that is ignored.
pub fn request(signal: i32) -> Option<PowerAction> {
    match signal {
        libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGPWR => Some(PowerAction::Poweroff),
        libc::SIGINT | libc::SIGTERM => Some(PowerAction::Reboot),
        _ => None,
    }
}

/// The processes that PID 1 starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `/bin/rc.init`: the boot, and then the supervisor.
    Rc,
    /// `/bin/rc.shutdown`.
    Shutdown,
    /// The last step when rc.shutdown cannot do it: a copy of PID 1 that
    /// writes to the disks and ends the machine.
    Final,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Time went by.
    Time,
    /// A signal came.
    Signal(i32),
    /// A program was started: its process.
    Started(Program, i32),
    /// It could not be: errno.
    NotStarted(Program, i32),
    /// rc.init was not started because the machine is going down.
    NotWanted,
    /// A child ended: its number and wait status.
    Ended(i32, i32),
    /// No child is left.
    Childless,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start rc.init, unless rc.shutdown says that the machine is going down.
    StartRc,
    /// Start `rc.shutdown ACTION`.
    StartShutdown(PowerAction),
    /// A signal to every process.
    SignalAll(Signal),
    /// Write to the disks and end the machine, in a process of its own.
    StartFinal(PowerAction),
    /// End the machine at once.
    Reboot(PowerAction),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rc {
    /// To be started then.
    Due { at: Duration },
    /// Being started.
    Starting,
    /// Up.
    Up { pid: i32, since: Duration },
    /// Not to be started: the machine is going down.
    Down,
}

/// How far the way down has come. Every stage but `Script` ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not begun.
    Running,
    /// rc.shutdown does it; no process number while it is being started.
    Script { pid: Option<i32>, action: PowerAction },
    /// It did not: all processes have been asked to end.
    Terminating { action: PowerAction, until: Duration },
    /// They have been killed.
    Killing { action: PowerAction, until: Duration },
    /// The last step runs.
    Final { pid: Option<i32>, action: PowerAction, until: Duration },
    /// reboot(2) was called, and here we still are.
    Spent,
}

/// An answer to an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decision {
    /// Said first.
    pub note: Option<Note>,
    /// Done then.
    pub effect: Option<Effect>,
}

/// The state of the machine as far as PID 1 cares.
#[derive(Debug)]
pub struct Policy {
    rc: Rc,
    delay: Duration,
    stage: Stage,
    /// Short lives of rc.init in a row.
    failures: u32,
    /// When the machine began to go down, or rc.shutdown last gave a sign of life.
    leaving: Option<Duration>,
    /// [`DOWN_PATIENCE`]; tests have less.
    pub(super) patience: Duration,
}

impl Policy {
    /// A machine that has just started: rc.init is due.
    pub const fn new() -> Self {
        Self {
            rc: Rc::Due { at: Duration::ZERO },
            delay: FIRST_DELAY,
            stage: Stage::Running,
            failures: 0,
            leaving: None,
            patience: DOWN_PATIENCE,
        }
    }

    /// Whether there is no hope left that the machine will be of use, or go
    /// down, by itself.
    pub fn hopeless(&self, now: Duration) -> Option<Hopeless> {
        match self.leaving {
            Some(since) => (now.saturating_sub(since) >= self.patience).then_some(Hopeless::Shutdown),
            None => {
                // A watchdog may come when one that has settled is up at last.
                let settled = matches!(self.rc, Rc::Up { since, .. } if now.saturating_sub(since) >= SETTLED);
                (self.failures >= HOPELESS && !settled).then_some(Hopeless::Rc)
            }
        }
    }

    /// Whether the machine is on its way down.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The way down goes on: rc.shutdown says so.
    pub fn sign_of_life(&mut self, now: Duration) {
        if let Some(since) = &mut self.leaving {
            *since = now;
        }
    }

    /// Whether this child is rc.init.
    pub fn is_rc(&self, child: i32) -> bool {
        matches!(self.rc, Rc::Up { pid, .. } if pid == child)
    }

    /// When [`Event::Time`] is wanted next; `None` for never.
    pub fn deadline(&self) -> Option<Duration> {
        match (self.stage, self.rc) {
            (Stage::Running, Rc::Due { at }) => Some(at),
            (
                Stage::Terminating { until, .. } | Stage::Killing { until, .. } | Stage::Final { until, .. },
                _,
            ) => Some(until),
            _ => None,
        }
    }

    /// What to say and do about `event`, `now` being the time since boot.
    pub fn step(&mut self, event: Event, now: Duration) -> Decision {
        match event {
            Event::Time => self.time(now),
            Event::Signal(signal) => self.signal(signal, now),
            Event::Started(program, pid) => self.started(program, pid, now),
            Event::NotStarted(program, errno) => {
                let decision = self.ended(program, now);
                Decision { note: Some(Note::NotStarted(program, errno)), ..decision }
            }
            Event::NotWanted => {
                self.rc = Rc::Down;
                self.leaving.get_or_insert(now);
                // Where a signal has asked for it, that was said.
                let note = (self.stage == Stage::Running).then_some(Note::NotWanted);
                Decision { note, effect: None }
            }
            Event::Ended(pid, status) => self.child_ended(pid, status, now),
            Event::Childless => self.childless(now),
        }
    }

    fn time(&mut self, now: Duration) -> Decision {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Decision::default();
        }
        match self.stage {
            Stage::Running => {
                self.rc = Rc::Starting;
                does(Effect::StartRc)
            }
            Stage::Terminating { action, .. } => {
                self.stage = Stage::Killing { action, until: now + KILL_PATIENCE };
                Decision { note: Some(Note::Killing), effect: Some(Effect::SignalAll(Signal::SIGKILL)) }
            }
            Stage::Killing { action, .. } => self.begin_final(action, now),
            Stage::Final { action, .. } => {
                self.stage = Stage::Spent;
                Decision { note: Some(Note::Hanging), effect: Some(Effect::Reboot(action)) }
            }
            Stage::Script { .. } | Stage::Spent => Decision::default(),
        }
    }

    fn signal(&mut self, signal: i32, now: Duration) -> Decision {
        let Some(action) = request(signal) else { return Decision::default() };
        self.leaving.get_or_insert(now);
        let note = Some(Note::Requested(signal, action));
        match self.stage {
            Stage::Running => {
                self.stage = Stage::Script { pid: None, action };
                Decision { note, effect: Some(Effect::StartShutdown(action)) }
            }
            Stage::Spent => Decision { note, effect: Some(Effect::Reboot(action)) },
            _ => Decision { note: Some(Note::Ignored(signal)), effect: None },
        }
    }

    fn started(&mut self, program: Program, pid: i32, now: Duration) -> Decision {
        match (program, &mut self.stage) {
            (Program::Rc, _) => self.rc = Rc::Up { pid, since: now },
            (Program::Shutdown, Stage::Script { pid: slot, .. })
            | (Program::Final, Stage::Final { pid: slot, .. }) => *slot = Some(pid),
            _ => {}
        }
        Decision::default()
    }

    fn child_ended(&mut self, pid: i32, status: i32, now: Duration) -> Decision {
        match (self.rc, self.stage) {
            (Rc::Up { pid: rc, since }, _) if rc == pid => {
                let up = now.saturating_sub(since);
                if up >= SETTLED {
                    self.delay = FIRST_DELAY;
                    self.failures = 0;
                }
                let note = Note::Ended(Program::Rc, status, Some((up, self.delay)));
                // On the way down it is meant to end.
                let note = (self.stage == Stage::Running).then_some(note);
                Decision { note, ..self.ended(Program::Rc, now) }
            }
            (_, Stage::Script { pid: Some(child), .. }) if child == pid => {
                let note = Some(Note::Ended(Program::Shutdown, status, None));
                Decision { note, ..self.ended(Program::Shutdown, now) }
            }
            (_, Stage::Final { pid: Some(child), .. }) if child == pid => {
                let note = Some(Note::Ended(Program::Final, status, None));
                Decision { note, ..self.ended(Program::Final, now) }
            }
            _ => Decision::default(),
        }
    }

    /// A program of ours is gone, or never came: the next rung of the ladder.
    fn ended(&mut self, program: Program, now: Duration) -> Decision {
        match (program, self.stage) {
            (Program::Rc, _) => {
                self.rc = Rc::Due { at: now + self.delay };
                self.delay = (self.delay * 2).min(LONGEST_DELAY);
                self.failures = self.failures.saturating_add(1);
                Decision::default()
            }
            (Program::Shutdown, Stage::Script { action, .. }) => {
                self.stage = Stage::Terminating { action, until: now + TERM_PATIENCE };
                does(Effect::SignalAll(Signal::SIGTERM))
            }
            (Program::Final, Stage::Final { action, .. }) => {
                self.stage = Stage::Spent;
                does(Effect::Reboot(action))
            }
            _ => Decision::default(),
        }
    }

    fn childless(&mut self, now: Duration) -> Decision {
        match self.stage {
            Stage::Terminating { action, .. } | Stage::Killing { action, .. } => {
                self.begin_final(action, now)
            }
            _ => Decision::default(),
        }
    }

    fn begin_final(&mut self, action: PowerAction, now: Duration) -> Decision {
        self.stage = Stage::Final { pid: None, action, until: now + FINAL_PATIENCE };
        does(Effect::StartFinal(action))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

fn does(effect: Effect) -> Decision {
    Decision { note: None, effect: Some(effect) }
}

#[cfg(test)]
mod tests;
