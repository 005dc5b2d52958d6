// SPDX-License-Identifier: Apache-2.0
//! A machine that runs.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use regex::Regex;

use crate::console::{Console, Found};
use crate::control::{Control, Output};
use crate::machine::Machine;
use crate::paths;
use crate::slots::Slot;

/// How long to wait where a test does not say: emulation is slow, and slower
/// on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// How many lines of the transcript an error shows.
const SHOWN: usize = 40;

/// After one of these nothing that is waited for will come.
static FATAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"Kernel panic - not syncing|\bOops: |\bint3: \d+ \[#|lkinit: (panic|fault) |BUG: soft lockup")
        .unwrap_or_else(|error| unreachable!("a constant expression: {error}"))
});

/// A running machine. It is killed when this is dropped.
pub struct Vm {
    machine: Machine,
    folder: PathBuf,
    child: Child,
    input: ChildStdin,
    console: Console,
    cursor: usize,
    control: Control,
    failures: Vec<String>,
    /// Whether anything that was waited for has come.
    seen: bool,
    _slot: Slot,
}

/// What [`emulator_fault`] is known by. Linux 6.1 says "int3", later ones "Oops: int3".
static EMULATOR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\[ *\d+\.\d+\] (?:(?:Oops: )?int3: \d+ \[#|watchdog: BUG: soft lockup)")
        .unwrap_or_else(|error| unreachable!("a constant expression: {error}"))
});

/// How many machines of one test program may be booted again: of some seventy,
/// more than that is no accident.
const SECOND_BOOTS: usize = 4;

/// How many were.
static BOOTED_AGAIN: AtomicUsize = AtomicUsize::new(0);

/// What QEMU's software emulation does to a guest's kernel once in a hundred
/// boots or so, if the last machine of this name ended in that.
///
/// QEMU before 8.1 may translate code while another virtual processor writes
/// it, and keep the old translation. Linux patches its own code all the time:
/// an int3 first, the new code behind it, then its first byte. A translation
/// that still has the int3 is an "Oops: int3" at an instruction of the kernel.
/// QEMU's commit deba78709ae8 ("accel/tcg: Always lock pages before
/// translation", July 2023) has the cure; Debian 12 has QEMU 7.2. What other
/// stale code does is a processor that is stuck at one instruction; that there
/// are "soft lockups" under emulation has been reported elsewhere, too
/// (github.com/linuxboot/heads/pull/1683).
fn emulator_fault(name: &str) -> Option<String> {
    let transcript = fs::read(paths::target().join("tests").join(name).join("transcript"));
    let text = transcript.unwrap_or_default();
    fault_in(&String::from_utf8_lossy(&text)).map(str::to_owned)
}

/// The kernel's report of such a fault. A kernel that says anything else has a
/// fault that is looked into.
fn fault_in(text: &str) -> Option<&str> {
    EMULATOR.find(text).map(|report| report.as_str())
}

impl Vm {
    /// Boots `machine`, does `test` with it, and ends it. `name` is the folder
    /// below `target/tests` it leaves its transcript in. An error of `test`,
    /// and each failed check, comes back with all that is needed to find out.
    ///
    /// A machine that the emulator has broken (see [`emulator_fault`]) tells
    /// nothing of what is tested. It is booted once more, and that is said,
    /// also where the test passes then.
    pub fn run(name: &str, machine: Machine, mut test: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let first = Self::run_in(Slot::take()?, name, machine.clone(), &mut test);
        let Err(error) = first else { return first };
        let Some(fault) = emulator_fault(name) else { return Err(error) };
        if BOOTED_AGAIN.fetch_add(1, Ordering::Relaxed) >= SECOND_BOOTS {
            return Err(error.context(format!("{fault}, and not for the first time: not booted again")));
        }
        // Not by eprintln, which the test harness keeps to itself.
        let mut output = std::io::stderr();
        let line = format!("BOOTED AGAIN: {name}: QEMU has broken the kernel ({fault}). It was: {error:#}\n");
        let _ = output.write_all(line.as_bytes());
        Self::run_in(Slot::take()?, name, machine, &mut test)
    }

    /// As [`Vm::run`], in a place already taken.
    pub fn run_in(
        slot: Slot,
        name: &str,
        machine: Machine,
        test: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let mut vm = Self::start(slot, name, machine)?;
        let result = test(&mut vm);
        match result {
            Err(error) => vm.failures.push(format!("{error:#}")),
            Ok(()) if !vm.seen => vm.failures.push("the test saw nothing of its machine".into()),
            Ok(()) => {}
        }
        vm.end();
        match vm.failures.is_empty() {
            true => {
                vm.machine.remove_temporary();
                Ok(())
            }
            false => Err(vm.report()),
        }
    }

    fn start(slot: Slot, name: &str, machine: Machine) -> Result<Self> {
        let folder = paths::fresh_folder(name)?;
        // A socket's path has 108 bytes; a working copy may lie deeper. QEMU
        // is given a relative one, and this process goes by the open folder.
        let handle = File::open(&folder)?;
        let socket = format!("/proc/self/fd/{}/control", handle.as_raw_fd());
        let listener = UnixListener::bind(socket).context("making the control socket")?;

        let transcript = File::create(folder.join("transcript"))?;
        let errors = File::create(folder.join("qemu.log"))?;
        let mut command = machine.command("control");
        command.current_dir(&folder).stderr(errors);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().context("starting QEMU: is it installed?")?;
        let input = child.stdin.take().context("QEMU has no input")?;
        let output = child.stdout.take().context("QEMU has no output")?;
        let console = Console::read(output, transcript, start)?;
        let control = accept(&listener, &mut child).with_context(|| {
            let said = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
            let _ = child.kill();
            let _ = child.wait();
            format!("QEMU did not start:\n{said}\n{command:?}")
        })?;
        Ok(Self {
            machine,
            folder,
            child,
            input,
            console,
            cursor: 0,
            control,
            failures: Vec::new(),
            seen: false,
            _slot: slot,
        })
    }

    /// Waits until the console says something that matches `regex`, behind
    /// whatever was waited for before; returns its groups, the whole match
    /// first. A line of lkinit's may stand behind a prompt, which has no end of
    /// line.
    pub fn expect(&mut self, regex: &str) -> Result<Vec<String>> {
        self.expect_within(regex, PATIENCE)
    }

    /// As [`Vm::expect`], for at most `limit`.
    pub fn expect_within(&mut self, regex: &str, limit: Duration) -> Result<Vec<String>> {
        let mut cursor = self.cursor;
        let found = self.find(regex, limit, &mut cursor);
        self.cursor = cursor;
        found
    }

    /// Waits until the console has said something that matches `regex`, whenever
    /// that was: see [`crate::inside::Inside::said`].
    pub fn said(&mut self, regex: &str) -> Result<Vec<String>> {
        self.find(regex, PATIENCE, &mut 0)
    }

    fn find(&mut self, regex: &str, limit: Duration, cursor: &mut usize) -> Result<Vec<String>> {
        let wanted = Regex::new(&format!("(?m){}", beside_prompts(regex)))?;
        let fatal = (!self.machine.may_panic()).then_some(&*FATAL);
        let deadline = Instant::now() + limit;
        match self.console.wait(&wanted, fatal, cursor, deadline) {
            Found::Match(groups) => {
                self.seen = true;
                Ok(groups)
            }
            Found::Fatal(line) => Err(Error::msg(format!("waiting for /{regex}/: {line}"))),
            Found::Ended => Err(Error::msg(format!("the machine ended before /{regex}/ came"))),
            Found::Late => Err(Error::msg(format!("/{regex}/ did not come within {limit:?}"))),
        }
    }

    /// Types `text` on the console.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).context("typing on the console")?;
        self.input.flush().context("typing on the console")
    }

    /// Runs `command` inside with `/bin/sh`, whatever its exit status.
    pub fn try_sh(&mut self, command: &str) -> Result<Output> {
        self.try_sh_within(command, PATIENCE)
    }

    /// As [`Vm::try_sh`], for at most `limit`.
    pub fn try_sh_within(&mut self, command: &str, limit: Duration) -> Result<Output> {
        self.control.run(command, limit).with_context(|| format!("running `{command}` inside"))
    }

    /// Runs `command` inside and returns what it printed; it must succeed.
    pub fn sh(&mut self, command: &str) -> Result<String> {
        let output = self.try_sh(command)?;
        ensure!(output.status == 0, "`{command}` inside: exit status {}\n{}", output.status, output.text);
        Ok(output.text)
    }

    /// One of several checks of a machine that takes long to boot: a failure
    /// is kept for the end, where it is told in full, and the next check is made
    /// all the same.
    pub fn check(&mut self, name: impl Display, check: impl FnOnce(&mut Self) -> Result<()>) {
        match check(self) {
            Ok(()) => eprintln!("  {name}: ok"),
            Err(error) => {
                let failure = format!("{name}: {error:#}");
                eprintln!(
                    "  {name}: FAILED: {:.200}",
                    format!("{error:#}").lines().next().unwrap_or_default()
                );
                self.failures.push(failure);
            }
        }
    }

    /// Waits until the machine has restarted and its kernel speaks again; needs
    /// [`Machine::reboots`].
    pub fn expect_restart(&mut self) -> Result<()> {
        self.expect(r"Linux version \d")?;
        self.control.restarted();
        Ok(())
    }

    /// Waits until the machine has switched itself off, or, without
    /// [`Machine::reboots`], restarted.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        // The console ends with QEMU. This matches nothing.
        let never = Regex::new(r"[^\s\S]")?;
        let deadline = Instant::now() + PATIENCE;
        match self.console.wait(&never, None, &mut self.cursor, deadline) {
            Found::Ended => Ok(self.child.wait()?),
            _ => Err(Error::msg(format!("the machine still runs after {PATIENCE:?}"))),
        }
    }

    /// What the console has said so far.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// The folder of this machine, for its disks and files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// All that is needed to see what went wrong and to see it again: the
    /// reasons first, for whoever shows the beginning of it.
    fn report(&self) -> Error {
        let qemu = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
        let failures: Vec<String> = self.failures.iter().map(|failure| brief(failure)).collect();
        Error::msg(format!(
            "{}\n{qemu}again: {}\nthe end of {}:\n{}\nby hand: {}\n",
            failures.join("\n"),
            repeat(),
            self.folder.join("transcript").display(),
            self.console.tail(SHOWN),
            self.machine.by_hand(),
        ))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("{:#}", self.report());
        }
    }
}

/// A line of lkinit's may stand behind a prompt, and a prompt before one, or
/// before one of the kernel's.
fn beside_prompts(regex: &str) -> String {
    let regex = regex.replacen("^lkinit: ", "(?:^|[#:] )lkinit: ", 1);
    match regex.strip_suffix(" $") {
        Some(prompt) => format!(r"{prompt} (?:$|lkinit: |\[ *\d)"),
        None => regex,
    }
}

/// Waits until QEMU has opened the control channel, or has ended.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<Control> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, PollTimeout::from(100_u8))? == 1 {
            return Control::new(listener.accept()?.0);
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended: {status}");
        }
        ensure!(Instant::now() < end, "it did not open its control channel within {PATIENCE:?}");
    }
}

/// The command that runs this test again. A test's thread has its name, and
/// its program the name of the file it is in, a dash and a hash.
pub(crate) fn repeat() -> String {
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(Path::file_stem).and_then(|s| s.to_str());
    let file = stem.and_then(|s| s.rsplit_once('-')).map_or("NAME", |(file, _)| file);
    match std::thread::current().name() {
        Some(name) if name != "main" => {
            format!("cargo test -p tests --test {file} -- --exact {name} --nocapture")
        }
        _ => format!("cargo test -p tests --test {file} -- --nocapture"),
    }
}

/// A failure that takes few lines: of a long one the first, which say what was
/// expected, and the last.
pub(crate) fn brief(failure: &str) -> String {
    const FIRST: usize = 15;
    const LAST: usize = 20;
    let lines: Vec<String> = failure.lines().map(|line| format!("{line:.300}")).collect();
    let Some(left) = lines.len().checked_sub(FIRST + LAST).filter(|left| *left > 0) else {
        return lines.join("\n");
    };
    let (first, last) = (&lines[..FIRST], &lines[lines.len() - LAST..]);
    format!("{}\n... {left} lines ...\n{}", first.join("\n"), last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_prompts_may_stand_beside_each_other() {
        let found = |regex: &str, text: &str| {
            Regex::new(&format!("(?m){}", beside_prompts(regex))).unwrap().is_match(text)
        };
        assert!(
            found("^lkinit: .* up", "a\nlkinit: [1] up\n") && found("^lkinit: .* up", "~ # lkinit: [1] up\n")
        );
        assert!(!found("^lkinit: .* up", "a lkinit: [1] up\n"));
        assert!(found("login: $", "x login: ") && found("login: $", "x login: lkinit: [1] up\n"));
        assert!(found("login: $", "x login: [    1.5] random: crng init done\n"));
        assert!(!found("login: $", "x login: root\n"));
    }

    #[test]
    fn a_long_failure_is_cut_in_its_middle() {
        let lines = |count: usize| (0..count).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
        assert_eq!(brief(&lines(35)), lines(35));
        let cut = brief(&lines(1000));
        assert!(cut.starts_with("line 0\n") && cut.contains("\n... 965 lines ...\nline 980\n"), "{cut}");
        assert_eq!(brief(&"x".repeat(9999)).len(), 300);
    }

    #[test]
    fn only_what_the_emulator_does_is_its_fault() {
        for report in [
            "x\r\n[    1.386117] Oops: int3: 0000 [#1] PREEMPT SMP PTI\r\n[    1.386118] CPU: 1 PID: 0\r\n",
            "/ # [   21.375453] int3: 0000 [#1] PREEMPT SMP\n",
            "x\n[   48.1] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [swapper/1:0]\n",
        ] {
            assert!(fault_in(report).is_some(), "{report}");
        }
        for other in [
            "[    1.3] Oops: 0000 [#1] PREEMPT SMP PTI\n",
            "[    1.3] Kernel panic - not syncing: Attempted to kill init!\n",
            "a program says watchdog: BUG: soft lockup\n",
            "",
        ] {
            assert_eq!(fault_in(other), None, "{other}");
        }
    }
}
