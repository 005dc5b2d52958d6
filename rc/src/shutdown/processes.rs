// SPDX-License-Identifier: Apache-2.0
//! The end of every process that is still there.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use init::console::Console;
use init::sys::process;
use init::warning;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::process::Stat;

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(2);

/// How many processes are watched at once, so that descriptors do not run out.
const WATCHED: usize = 512;

/// SIGTERM for all, and SIGKILL for those that are still there when `limit` is
/// over, or when only such are left as never see a SIGTERM.
pub(super) fn end(console: &Console, limit: Duration) {
    for (signal, limit) in [(Signal::SIGTERM, limit), (Signal::SIGKILL, KILLED)] {
        if let Err(error) = process::signal_all(signal) {
            warning!(console, "shutdown: cannot send {signal} to all: {error}");
        }
        if signal == Signal::SIGTERM {
            wake();
        }
        let begin = Instant::now();
        let left = wait(limit, signal == Signal::SIGTERM);
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

/// What SIGTERM does not end: a shell at a terminal, which ends when its line
/// is hung up, and what is stopped, which sees no signal before it goes on.
fn wake() {
    for pid in processes() {
        let leads = |stat: &Stat| stat.session == pid && stat.terminal != 0;
        if Stat::read(pid).as_ref().is_some_and(leads) {
            let _ = process::signal(pid, Signal::SIGHUP);
        }
    }
    let _ = process::signal_all(Signal::SIGCONT);
}

/// Waits for the end of every process but PID 1 and this one; returns those
/// that are left when the time is over. With `asked`, the time is over when
/// only such are left as never see what they were asked by.
fn wait(limit: Duration, asked: bool) -> Vec<i32> {
    let end = Instant::now() + limit;
    loop {
        let left = processes();
        let patience = end.saturating_duration_since(Instant::now());
        if left.is_empty() || patience.is_zero() || asked && left.iter().all(|pid| deaf(*pid)) {
            return left;
        }
        // One that ends under our eyes is not there on the next look.
        let open = |pid: &i32| process::open_pidfd(*pid).ok().flatten();
        let watched: Vec<OwnedFd> = left.iter().take(WATCHED).filter_map(open).collect();
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX).max(1);
        if !fds.is_empty() {
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

/// Whether a process never sees a SIGTERM: the first one of a container sees
/// only what it has a handler for, or waits for (pid_namespaces(7)).
fn deaf(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| is_deaf(&text))
}

/// By `/proc/PID/status` (proc_pid_status(5)). A signal that is blocked is
/// kept, and may be taken by sigwait(3).
fn is_deaf(status: &str) -> bool {
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let has = |key: &str| {
        let set = field(key).and_then(|set| u64::from_str_radix(set, 16).ok());
        // Without an answer it counts as one that listens.
        set.is_none_or(|set| set & (1 << (Signal::SIGTERM as u32 - 1)) != 0)
    };
    let mut numbers = field("NSpid:").unwrap_or_default().split_ascii_whitespace();
    let first = numbers.clone().count() > 1 && numbers.next_back() == Some("1");
    first && !has("SigCgt:") && !has("SigBlk:")
}

fn name(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(nspid: &str, blocked: &str, caught: &str) -> String {
        format!(
            "Name:\tx\nNSpid:\t{nspid}\nSigBlk:\t{blocked}\nSigIgn:\t0000000000000000\nSigCgt:\t{caught}\n"
        )
    }

    #[test]
    fn only_the_first_process_of_a_container_without_a_handler_is_deaf() {
        let (none, term) = ("0000000000000000", "0000000000004000");
        assert!(is_deaf(&status("812\t1", none, none)));
        assert!(is_deaf(&status("812\t1", none, "0000000000010002")));
        assert!(!is_deaf(&status("812\t1", none, term)));
        assert!(!is_deaf(&status("812\t1", term, none)));
        assert!(!is_deaf(&status("812\t7", none, none)));
        assert!(!is_deaf(&status("1", none, none)));
        assert!(!is_deaf("Name:\tx\n"));
    }
}
