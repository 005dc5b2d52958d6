// SPDX-License-Identifier: Apache-2.0
//! What PID 1 says, and in which words.

use std::fmt;
use std::time::Duration;

use super::policy::{Hopeless, Program};
use crate::console::Level;
use crate::sys::power::PowerAction;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rc => "rc.init",
            Self::Shutdown => "rc.shutdown",
            Self::Final => "the last step",
        })
    }
}

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A program ended: its wait status, and for rc.init how long it was up
    /// and when it starts again.
    Ended(Program, i32, Option<(Duration, Duration)>),
    /// A program could not be started: errno.
    NotStarted(Program, i32),
    /// rc.init stays down.
    NotWanted,
    /// A signal asks for this.
    Requested(i32, PowerAction),
    /// A signal asks for something while the machine is going down already.
    Ignored(i32),
    /// Some processes outlive SIGTERM.
    Killing,
    /// The last step hangs.
    Hanging,
    /// The watchdog runs, with this timeout.
    Watched(Duration),
    /// A watchdog is wanted and cannot be started: errno.
    Unwatched(i32),
    /// `lkinit.watchdog=` has a value that is no number of seconds.
    WatchdogValue,
    /// The watchdog is fed no more; it has this timeout.
    Starved(Hopeless, Duration),
    /// The watchdog is stopped: a machine that was halted is not to be reset.
    WatchdogStopped,
}

impl Note {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::Requested(..) | Self::NotWanted | Self::Watched(_) | Self::WatchdogStopped => Level::Info,
            Self::Ignored(_) | Self::Killing | Self::WatchdogValue => Level::Warning,
            Self::Ended(..)
            | Self::NotStarted(..)
            | Self::Hanging
            | Self::Unwatched(_)
            | Self::Starved(..) => Level::Error,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ended(program, status, rest) => {
                write!(f, "{program} ended: {}", Status(status))?;
                match rest {
                    None if program == Program::Shutdown => {
                        f.write_str(" and the machine is still up; stopping it without rc.shutdown")
                    }
                    None => f.write_str("; going down at once"),
                    Some((up, delay)) => write!(
                        f,
                        " after {}; it starts again in {} unless the machine is going down",
                        Seconds(up),
                        Seconds(delay)
                    ),
                }
            }
            Self::NotStarted(program, errno) => {
                write!(f, "cannot start {program}: {}", nix::errno::Errno::from_raw(errno).desc())
            }
            Self::NotWanted => f.write_str("the machine is going down: rc.init is not started again"),
            Self::Requested(signal, action) => write!(f, "signal {signal}: {action}"),
            Self::Ignored(signal) => write!(f, "signal {signal} ignored: the machine is going down already"),
            Self::Killing => f.write_str("some processes are still there; killing them"),
            Self::Hanging => f.write_str("the last step hangs; going down without it"),
            Self::Watched(timeout) => write!(
                f,
                "watchdog: on; it resets the machine {}s after PID 1 stops feeding it",
                timeout.as_secs()
            ),
            Self::Unwatched(errno) => write!(
                f,
                "watchdog: cannot open /dev/watchdog: {}; there is none until SIGHUP makes PID 1 look again",
                nix::errno::Errno::from_raw(errno).desc()
            ),
            Self::WatchdogValue => {
                f.write_str("lkinit.watchdog= wants whole seconds, 1 to 65535; there is no watchdog")
            }
            Self::Starved(reason, timeout) => {
                f.write_str(match reason {
                    Hopeless::Rc => "rc.init cannot be brought back",
                    Hopeless::Shutdown => "the way down does not end",
                })?;
                write!(f, ": the watchdog resets the machine in {}s", timeout.as_secs())
            }
            Self::WatchdogStopped => f.write_str("watchdog: off, as the machine is to halt"),
        }
    }
}

/// A wait status in words.
struct Status(i32);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (libc::WIFEXITED(self.0), libc::WIFSIGNALED(self.0)) {
            (true, _) => write!(f, "exit status {}", libc::WEXITSTATUS(self.0)),
            (_, true) => write!(f, "killed by signal {}", libc::WTERMSIG(self.0)),
            _ => write!(f, "wait status {:#x}", self.0),
        }
    }
}

/// A duration as the console has it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_why_and_what_happens_now() {
        let up = Some((Duration::from_millis(12_345), Duration::from_millis(100)));
        let cases = [
            (
                Note::Ended(Program::Rc, 9, up),
                "rc.init ended: killed by signal 9 after 12.345s; it starts again in 0.100s unless the machine is going down",
            ),
            (
                Note::Ended(Program::Shutdown, 0x7f00, None),
                "rc.shutdown ended: exit status 127 and the machine is still up; stopping it without rc.shutdown",
            ),
            (
                Note::Ended(Program::Final, 0x100, None),
                "the last step ended: exit status 1; going down at once",
            ),
            (Note::NotStarted(Program::Rc, libc::EAGAIN), "cannot start rc.init: Try again"),
            (Note::Requested(15, PowerAction::Reboot), "signal 15: reboot"),
            (
                Note::Starved(Hopeless::Rc, Duration::from_secs(30)),
                "rc.init cannot be brought back: the watchdog resets the machine in 30s",
            ),
        ];
        for (note, words) in cases {
            assert_eq!(note.to_string(), words);
        }
    }
}
