// SPDX-License-Identifier: Apache-2.0
//! The last step of a machine that rc.shutdown has not taken down.

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use crate::console::Level;
use crate::log::Log;
use crate::mount::Mount;
use crate::sys::power::{self, PowerAction};
use crate::sys::{self, process};

/// The inode of the first PID namespace (`PROC_PID_INIT_INO` of the kernel's
/// `include/linux/proc_ns.h`, a part of its interface by long use).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Writes everything to the disks, makes them read-only, ends the machine.
/// Runs in a child of PID 1, since any of it may hang. Returns an exit status
/// when the machine cannot be ended.
pub(super) fn run(action: PowerAction, log: &mut Log) -> i32 {
    power::sync();
    for target in disks(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()) {
        let call = Mount::remount(&target, MsFlags::MS_RDONLY);
        if let Err(error) = sys::mount(&call) {
            log.line(Level::Warning, format_args!("{call}: {error}"));
        }
    }
    match power::finish(action) {
        Ok(()) => 0,
        Err(error) => {
            log.line(Level::Error, format_args!("{action}: {error}"));
            1
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

/// Where disks are mounted, the newest mount first, by the text of
/// `/proc/self/mounts`; and the root, whatever it is.
fn disks(mounts: &str) -> Vec<PathBuf> {
    let mut targets: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (source, target) = (fields.next()?, fields.next()?);
            source.starts_with("/dev/").then(|| unescape(target))
        })
        .filter(|target| target != Path::new("/"))
        .collect();
    targets.reverse();
    targets.push(PathBuf::from("/"));
    targets
}

/// Undoes the kernel's `\040` for blanks, tabs, line breaks and backslashes in paths.
fn unescape(field: &str) -> PathBuf {
    let mut pieces = field.split('\\');
    let mut path = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                path.push(char::from(code));
                path.push_str(piece.get(3..).unwrap_or_default());
            }
            None => path.push_str(piece),
        }
    }
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_found_newest_first_and_the_root_last() {
        let mounts = "rootfs / rootfs rw 0 0\n\
            /dev/vda / ext4 rw 0 0\n\
            tmpfs /run tmpfs rw 0 0\n\
            /dev/vdb /var/lib ext4 rw 0 0\n\
            /dev/vdc /var/lib/a\\040b\\134c xfs rw 0 0\n\
            cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let expected = ["/var/lib/a b\\c", "/var/lib", "/"].map(PathBuf::from);
        assert_eq!(disks(mounts), expected);
        assert_eq!(disks(""), [PathBuf::from("/")]);
    }
}
