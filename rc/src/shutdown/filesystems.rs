// SPDX-License-Identifier: Apache-2.0
//! Filesystems at the end: written, unmounted newest first, and read-only
//! where they will not go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use init::action::{Action, Kernel as _};
use init::console::Console;
use init::mount::Mount;
use init::mountinfo::MountTable;
use init::sys::{Linux, power};
use init::{error, info, warning};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::sign_of_life;
use crate::paths;

/// Filesystems that hold nothing, and that other steps need to the end.
const KEEP: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// How often a disk that takes its time is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// So many looks without anything written or unmounted, and the machine goes down without.
const STUCK: u32 = 3;

/// Puts every filesystem away. A disk that takes nothing any more does not
/// hold up the end of the machine; one that is merely slow is waited for.
///
/// Not in a container: its disks are its host's, and may be used by others.
pub(super) fn put_away(console: &Console) {
    if !Path::new(paths::MACHINE).exists() {
        return;
    }
    let (done, waiting) = channel();
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = lines.clone();
    let work = move || {
        let problems = put_all_away();
        if let Ok(mut lines) = told.lock() {
            lines.extend(problems);
        }
        // Nobody waits any more when it has taken too long.
        let _ = done.send(());
    };
    if let Err(error) = thread::Builder::new().name("filesystems".to_owned()).spawn(work) {
        warning!(console, "shutdown: cannot start a thread: {error}");
        put_all_away().iter().for_each(|line| warning!(console, "{line}"));
        return;
    }
    let mut looks = Looks::default();
    loop {
        match waiting.recv_timeout(LOOK) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = unwritten_kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().count();
        if looks.is_going_on(now, mounts) {
            sign_of_life();
        }
        if looks.in_vain == STUCK {
            let seconds = LOOK.as_secs() * u64::from(STUCK);
            return error!(
                console,
                "shutdown: a disk has taken nothing for {seconds}s: going down without it; {now} KiB are lost"
            );
        }
        info!(console, "shutdown: still writing to disks: {now} KiB are left");
    }
    lines.lock().iter().flat_map(|lines| lines.iter()).for_each(|line| warning!(console, "{line}"));
}

/// What there was to be seen of a disk that takes its time.
struct Looks {
    unwritten: u64,
    mounts: usize,
    /// So many times nothing has become less.
    in_vain: u32,
}

impl Default for Looks {
    fn default() -> Self {
        Self { unwritten: u64::MAX, mounts: usize::MAX, in_vain: 0 }
    }
}

impl Looks {
    /// Whether there is less to write, or less that is mounted, than before.
    fn is_going_on(&mut self, unwritten: u64, mounts: usize) -> bool {
        let less = unwritten < self.unwritten || mounts < self.mounts;
        self.in_vain = if less { 0 } else { self.in_vain + 1 };
        (self.unwritten, self.mounts) = (unwritten, mounts);
        less
    }
}

/// What waits to be written: `Dirty` and `Writeback` of proc_meminfo(5).
fn unwritten_kib(meminfo: &str) -> u64 {
    let field = |key: &str| {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        rest.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    field("Dirty:") + field("Writeback:")
}

fn put_all_away() -> Vec<String> {
    power::sync();
    let mut problems = Vec::new();
    // One that is busy may be so because of one that is gone after a pass.
    let mut before = usize::MAX;
    loop {
        let left = match MountTable::read() {
            Ok(table) => unmount_all(&table),
            Err(error) => {
                problems.push(format!("shutdown: cannot read the mounts: {error}; nothing is unmounted"));
                break;
            }
        };
        if !left.is_empty() && left.len() < before {
            before = left.len();
            continue;
        }
        for (point, busy) in left {
            if let Err(error) = read_only(&point) {
                problems.push(format!(
                    "shutdown: {}: cannot unmount it ({busy}) nor make it read-only ({error})",
                    point.display()
                ));
            }
        }
        break;
    }
    // The root is a disk's in some images.
    let _ = read_only(Path::new("/"));
    power::sync();
    problems
}

/// Unmounts what can be unmounted, newest first. Gives the disks that are
/// busy, and why.
fn unmount_all(table: &MountTable) -> Vec<(PathBuf, Errno)> {
    let mut left = Vec::new();
    for mount in table.iter().rev() {
        let kept = KEEP.iter().any(|path| mount.point.starts_with(path));
        if kept || mount.point == Path::new("/") {
            continue;
        }
        let disk = mount.source.starts_with("/dev/");
        if disk {
            // All of the filesystem and not this mount of it: another mount
            // namespace may have it, and then it is not clean when it is
            // unmounted here.
            let _ = read_only(&mount.point);
        }
        match nix::mount::umount2(&mount.point, MntFlags::UMOUNT_NOFOLLOW) {
            // Below something that is mounted over, or gone with it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) if disk => left.push((mount.point.clone(), error)),
            Err(_) => {}
        }
    }
    left
}

fn read_only(point: &Path) -> io::Result<()> {
    Linux.apply(&Action::Mount(Mount::remount(point, MsFlags::MS_RDONLY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_is_going_on_and_one_that_is_stuck_is_not() {
        let mut looks = Looks::default();
        for (unwritten, mounts) in [(500, 9), (400, 9), (400, 8), (450, 7)] {
            assert!(looks.is_going_on(unwritten, mounts) && looks.in_vain == 0, "{unwritten} {mounts}");
        }
        for count in 1..=STUCK {
            assert!(!looks.is_going_on(450, 7));
            assert_eq!(looks.in_vain, count);
        }
        assert!(looks.is_going_on(449, 7));
        assert_eq!(looks.in_vain, 0);
    }

    #[test]
    fn what_is_not_written_yet() {
        let text = "MemTotal: 1000 kB\nDirty:               128 kB\nWriteback:             4 kB\nWritebackTmp: 9 kB\n";
        assert_eq!(unwritten_kib(text), 132);
        assert_eq!(unwritten_kib(""), 0);
    }
}
