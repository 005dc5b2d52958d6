// SPDX-License-Identifier: Apache-2.0
//! A root shell on the serial console, where the command line asks for one:
//! `lkinit.shell=` by occasion, `lkinit.break=` before a stage of the boot.
//!
//! There is one shell at a time, since there is one terminal. Its process is
//! noted in a file: an rc that takes over waits for the end of that shell
//! instead of starting a second one on top of it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use init::cmdline::Cmdline;
use init::console;
use init::sys::tty;
use init::{info, warning};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep};

use crate::engine::Exit;
use crate::paths;
use crate::process::{self, Identity};
use crate::system::System;

/// The image's shell.
const SHELL: &str = "/bin/sh";

/// The process of the shell that is up, for an rc that takes over.
const PROCESS: &str = "/run/lkinit/shell";

/// The kernel's list of active consoles, the preferred one last
/// (Documentation/ABI/testing/sysfs-tty).
const ACTIVE: &str = "/sys/class/tty/console/active";

/// The least time between two starts of a shell that is always there: one
/// whose terminal is gone ends at once.
const PAUSE: Duration = Duration::from_secs(1);

/// Places a boot can be stopped at that are not entries of `/etc/init.d`.
pub mod point {
    /// Everything is mounted; no device has been asked for a module.
    pub const DEVICES: &str = "devices";
    /// The machine is set up; nothing of `/etc/init.d` is done.
    pub const INIT_D: &str = "init.d";
    /// Everything is done.
    pub const BOOTED: &str = "booted";
}

/// Where a boot is stopped, and the word of the command line that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stop {
    stage: String,
    word: String,
}

/// The shells that the command line asks for.
#[derive(Debug, Default)]
pub struct Shells {
    stops: Vec<Stop>,
    failure: bool,
    always: bool,
    closed: Cell<bool>,
    terminal: Mutex<()>,
    ended: Notify,
}

impl Shells {
    /// By `lkinit.shell=` and `lkinit.break=`, lists with commas; the second
    /// value has a line for each word of the former that has no meaning.
    pub fn new(cmdline: &Cmdline) -> (Self, Vec<String>) {
        let (mut shells, mut problems) = (Self::default(), Vec::new());
        for word in list(cmdline, "lkinit.shell") {
            let mut stop = |stage: &str| {
                shells.stops.push(Stop { stage: stage.to_owned(), word: format!("lkinit.shell={word}") });
            };
            match word {
                "early" => stop(point::INIT_D),
                "onboot" => stop("onboot"),
                "failure" => shells.failure = true,
                "always" => shells.always = true,
                _ => problems
                    .push(format!("lkinit.shell={word} is none of early, onboot, failure, always; ignored")),
            }
        }
        let stop = |stage: &str| Stop { stage: stage.to_owned(), word: format!("lkinit.break={stage}") };
        shells.stops.extend(list(cmdline, "lkinit.break").map(stop));
        (shells, problems)
    }

    /// A line for each `lkinit.break=` that is none of `known`.
    pub fn unknown(&self, known: &[&str]) -> Vec<String> {
        let unknown = self.stops.iter().filter(|stop| !known.contains(&stop.stage.as_str()));
        let line =
            |stop: &Stop| format!("{}: no such stage; those of this image: {}", stop.word, known.join(", "));
        unknown.map(line).collect()
    }

    /// No shell is started any more: the machine goes down.
    pub fn close(&self) {
        self.closed.set(true);
    }

    /// Whether the boot waits for a shell when something fails.
    pub fn on_failure(&self) -> bool {
        self.failure && !self.closed.get()
    }
}

/// Whether the command line stops the boot before a stage.
pub fn is_stop(cmdline: &Cmdline, stage: &str) -> bool {
    list(cmdline, "lkinit.break").any(|stop| stop == stage)
}

fn list<'a>(cmdline: &'a Cmdline, key: &'a str) -> impl Iterator<Item = &'a str> {
    cmdline.all(key).flat_map(|value| value.split(',')).filter(|word| !word.is_empty())
}

/// Stops the boot before a stage, if the command line says so, until the
/// shell ends.
pub async fn before(system: &System, stage: &str) {
    let Some(stop) = system.shells.stops.iter().find(|stop| stop.stage == stage) else { return };
    let mark = format!("shell before {stage}");
    if system.progress.has(&mark) {
        return;
    }
    pause(system, &format!("boot: stopped before {stage} ({})", stop.word)).await;
    system.progress.mark(&mark);
}

/// Stops the boot because `what` has failed, if the command line says so,
/// until the shell ends.
pub async fn after_failure(system: &System, what: &str) {
    if system.shells.on_failure() {
        pause(system, &format!("{what} has failed: the boot is stopped (lkinit.shell=failure)")).await;
    }
}

/// Stops the boot until the shell ends; `why` is what the console says of it.
pub async fn pause(system: &System, why: &str) {
    let (console, shells) = (&system.console, &system.shells);
    if shells.closed.get() {
        return;
    }
    let how = "`exit` in it goes on with the boot, `poweroff` ends the machine";
    if shells.always {
        info!(console, "{why}; the shell is there already: {how}");
        return shells.ended.notified().await;
    }
    let _one = shells.terminal.lock().await;
    if let Err(problem) = run(system, &format!("{why}; {how}")).await {
        warning!(console, "{why}: no shell: {problem}; the boot goes on");
    }
}

/// Keeps a shell up beside the boot, if the command line says so.
pub async fn always(system: &System) {
    let shells = &system.shells;
    while shells.always && !shells.closed.get() {
        let begin = Instant::now();
        let told = run(system, "shell: a root shell (lkinit.shell=always)").await;
        shells.ended.notify_waiters();
        if let Err(problem) = told {
            return warning!(system.console, "shell: {problem}; there is none");
        }
        sleep(PAUSE.saturating_sub(begin.elapsed())).await;
    }
}

/// Runs a shell to its end. An error says why there was none.
async fn run(system: &System, why: &str) -> Result<(), String> {
    let console = &system.console;
    let known = fs::read_to_string(PROCESS).ok().and_then(|text| text.parse::<Identity>().ok());
    if let Some(identity) = known.filter(|identity| identity.is_alive()) {
        info!(console, "{why}; it is process {} and was started before rc was", identity.pid);
        process::end_of_stranger(identity).await.map_err(|error| format!("waiting for it: {error}"))?;
        return Ok(());
    }
    let (path, terminal) = terminal(&system.cmdline)?;
    let mut command = Command::new(SHELL);
    command.arg("-l").env_clear().current_dir("/");
    command.env("PATH", paths::PATH).env("HOME", "/root").env("USER", "root").env("SHELL", SHELL);
    command.env("TERM", if is_virtual(&path) { "linux" } else { "vt102" }).env("PS1", r"(lkinit) \w\$ ");
    info!(console, "{why}; on {}", path.display());
    let started = tty::give(&mut command, &terminal).and_then(|()| system.reaper.spawn(&mut command));
    drop((command, terminal));
    let child = started.map_err(|error| format!("cannot run {SHELL} on {}: {error}", path.display()))?;
    if let Some(identity) = Identity::of(child.pid) {
        // Without the note an rc that takes over starts another shell.
        let _ = fs::write(PROCESS, identity.to_string());
    }
    let _: Exit = child.wait().await;
    let _ = fs::remove_file(PROCESS);
    Ok(())
}

/// The terminal for a shell: of the consoles of the command line that work,
/// the last one that is no virtual one, for that is the serial line; else the
/// last. Without any, the one the kernel has chosen.
fn terminal(cmdline: &Cmdline) -> Result<(PathBuf, fs::File), String> {
    let active = fs::read_to_string(ACTIVE).unwrap_or_default();
    let mut candidates = order(console::names(cmdline), &active);
    candidates.push("/dev/console".into());
    let mut problem = String::new();
    for path in candidates {
        match open(&path) {
            Ok(terminal) => return Ok((path, terminal)),
            Err(error) => problem = format!("cannot open {}: {error}", path.display()),
        }
    }
    Err(problem)
}

fn open(path: &Path) -> io::Result<fs::File> {
    tty::open_for_person(path)
}

fn order(named: Vec<PathBuf>, active: &str) -> Vec<PathBuf> {
    let (virtual_ones, serial): (Vec<_>, Vec<_>) = named.into_iter().partition(|path| is_virtual(path));
    let kernels = active.split_ascii_whitespace().map(|name| Path::new("/dev").join(name));
    serial.into_iter().rev().chain(virtual_ones.into_iter().rev()).chain(kernels.rev()).collect()
}

/// Whether this is one of `tty0`, `tty1`, …: a keyboard and a screen.
fn is_virtual(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("tty").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shells(line: &str) -> (Shells, Vec<String>) {
        Shells::new(&Cmdline::parse(line))
    }

    fn stages(shells: &Shells) -> Vec<&str> {
        shells.stops.iter().map(|stop| stop.stage.as_str()).collect()
    }

    #[test]
    fn the_words_of_the_command_line() {
        let (none, problems) = shells("quiet console=ttyS0");
        assert!(none.stops.is_empty() && !none.failure && !none.always && problems.is_empty());
        let (some, problems) =
            shells("lkinit.shell=failure,early lkinit.break=services lkinit.shell=always,never");
        assert_eq!(stages(&some), [point::INIT_D, "services"]);
        assert!(some.failure && some.always);
        assert_eq!(problems, ["lkinit.shell=never is none of early, onboot, failure, always; ignored"]);
    }

    #[test]
    fn a_stage_that_is_not_there_is_one_line_that_lists_those_that_are() {
        let (some, _) = shells("lkinit.break=onboot,onbot");
        let known = ["devices", "onboot"];
        assert_eq!(
            some.unknown(&known),
            ["lkinit.break=onbot: no such stage; those of this image: devices, onboot"]
        );
    }

    #[test]
    fn no_shell_is_started_once_the_machine_goes_down() {
        let (some, _) = shells("lkinit.shell=failure");
        assert!(some.on_failure());
        some.close();
        assert!(!some.on_failure());
    }

    #[test]
    fn the_serial_line_comes_first() {
        let named = |names: &[&str]| names.iter().map(|name| Path::new("/dev").join(name)).collect();
        let order = |names: &[&str], active| {
            let paths: Vec<PathBuf> = order(named(names), active);
            paths
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(order(&["ttyS0", "tty0"], ""), ["ttyS0", "tty0"]);
        assert_eq!(order(&["tty1", "ttyS1", "hvc0"], "tty0"), ["hvc0", "ttyS1", "tty1", "tty0"]);
        assert_eq!(order(&[], "tty0 ttyAMA0"), ["ttyAMA0", "tty0"]);
    }
}
