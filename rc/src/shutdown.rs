// SPDX-License-Identifier: Apache-2.0
//! `rc.shutdown ACTION`: the end of the machine, in order.
//!
//! The supervisor takes its own things down; what is left is asked to end,
//! then killed; then the filesystems are put away and the kernel does the
//! last step. Nothing sleeps: each wait ends with what it waits for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use init::action::{Action, Kernel as _};
use init::cmdline::Cmdline;
use init::console::Console;
use init::mount::Mount;
use init::mountinfo::MountTable;
use init::sys::power::{self, PowerAction};
use init::sys::{Linux, process};
use init::{error, info, warning};
use nix::mount::{MntFlags, MsFlags};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::boot::SHUTDOWN_TIMEOUT;
use crate::control::{Answer, Client, Request};
use crate::paths;
use crate::process::Stat;
use crate::supervise::policy::duration;

/// The most the supervisor may take: onshutdown containers save data here.
const SUPERVISOR: Duration = Duration::from_secs(90);

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(2);

/// The least that processes get between SIGTERM and SIGKILL.
const MOMENT: Duration = Duration::from_secs(2);

/// Filesystems that hold nothing, and that other steps need to the end.
const KEEP: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// The word that says: this is the part that has left its caller behind.
const DETACHED: &str = "--detached";

/// `rc.shutdown poweroff|reboot|halt|noop`.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let mut words = words.iter().map(String::as_str);
    let Some(action) = words.next().and_then(|word| word.parse::<PowerAction>().ok()) else {
        eprintln!("usage: rc.shutdown poweroff|reboot|halt|noop");
        return ExitCode::from(2);
    };
    let detached = words.next() == Some(DETACHED) || nix::unistd::getppid().as_raw() == 1;
    if !detached {
        return detach(action);
    }
    let _ = nix::unistd::setsid();
    // Out of whatever control group the caller is in: that is killed with the
    // caller's service.
    let _ = fs::write("/sys/fs/cgroup/cgroup.procs", std::process::id().to_string());
    let console = Console::open(&Cmdline::current().unwrap_or_default());
    info!(console, "shutdown: {action}");
    shut_down(&console, action)
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
            eprintln!("rc.shutdown: cannot run itself: {error}");
            ExitCode::FAILURE
        }
    }
}

fn shut_down(console: &Console, action: PowerAction) -> ExitCode {
    let begin = Instant::now();
    // PID 1 is not to start rc again.
    if let Err(error) = fs::write(paths::SHUTDOWN, action.as_str()) {
        warning!(console, "shutdown: cannot write {}: {error}", paths::SHUTDOWN);
    }
    let asked = Client::connect(Path::new(paths::CONTROL))
        .and_then(|mut supervisor| supervisor.ask(&Request::Shutdown, Some(SUPERVISOR)));
    match asked {
        Ok(Answer::Failed { reason }) => warning!(console, "shutdown: {reason}"),
        Ok(_) => {}
        Err(error) => warning!(console, "shutdown: {error}; services end with everything else"),
    }
    end_processes(console, begin);
    power::sync();
    put_away_filesystems(console);
    power::sync();
    info!(console, "shutdown: {action} now");
    match power::finish(action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(console, "shutdown: cannot {action}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM for all, and SIGKILL for those that are still there when the time
/// is over.
///
/// The time counts from the `begin` of the shutdown, but whoever is left gets
/// a moment.
fn end_processes(console: &Console, begin: Instant) {
    let cmdline = Cmdline::current().unwrap_or_default();
    let limit = cmdline.get("lkinit.shutdown-timeout").and_then(duration).unwrap_or(SHUTDOWN_TIMEOUT);
    let limit = limit.saturating_sub(begin.elapsed()).max(MOMENT);
    for (signal, limit) in [(Signal::SIGTERM, limit), (Signal::SIGKILL, KILLED)] {
        if let Err(error) = process::signal_all(signal) {
            warning!(console, "shutdown: cannot send {signal} to all: {error}");
        }
        let left = wait_for_all(limit);
        if left.is_empty() {
            return;
        }
        let names: Vec<String> = left.iter().map(|pid| name(*pid)).collect();
        warning!(
            console,
            "shutdown: still there {:.1}s after {signal}: {}",
            limit.as_secs_f32(),
            names.join(", ")
        );
    }
}

/// Waits for the end of every process but PID 1 and this one; returns those
/// that are left when the time is over.
fn wait_for_all(limit: Duration) -> Vec<i32> {
    let end = Instant::now() + limit;
    loop {
        let left = processes();
        if left.is_empty() || Instant::now() >= end {
            return left;
        }
        for pid in left {
            let Ok(Some(pidfd)) = process::open_pidfd(pid) else { continue };
            let patience = end.saturating_duration_since(Instant::now());
            let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO));
        }
    }
}

/// Processes of user space that run, without PID 1 and this one.
fn processes() -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let alive =
        |pid: &i32| Stat::read(*pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X') && stat.parent != 2);
    pids.filter(|pid| !matches!(pid, 1 | 2) && *pid != own).filter(alive).collect()
}

fn name(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}

/// Unmounts what can be unmounted, newest first, and makes the rest read-only.
fn put_away_filesystems(console: &Console) {
    let table = match MountTable::read() {
        Ok(table) => table,
        Err(error) => {
            return warning!(console, "shutdown: cannot read the mounts: {error}; nothing is unmounted");
        }
    };
    let mut left = Vec::new();
    for mount in table.iter().rev() {
        let kept = KEEP.iter().any(|path| mount.point.starts_with(path));
        if kept || mount.point == Path::new("/") {
            continue;
        }
        match nix::mount::umount2(&mount.point, MntFlags::UMOUNT_NOFOLLOW) {
            // Below something that is mounted over, or gone with it.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => left.push((mount, error)),
        }
    }
    left.retain(|(mount, _)| mount.source.starts_with("/dev/"));
    for (mount, busy) in left {
        if let Err(error) = read_only(&mount.point) {
            let point = mount.point.display();
            warning!(
                console,
                "shutdown: {point}: cannot unmount it ({busy}) nor make it read-only ({error})"
            );
        }
    }
    // The root is a disk's in some images.
    let _ = read_only(Path::new("/"));
}

fn read_only(point: &Path) -> io::Result<()> {
    Linux.apply(&Action::Mount(Mount::remount(point, MsFlags::MS_RDONLY)))
}
