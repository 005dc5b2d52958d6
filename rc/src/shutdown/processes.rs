// SPDX-License-Identifier: Apache-2.0
//! The end of every process that is still there.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use init::console::Console;
use init::sys::process;
use init::warning;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::{SIGN, one, sign_of_life};
use crate::process::{Stat, is_deaf, pids};

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(2);

/// How many processes are watched at once, so that descriptors do not run out.
const WATCHED: usize = 512;

/// SIGTERM for all but those that are `spared`, and SIGKILL for those that are
/// still there when `limit` is over, or when only such are left as never see a
/// SIGTERM.
pub(super) fn end(console: &Console, limit: Duration, spared: &[i32]) {
    for (signal, limit) in [(Signal::SIGTERM, limit), (Signal::SIGKILL, KILLED)] {
        if let Err(error) = signal_all(signal, spared) {
            warning!(console, "shutdown: cannot send {signal} to all: {error}");
        }
        if signal == Signal::SIGTERM {
            wake(spared);
        }
        let begin = Instant::now();
        let left = wait(limit, spared, signal == Signal::SIGTERM);
        if left.is_empty() {
            return;
        }
        // Those that were not waited for are no news.
        if begin.elapsed() >= limit {
            let names: Vec<String> = left.iter().map(|pid| name(*pid)).collect();
            let seconds = limit.as_secs_f32();
            warning!(console, "shutdown: still there {seconds:.1}s after {signal}: {}", names.join(", "));
        }
    }
}

/// The processes that wait for this one, from its parent up to PID 1's child.
pub(super) fn ancestors() -> Vec<i32> {
    let parent = |pid: &i32| Stat::read(*pid).map(|stat| stat.parent).filter(|parent| *parent > 1);
    std::iter::successors(parent(&std::process::id().cast_signed()), parent).collect()
}

fn signal_all(signal: Signal, spared: &[i32]) -> io::Result<()> {
    if spared.is_empty() && !one::is_there_another() {
        // One call, so that none that is just being forked gets away.
        return process::signal_all(signal).map(drop);
    }
    processes(spared).into_iter().try_for_each(|pid| process::signal(pid, signal))
}

/// What SIGTERM does not end: a shell at a terminal, which ends when its line
/// is hung up, and what is stopped, which sees no signal before it goes on.
fn wake(spared: &[i32]) {
    for pid in processes(spared) {
        let leads = |stat: &Stat| stat.session == pid && stat.terminal != 0;
        if Stat::read(pid).as_ref().is_some_and(leads) {
            let _ = process::signal(pid, Signal::SIGHUP);
        }
    }
    let _ = signal_all(Signal::SIGCONT, spared);
}

/// Waits for the end of every process but PID 1, this one and those that are
/// spared; returns those
/// that are left when the time is over. With `asked`, the time is over when
/// only such are left as never see what they were asked by.
fn wait(limit: Duration, spared: &[i32], asked: bool) -> Vec<i32> {
    let end = Instant::now() + limit;
    loop {
        let left = processes(spared);
        let patience = end.saturating_duration_since(Instant::now());
        if left.is_empty()
            || patience.is_zero()
            || asked && left.iter().all(|pid| is_deaf(*pid, Signal::SIGTERM as i32))
        {
            return left;
        }
        // One that ends under our eyes is not there on the next look.
        let open = |pid: &i32| process::open_pidfd(*pid).ok().flatten();
        let watched: Vec<OwnedFd> = left.iter().take(WATCHED).filter_map(open).collect();
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        sign_of_life();
        let millis = i32::try_from(patience.min(SIGN).as_millis()).unwrap_or(i32::MAX).max(1);
        if !fds.is_empty() {
            let _ = poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO));
        }
    }
}

/// Processes of user space that run, without PID 1, this one and those that
/// are spared; another shutdown is one of them.
fn processes(spared: &[i32]) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let alive =
        |pid: &i32| Stat::read(*pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X') && stat.parent != 2);
    let spared = |pid: &i32| matches!(pid, 1 | 2) || *pid == own || spared.contains(pid);
    pids().filter(|pid| !spared(pid)).filter(alive).filter(|pid| !one::is_another(*pid)).collect()
}

fn name(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_us_is_an_ancestor() {
        let ancestors = ancestors();
        let parent = std::os::unix::process::parent_id().cast_signed();
        assert!(parent == 1 || ancestors.first() == Some(&parent), "{parent}: {ancestors:?}");
        assert!(!ancestors.contains(&1) && !ancestors.contains(&std::process::id().cast_signed()));
    }
}
