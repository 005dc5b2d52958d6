// SPDX-License-Identifier: Apache-2.0
//! The mounts there are: `/proc/self/mountinfo`.
//!
//! Source: proc_pid_mountinfo(5); the kernel's `show_mountinfo` and `mangle`
//! for what is escaped.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Its number.
    pub id: u32,
    /// The number of the mount it is on, which may be out of sight.
    pub parent: u32,
    /// `major:minor` of the filesystem.
    pub device: String,
    /// The directory (or file) of the filesystem that is seen at `point`.
    pub root: PathBuf,
    /// Where it is, seen from this process's root directory.
    pub point: PathBuf,
    /// Filesystem type.
    pub fstype: String,
    /// What was mounted, in the words of the one who mounted it.
    pub source: String,
    /// The filesystem's own options, still escaped.
    super_options: String,
}

impl MountInfo {
    fn parse(line: &[u8]) -> Option<Self> {
        // A single space between fields, even around an empty one.
        let mut fields = line.split(|&byte| byte == b' ');
        let mut text = || fields.next().map(|field| String::from_utf8_lossy(&unescape(field)).into_owned());
        let id = text()?.parse().ok()?;
        let parent = text()?.parse().ok()?;
        let device = text()?;
        let mut path = || fields.next().map(|field| PathBuf::from(OsString::from_vec(unescape(field))));
        let (root, point) = (path()?, path()?);
        // The mount's own options, then any number of optional fields.
        fields.find(|&field| field == b"-")?;
        let mut text = || fields.next().map(|field| String::from_utf8_lossy(&unescape(field)).into_owned());
        let (fstype, source) = (text()?, text()?);
        let super_options = String::from_utf8_lossy(fields.next()?).into_owned();
        Some(Self { id, parent, device, root, point, fstype, source, super_options })
    }

    /// The value of one of the filesystem's own options.
    pub fn super_option(&self, name: &str) -> Option<String> {
        let mut words = self.super_options.split(',');
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        Some(String::from_utf8_lossy(&unescape(value.as_bytes())).into_owned())
    }
}

/// The bytes of a field: `\ooo` is the byte of that octal number.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let number = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(number.unwrap_or(first));
        rest = tail.get(if number.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    bytes
}

/// All mounts of a mount namespace that this process can see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable(Vec<MountInfo>);

impl MountTable {
    /// Reads the text of a `mountinfo` file. A line of another form is left out.
    pub fn parse(text: &[u8]) -> Self {
        Self(text.split(|&byte| byte == b'\n').filter_map(MountInfo::parse).collect())
    }

    /// The calling thread's mounts now. (`/proc/self` would be those of the
    /// process's first thread.)
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read("/proc/thread-self/mountinfo")?))
    }

    /// All mounts. The kernel's order is that of its tree, not of time.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &MountInfo> {
        self.0.iter()
    }

    /// The mounts on exactly `path`, the lowest first. `path` has no
    /// symbolic links in it. A mount that is hidden, because something was
    /// mounted over a directory above it, is none.
    pub fn on(&self, path: &Path) -> Vec<&MountInfo> {
        let mut below = self.under(path);
        let mut stack = Vec::new();
        while let Some(mount) = self.child(below, path) {
            stack.push(mount);
            below = Some(mount);
        }
        stack
    }

    /// What `path` shows, so that two paths to the same thing can be told:
    /// the filesystem's device and the path inside it.
    pub fn shown(&self, path: &Path) -> Option<(&str, PathBuf)> {
        let mount = self.on(path).last().copied();
        inside(mount.or_else(|| self.under(path))?, path)
    }

    /// What `path` would show with nothing mounted on it.
    pub fn shown_under(&self, path: &Path) -> Option<(&str, PathBuf)> {
        inside(self.under(path)?, path)
    }

    /// The mount that the directory entry `path` is in: found as the kernel
    /// does, from the root down and up each stack.
    fn under(&self, path: &Path) -> Option<&MountInfo> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        let mut mount = None;
        while let Some(directory) = above.pop() {
            while let Some(next) = self.child(mount, directory) {
                mount = Some(next);
            }
        }
        mount
    }

    /// The mount on `point` whose parent is `below`; without one, a mount
    /// whose parent is out of sight.
    fn child(&self, below: Option<&MountInfo>, point: &Path) -> Option<&MountInfo> {
        let on = |mount: &MountInfo| match below {
            // The root of all mounts is its own parent.
            Some(below) => mount.parent == below.id && mount.id != below.id,
            None => mount.id == mount.parent || self.0.iter().all(|other| other.id != mount.parent),
        };
        self.0.iter().find(|mount| mount.point == point && on(mount))
    }
}

fn inside<'a>(mount: &'a MountInfo, path: &Path) -> Option<(&'a str, PathBuf)> {
    let rest = path.strip_prefix(&mount.point).ok()?;
    // No trailing slash, which join() leaves behind when nothing follows.
    let root = mount.root.join(rest).components().collect();
    Some((&mount.device, root))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
21 1 0:2 / / rw,relatime shared:1 - rootfs rootfs rw
30 21 0:25 / /run rw,nosuid shared:2 - tmpfs tmpfs rw,size=10%
31 30 0:26 / /run/a\\040b rw - tmpfs  rw
40 21 0:40 / /c/tmp rw shared:3 master:2 propagate_from:1 - tmpfs tmpfs rw
41 21 0:41 / /c/root rw shared:4 - overlay overlay rw,lowerdir=/a\\054b:/l,upperdir=/u
42 41 0:2 /host/etc /c/root/etc rw - rootfs rootfs rw
43 42 0:43 / /c/root/etc rw - tmpfs over rw
50 21 0:50 / /c rw - ext4 /dev/sda rw
51 50 0:51 / /c/new rw - tmpfs tmpfs rw
not a line
60 21 0:60 / /broken rw shared:1";

    #[test]
    fn fields_are_told_apart_whatever_is_between_them() {
        let table = MountTable::parse(TEXT.as_bytes());
        assert_eq!(table.iter().count(), 9, "two lines are no mounts");
        let space = table.iter().find(|mount| mount.id == 31).unwrap();
        assert_eq!((space.point.to_str(), &*space.source), (Some("/run/a b"), ""));
        let tmp = table.iter().find(|mount| mount.id == 40).unwrap();
        assert_eq!((tmp.parent, &*tmp.device, &*tmp.fstype, &*tmp.source), (21, "0:40", "tmpfs", "tmpfs"));
        let overlay = table.iter().find(|mount| mount.id == 41).unwrap();
        assert_eq!(overlay.super_option("lowerdir").as_deref(), Some("/a,b:/l"));
        assert_eq!(overlay.super_option("upperdir").as_deref(), Some("/u"));
        assert_eq!(overlay.super_option("lower"), None);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_is_itself() {
        assert_eq!(unescape(br"a\134b\9\04"), br"a\b\9\04");
    }

    #[test]
    fn what_is_on_a_path_is_found_as_the_kernel_finds_it() {
        let ids = |table: &MountTable, path: &str| -> Vec<u32> {
            table.on(Path::new(path)).iter().map(|mount| mount.id).collect()
        };
        let table = MountTable::parse(TEXT.as_bytes());
        assert_eq!(ids(&table, "/"), [21]);
        assert_eq!(ids(&table, "/run"), [30]);
        assert_eq!(ids(&table, "/c/tmp"), [0; 0], "hidden by the disk on /c");
        assert_eq!(ids(&table, "/c/new"), [51]);
        let before: String =
            TEXT.lines().filter(|line| !line.starts_with('5')).collect::<Vec<_>>().join("\n");
        let before = MountTable::parse(before.as_bytes());
        assert_eq!(ids(&before, "/c/tmp"), [40]);
        assert_eq!(ids(&before, "/c/root/etc"), [42, 43]);
        let shown = |path: &str| before.shown(Path::new(path));
        assert_eq!(shown("/c/root/etc"), Some(("0:43", "/".into())));
        assert_eq!(before.shown_under(Path::new("/c/root/etc")), Some(("0:41", "/etc".into())));
        assert_eq!(shown("/c/root/etc/ssl"), Some(("0:43", "/ssl".into())));
        assert_eq!(shown("/etc"), Some(("0:2", "/etc".into())));
    }

    #[test]
    fn a_process_whose_root_is_no_mount_point_still_sees_its_mounts() {
        let table =
            MountTable::parse(b"5 1 0:5 / /proc rw - proc proc rw\n6 5 0:6 / /proc/x rw - tmpfs t rw\n");
        assert_eq!(table.on(Path::new("/proc/x")).len(), 1);
        assert_eq!(table.shown(Path::new("/etc")), None);
    }

    #[test]
    fn the_running_kernels_table_is_read() {
        let table = MountTable::read().unwrap();
        assert_eq!(table.on(Path::new("/proc")).last().unwrap().fstype, "proc");
    }
}
