// SPDX-License-Identifier: Apache-2.0
//! The last step of a machine that rc.shutdown has not taken down.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use crate::console::Level;
use crate::log::Log;
use crate::mount::Mount;
use crate::mountinfo::MountTable;
use crate::sys::power::{self, PowerAction};
use crate::sys::{self, process};

/// The inode of the first PID namespace (`PROC_PID_INIT_INO` of the kernel's
/// `include/linux/proc_ns.h`, a part of its interface by long use).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Writes everything to the disks, makes them read-only, ends the machine.
/// Runs in a child of PID 1, since any of it may hang. Returns an exit status
/// when the machine cannot be ended. The disks of a container are its host's.
pub(super) fn run(action: PowerAction, log: &mut Log) -> i32 {
    if !in_container() {
        put_disks_away(log);
    }
    match power::finish(action) {
        Ok(()) => 0,
        Err(error) => {
            log.line(Level::Error, format_args!("{action}: {error}"));
            1
        }
    }
}

fn put_disks_away(log: &mut Log) {
    power::sync();
    let table = MountTable::read().unwrap_or_else(|_| MountTable::parse(b""));
    for target in disks(&table) {
        let call = Mount::remount(&target, MsFlags::MS_RDONLY);
        if let Err(error) = sys::mount(&call) {
            log.line(Level::Warning, format_args!("{call}: {error}"));
        }
    }
}

/// Ends the machine at once, from PID 1 itself. Returns when the kernel will
/// not. PID 1 of a container that may not call reboot(2) ends instead: that is
/// how a container is powered off, and nothing is left running in it.
pub(super) fn end(action: PowerAction, log: &mut Log) {
    let Err(error) = power::finish(action) else { return };
    if in_container() {
        log.line(Level::Info, format_args!("{action}: the container ends"));
        process::exit_now(0);
    }
    log.line(Level::Error, format_args!("{action}: {error}; the machine has to be reset"));
}

fn in_container() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != FIRST_PID_NAMESPACE)
}

/// Where disks are mounted, the newest mount first; and the root, whatever it is.
fn disks(table: &MountTable) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = table
        .iter()
        .rev()
        .filter(|mount| mount.source.starts_with("/dev/") && mount.point != Path::new("/"))
        .map(|mount| mount.point.clone())
        .collect();
    points.push(PathBuf::from("/"));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_found_newest_first_and_the_root_last() {
        let table = MountTable::parse(
            b"21 1 254:0 / / rw - ext4 /dev/vda rw\n\
              24 21 0:20 / /run rw - tmpfs tmpfs rw\n\
              25 21 254:16 / /var/lib rw - ext4 /dev/vdb rw\n\
              26 25 254:32 / /var/lib/a\\040b rw - xfs /dev/vdc rw\n\
              27 21 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(disks(&table), ["/var/lib/a b", "/var/lib", "/"].map(PathBuf::from));
        assert_eq!(disks(&MountTable::parse(b"")), [PathBuf::from("/")]);
    }
}
