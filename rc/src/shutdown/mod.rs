// SPDX-License-Identifier: Apache-2.0
//! `rc.shutdown ACTION`: the end of the machine, in order.
//!
//! The supervisor takes its own things down; what is left is asked to end,
//! then killed; then the filesystems are put away and the kernel does the
//! last step. Nothing sleeps: each wait ends with what it waits for.

mod filesystems;
mod one;
mod processes;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use init::cmdline::Cmdline;
use init::console::{Console, PATIENCE};
use init::sys::power::{self, PowerAction};
use init::sys::process;
use init::{error, info, warning};
use nix::sys::signal::Signal;

use crate::cli::complain;
use crate::control::{Answer, Client, Failure, Request};
use crate::paths;
use crate::process::{CGROUPS, leave_group};
use crate::supervise::policy::duration;

/// The most that services and then all other processes get to end, unless
/// `lkinit.shutdown-timeout=` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What onshutdown containers may take beyond that: they save data.
const ONSHUTDOWN: Duration = Duration::from_secs(80);

/// How often it is shown that what takes its time goes on.
const SIGN: Duration = Duration::from_secs(10);

/// The word that says: this is the part that has left its caller behind.
const DETACHED: &str = "--detached";

/// How long things may take to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// All of it.
    pub total: Duration,
    /// The services' share: the rest get a quarter at least.
    pub services: Duration,
}

impl Limit {
    fn of(total: Duration) -> Self {
        Self { total, services: total / 4 * 3 }
    }

    /// What is left for the rest when the shutdown has taken `gone`.
    fn rest(self, gone: Duration) -> Duration {
        self.total.saturating_sub(gone).max(self.total / 4)
    }
}

/// By the command line; a value that is no duration is said.
pub fn limit(cmdline: &Cmdline, console: &Console) -> Limit {
    let Some(value) = cmdline.get("lkinit.shutdown-timeout") else { return Limit::of(TIMEOUT) };
    Limit::of(duration(value).unwrap_or_else(|| {
        warning!(
            console,
            "lkinit.shutdown-timeout={value}: not a duration like 10s; using {}s",
            TIMEOUT.as_secs()
        );
        TIMEOUT
    }))
}

/// `rc.shutdown poweroff|reboot|halt|noop`.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let mut words = words.iter().map(String::as_str);
    let Some(action) = words.next().and_then(|word| word.parse::<PowerAction>().ok()) else {
        complain("usage: rc.shutdown poweroff|reboot|halt|noop");
        return ExitCode::from(2);
    };
    let detached = words.next() == Some(DETACHED) || nix::unistd::getppid().as_raw() == 1;
    if !detached {
        return detach(action);
    }
    let _ = nix::unistd::setsid();
    // Out of whatever control group the caller is in: that is killed with the
    // caller's service.
    leave_group(Path::new(CGROUPS));
    let cmdline = Cmdline::current().unwrap_or_default();
    let console = Arc::new(Console::open(&cmdline));
    info!(console, "shutdown: {action}");
    shut_down(&console, &cmdline, action)
}

/// A shell that calls this program may belong to a service that is stopped on
/// the way: the work is done by a process of its own.
fn detach(action: PowerAction) -> ExitCode {
    let status = Command::new("/proc/self/exe")
        .args(["rc.shutdown", action.as_str(), DETACHED])
        .env(crate::cli::APPLET, "1")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("rc.shutdown: cannot run itself: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn shut_down(console: &Arc<Console>, cmdline: &Cmdline, action: PowerAction) -> ExitCode {
    let _lock = one::alone(console, Path::new(paths::SHUTDOWN_LOCK));
    let begin = Instant::now();
    let limit = limit(cmdline, console);
    // PID 1 is not to start rc again.
    if let Err(error) = fs::write(paths::SHUTDOWN, action.as_str()) {
        warning!(console, "shutdown: cannot write {}: {error}", paths::SHUTDOWN);
    }
    if action == PowerAction::Halt {
        // PID 1 stops the watchdog, or that would start the machine again.
        let _ = process::signal(1, Signal::SIGHUP);
    }
    match ask_supervisor(limit.total + ONSHUTDOWN) {
        Ok(Answer::Failed { reason }) => warning!(console, "shutdown: {reason}"),
        Ok(_) => {}
        Err(error) => warning!(console, "shutdown: {error}; services end with everything else"),
    }
    let supervised = begin.elapsed();
    // Whoever does the last step has to be there for it.
    let spared = if action == PowerAction::Noop { processes::ancestors() } else { Vec::new() };
    processes::end(console, limit.rest(supervised), &spared);
    let ended = begin.elapsed();
    sign_of_life();
    filesystems::put_away(console);
    sign_of_life();
    let done = begin.elapsed();
    info!(
        console,
        "shutdown: {action} now, after {:.3}s: supervised {:.3}s, other processes {:.3}s, filesystems {:.3}s",
        done.as_secs_f32(),
        supervised.as_secs_f32(),
        ended.saturating_sub(supervised).as_secs_f32(),
        done.saturating_sub(ended).as_secs_f32()
    );
    drain(console.clone());
    match power::finish(action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(console, "shutdown: cannot {action}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Has the supervisor do its part. It has limits of its own: within them this
/// goes on.
fn ask_supervisor(patience: Duration) -> Result<Answer, Failure> {
    let end = Instant::now() + patience;
    let mut supervisor = Client::connect(Path::new(paths::CONTROL))?;
    supervisor.send(&Request::Shutdown)?;
    loop {
        sign_of_life();
        let left = end.saturating_duration_since(Instant::now());
        if supervisor.is_answered(left.min(SIGN)) || left.is_zero() {
            return supervisor.receive(Some(PATIENCE));
        }
    }
}

/// Shows PID 1 that the way down goes on: it looks at the time of this file,
/// and has the watchdog reset a machine whose shutdown hangs.
fn sign_of_life() {
    let marker = fs::OpenOptions::new().write(true).open(paths::SHUTDOWN);
    // A file that cannot be written has been told of.
    let _ = marker.and_then(|marker| marker.set_modified(SystemTime::now()));
}

/// Gives serial lines a moment to send what was said last: reboot(2) does not
/// wait for them.
fn drain(console: Arc<Console>) {
    let (done, waiting) = channel();
    let work = move || {
        console.drain();
        let _ = done.send(());
    };
    // Without a thread the last lines may be cut off.
    if thread::Builder::new().name("drain".to_owned()).spawn(work).is_ok() {
        let _ = waiting.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_one_for_all_and_the_rest_gets_a_quarter_at_least() {
        let second = Duration::from_secs(1);
        let limit = Limit::of(12 * second);
        assert_eq!(limit.services, 9 * second);
        assert_eq!(limit.rest(Duration::ZERO), 12 * second);
        assert_eq!(limit.rest(5 * second), 7 * second);
        assert_eq!(limit.rest(60 * second), 3 * second);
    }

    #[test]
    fn a_limit_that_is_no_duration_is_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let console = Console::to_file(file.reopen().unwrap());
        let of = |line: &str| limit(&Cmdline::parse(line), &console).total;
        assert_eq!(of("quiet"), TIMEOUT);
        assert_eq!(of("lkinit.shutdown-timeout=2m"), Duration::from_secs(120));
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "");
        assert_eq!(of("lkinit.shutdown-timeout=soon"), TIMEOUT);
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(
            text.ends_with("lkinit.shutdown-timeout=soon: not a duration like 10s; using 10s\n"),
            "{text}"
        );
    }
}
