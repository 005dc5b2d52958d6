// SPDX-License-Identifier: Apache-2.0
//! Processes that may not be children of ours: who they are, and their end.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use init::reaped;
use init::sys::process::signal;
use nix::libc;
use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::engine::Exit;
use crate::watch::{Readable, Watch};

/// The tree of control groups.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// How long PID 1 may take to reap a process and write it down.
const RECORDED: Duration = Duration::from_secs(1);

/// A process, told from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start: u64,
}

impl Identity {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: Stat::read(pid)?.start })
    }

    /// Whether it has not been reaped.
    fn is_there(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start == self.start)
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && !matches!(stat.state, 'Z' | 'X'))
    }
}

/// `PID START`, the form it has in a file.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

impl FromStr for Identity {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (pid, start) = text.trim().split_once(' ').ok_or(())?;
        Ok(Self { pid: pid.parse().map_err(drop)?, start: start.parse().map_err(drop)? })
    }
}

/// What we read of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    /// The one-letter state.
    pub state: char,
    /// The parent's pid; 2 for kernel threads.
    pub parent: i32,
    /// The pid of its session's leader.
    pub session: i32,
    /// The number of its controlling terminal's device; 0 for none.
    pub terminal: i64,
    /// Start time in clock ticks since boot.
    pub start: u64,
}

impl Stat {
    /// Of a process that is there.
    pub fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The program's name may hold anything, also blanks and brackets:
        // the fields count from the last bracket on.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let terminal = fields.next()?.parse().ok()?;
        let start = fields.nth(14)?.parse().ok()?;
        Some(Self { state, parent, session, terminal, start })
    }
}

/// The pids of all processes there are.
pub fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes whose command line is one of those that are looked for.
pub fn find(wanted: impl Fn(&[&[u8]]) -> bool) -> Vec<Identity> {
    let matches = |pid: &i32| {
        let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        wanted(&text.split(|byte| *byte == 0).collect::<Vec<_>>())
    };
    pids().filter(matches).filter_map(Identity::of).collect()
}

/// Waits until a process is gone, whoever its parent is.
///
/// # Errors
/// Those of pidfd_open(2), a process that is gone excepted.
pub async fn gone(identity: Identity) -> io::Result<()> {
    // A zombie counts as long as it is there: other threads of it may still run.
    if identity.is_there()
        && let Some(pidfd) = init::sys::process::open_pidfd(identity.pid)?
        && identity.is_there()
    {
        Readable::new(pidfd)?.readable().await?;
    }
    Ok(())
}

/// Ends programs that do not end by themselves, with all that they have started,
/// and removes the control groups that they have made for that.
///
/// Each process is stopped before its children are looked for: it starts no
/// more then, and none becomes somebody else's child meanwhile.
pub async fn end_trees(roots: Vec<Identity>) {
    let own = group(std::process::id().cast_signed());
    let (mut tree, mut seen) = (roots, 0);
    let mut groups = BTreeSet::new();
    while let Some(process) = tree.get(seen).copied() {
        seen += 1;
        // It fails for what has just ended.
        let _ = signal(process.pid, Signal::SIGSTOP);
        groups.extend(group(process.pid).filter(|group| Some(group) != own.as_ref()));
        tree.extend(children(process.pid));
    }
    for process in &tree {
        let _ = signal(process.pid, Signal::SIGKILL);
    }
    for process in tree {
        let _ = gone(process).await;
    }
    // Those below others first.
    for group in groups.into_iter().rev() {
        // One that is still of use has processes, or groups below it.
        let _ = fs::remove_dir(Path::new(CGROUPS).join(group.trim_start_matches('/')));
    }
}

fn children(parent: i32) -> Vec<Identity> {
    let child = |pid| Stat::read(pid).filter(|stat| stat.parent == parent).map(|stat| (pid, stat.start));
    pids().filter_map(child).map(|(pid, start)| Identity { pid, start }).collect()
}

/// The control group of a process, by the line of `/proc/PID/cgroup` that is
/// about the one tree (cgroups(7)).
fn group(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Leaves the control group of whoever has started this program, which may be
/// killed as a whole: for the root of the tree.
///
/// A container sees a group as its root that is none, and may hold no process
/// beside groups with controllers (cgroups(7), "no internal processes"): who
/// goes there keeps crun trying for seconds to start a container. There this
/// program stays where it is.
pub fn leave_group(tree: &Path) {
    if !tree.join("cgroup.type").exists() {
        let _ = fs::write(tree.join("cgroup.procs"), std::process::id().to_string());
    }
}

/// Whether a process never sees a signal: the first one of a container sees
/// only what it has a handler for, or waits for (pid_namespaces(7)). To wait
/// for what such a signal does would be in vain.
pub fn is_deaf(pid: i32, signal: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| deaf_by(&status, signal))
}

/// By `/proc/PID/status` (proc_pid_status(5)). A signal that is blocked is
/// kept, and may be taken by sigwait(3).
fn deaf_by(status: &str, signal: i32) -> bool {
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let bit = u32::try_from(signal - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0);
    let has = |key: &str| {
        let set = field(key).and_then(|set| u64::from_str_radix(set, 16).ok());
        // Without an answer it counts as one that listens.
        set.is_none_or(|set| set & bit != 0)
    };
    let mut numbers = field("NSpid:").unwrap_or_default().split_ascii_whitespace();
    let first = numbers.clone().count() > 1 && numbers.next_back() == Some("1");
    first && !matches!(signal, libc::SIGKILL | libc::SIGSTOP) && !has("SigCgt:") && !has("SigBlk:")
}

/// Waits for the end of a process that is not our child; how it ended is
/// found in PID 1's record of what it reaps.
///
/// # Errors
/// Those of pidfd_open(2), a process that is gone excepted.
pub async fn end_of_stranger(identity: Identity) -> io::Result<Exit> {
    // The watch comes before what it is to see: PID 1 writes the record at
    // about the time at which the descriptor tells of the end.
    let record = Watch::new(Path::new(reaped::PATH));
    gone(identity).await?;
    let find = || reaped::find(identity.pid, identity.start).ok().flatten();
    let recorded = async {
        loop {
            match (find(), &record) {
                (Some(found), _) => return Exit::of_status(found.status.into_raw()),
                (None, Ok(record)) => record.changed().await,
                (None, Err(_)) => return Exit::LOST,
            }
        }
    };
    // No record: somebody else was its parent.
    Ok(timeout(RECORDED, recorded).await.unwrap_or(Exit::LOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_hostile_name() {
        let line = "42 (a) R 1 (b)) S 7 42 41 1088 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(
            Stat::parse(line),
            Some(Stat { state: 'S', parent: 7, session: 41, terminal: 1088, start: 987_654 })
        );
        assert_eq!(Stat::parse("42 (x) S"), None);
    }

    #[test]
    fn only_the_first_process_of_a_container_without_a_handler_is_deaf() {
        let status = |nspid: &str, blocked: &str, caught: &str| {
            format!("Name:\tx\nNSpid:\t{nspid}\nSigBlk:\t{blocked}\nSigCgt:\t{caught}\n")
        };
        let (none, term) = ("0000000000000000", "0000000000004000");
        let deaf = |status: &str| deaf_by(status, libc::SIGTERM);
        assert!(deaf(&status("812\t1", none, none)));
        assert!(deaf(&status("812\t1", none, "0000000000010002")));
        assert!(!deaf(&status("812\t1", none, term)));
        assert!(!deaf(&status("812\t1", term, none)));
        assert!(!deaf(&status("812\t7", none, none)));
        assert!(!deaf(&status("1", none, none)));
        assert!(!deaf("Name:\tx\n"));
        assert!(deaf_by(&status("812\t1", none, term), libc::SIGQUIT));
        assert!(!deaf_by(&status("812\t1", none, none), libc::SIGKILL));
        assert!(!deaf_by(&status("812\t1", none, "0000001000000000"), 37));
    }

    #[test]
    fn only_the_root_of_all_groups_takes_processes() {
        let dir = tempfile::tempdir().unwrap();
        let procs = dir.path().join("cgroup.procs");
        fs::write(dir.path().join("cgroup.type"), "domain\n").unwrap();
        leave_group(dir.path());
        assert!(!procs.exists());
        fs::remove_file(dir.path().join("cgroup.type")).unwrap();
        leave_group(dir.path());
        assert_eq!(fs::read_to_string(procs).unwrap(), std::process::id().to_string());
    }

    #[test]
    fn a_program_ends_with_all_that_it_has_started() {
        let mut command = std::process::Command::new("/bin/sh");
        let mut child = command.args(["-c", "sh -c 'sleep 4242 & sleep 4242' & sleep 4242"]).spawn().unwrap();
        let root = Identity::of(child.id().cast_signed()).unwrap();
        let below = || children(root.pid).iter().flat_map(|shell| children(shell.pid)).collect::<Vec<_>>();
        while below().len() < 2 {
            std::thread::yield_now();
        }
        let tree: Vec<Identity> = children(root.pid).into_iter().chain(below()).collect();
        assert_eq!(tree.len(), 4);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(end_trees(vec![root]));
        child.wait().unwrap();
        assert!(tree.iter().all(|process| !process.is_alive()), "{tree:?}");
    }

    #[test]
    fn we_are_alive() {
        let us = Identity::of(std::process::id().cast_signed()).unwrap();
        assert!(us.is_alive());
        assert!(!Identity { start: us.start + 1, ..us }.is_alive());
        assert_eq!(us.to_string().parse(), Ok(us));
    }
}
