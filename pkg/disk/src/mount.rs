// SPDX-License-Identifier: Apache-2.0
//! `mountie`: a filesystem of a disk, found by device, label, UUID or as the
//! first that nobody uses, mounted where the machine wants it.

mod find;

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use init::mount::{Mount, MsFlags};
use init::sys;
use lexopt::Arg;

pub use find::{FindError, Wanted, find};

use crate::format::is_unfinished;
use crate::probe::{Blkid, Content, Probe};
use crate::step::Step;
use crate::{complain, devices, flags, say, wait};

/// What `-help` prints.
pub const USAGE: &str = "\
usage: mountie [-timeout SECONDS] [-device DEVICE | -label LABEL | -uuid UUID] MOUNTPOINT
       mountie [-timeout SECONDS] DEVICE MOUNTPOINT

Mounts a filesystem on MOUNTPOINT, which is made if it is not there. Where none
is named it is that of the first Linux partition which is not in use, disks in
the order of their names. One that is not there is waited for, 10 s if nothing is
said. ext2, ext3 and ext4 are checked before (e2fsck -p).
";

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Which filesystem.
    pub wanted: Wanted,
    /// Where to.
    pub point: PathBuf,
    /// How long to wait for it.
    pub timeout: Duration,
}

/// Why a filesystem was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point cannot be made.
    #[error("cannot make the directory {}", .0.display())]
    Point(PathBuf, #[source] io::Error),
    /// Its disk would be formatted again at the next boot.
    #[error(
        "{}: not mounted: formatting {} was begun and not ended, and the next `format` begins again; \
         what is written here would be gone", .0.display(), .1.display()
    )]
    Unfinished(PathBuf, PathBuf),
    /// There is no filesystem on it.
    #[error("{}: nothing that can be mounted: it has {}", .0.display(), .1)]
    NoFilesystem(PathBuf, String),
    /// mount(2) failed.
    #[error("cannot mount {} ({}) on {}", .0.display(), .1, .2.display())]
    Mount(PathBuf, String, PathBuf, #[source] io::Error),
}

impl Arguments {
    /// Reads the command line, without the program's name; `None` asks for help.
    ///
    /// # Errors
    /// On an unknown flag, and where the mount point is missing.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, lexopt::Error> {
        let (mut device, mut label, mut uuid) = (None, None, None);
        let mut names: Vec<PathBuf> = Vec::new();
        let mut timeout = wait::PATIENCE;
        let mut parser = flags::parser(words);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("device") => device = Some(PathBuf::from(flags::text(&mut parser)?)),
                Arg::Long("label") => label = Some(flags::text(&mut parser)?),
                Arg::Long("uuid") => uuid = Some(flags::text(&mut parser)?),
                Arg::Long("timeout") => timeout = wait::seconds(&flags::text(&mut parser)?)?,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Value(name) if names.len() < 2 => names.push(name.into()),
                other => return Err(other.unexpected()),
            }
        }
        let point = names.pop().ok_or_else(|| lexopt::Error::Custom("no mount point is named".into()))?;
        // As LinuxKit has it: a device wins over a label, and a label over a UUID.
        let wanted = match (names.pop().or(device), label, uuid) {
            (Some(device), ..) => Wanted::Device(device),
            (None, Some(label), _) => Wanted::Label(label),
            (None, None, Some(uuid)) => Wanted::Uuid(uuid),
            (None, None, None) => Wanted::First,
        };
        Ok(Some(Self { wanted, point, timeout }))
    }
}

/// The program.
///
/// # Errors
/// A sentence that says what was tried, on what and why it failed.
pub fn main(words: impl IntoIterator<Item = OsString>) -> Result<(), Box<dyn std::error::Error>> {
    let Some(Arguments { wanted, point, timeout }) = flags::read(words, Arguments::parse, USAGE)? else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&point)
        .map_err(|error| MountError::Point(point.clone(), error))?;
    let look = || {
        let disks = devices::disks(Path::new("/sys/block")).map_err(FindError::List)?;
        find(&wanted, &disks, &Blkid, is_free).map(|(node, content)| (disks, node, content))
    };
    let (disks, node, content) = wait::until(timeout, look, FindError::may_pass)?;
    if let Some(disk) = unfinished(&disks, &node, &Blkid) {
        return Err(MountError::Unfinished(node, disk).into());
    }
    let kind = match &content.kind {
        Some(kind) if !content.ambivalent => kind.clone(),
        _ => return Err(MountError::NoFilesystem(node, content.describe()).into()),
    };
    if let Some(check) = check(&kind, &node) {
        check.run(true)?;
    }
    let call = Mount {
        source: node.clone(),
        target: point.clone(),
        fstype: kind.clone(),
        flags: MsFlags::empty(),
        data: String::new(),
    };
    sys::mount(&call).map_err(|error| MountError::Mount(node.clone(), kind.clone(), point.clone(), error))?;
    say(format_args!("{} ({kind}) is on {}", node.display(), point.display()));
    // A convenience of LinuxKit's: that it fails is no reason to fail.
    if let Err(error) = make_links(&disks, Path::new("/dev/disk")) {
        complain("mountie: warning: no links in /dev/disk", &error);
    }
    Ok(())
}

/// The disk that the partition is on, if `format` has begun with it and not
/// ended: for `format` there is nothing on it that anybody wants.
fn unfinished(disks: &[devices::Disk], partition: &Path, probe: &impl Probe) -> Option<PathBuf> {
    // It may have been named by a link.
    let real = fs::canonicalize(partition).unwrap_or_else(|_| partition.to_owned());
    let has = |disk: &&devices::Disk| disk.partitions.iter().any(|name| devices::node(name) == real);
    let disk = disks.iter().find(has)?.node();
    probe.content(&disk).is_ok_and(|content| is_unfinished(&content)).then_some(disk)
}

/// Repairs what a power cut left, as at any boot of Debian: without questions,
/// and giving up on what needs a person. XFS and btrfs do that when they are
/// mounted.
fn check(kind: &str, node: &Path) -> Option<Step> {
    let ext = ["ext2", "ext3", "ext4"].contains(&kind);
    // 1 and 2: repaired.
    ext.then(|| Step { accepted: 3, ..Step::new("e2fsck", ["-p"]).path(node) })
}

/// Whether nobody uses the device: the kernel refuses an exclusive opening of
/// one that is mounted anywhere, in whatever namespace, or part of something.
fn is_free(node: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt as _;
    let exclusive = nix::fcntl::OFlag::O_EXCL.bits();
    fs::OpenOptions::new().read(true).custom_flags(exclusive).open(node).is_ok()
}

/// Makes `by-label` and `by-uuid` below `links`, as udev does: relative, and
/// the first device of a name keeps it.
fn make_links(disks: &[devices::Disk], links: &Path) -> io::Result<()> {
    for name in disks.iter().flat_map(|disk| std::iter::once(&disk.name).chain(&disk.partitions)) {
        let Ok(Content { label, uuid, .. }) = Blkid.content(&devices::node(name)) else { continue };
        for (folder, link) in [("by-label", label), ("by-uuid", uuid)] {
            let Some(link) = link.filter(|link| !link.starts_with('.')) else { continue };
            let folder = links.join(folder);
            fs::create_dir_all(&folder)?;
            match symlink(Path::new("../..").join(name.replace('!', "/")), folder.join(link)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::tests::parsed;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Ok(parsed(Arguments::parse, words)?.unwrap())
    }

    #[test]
    fn linuxkits_flags() {
        let timeout = wait::PATIENCE;
        let arguments = |wanted, point: &str| Ok(Arguments { wanted, point: point.into(), timeout });
        assert_eq!(parse(&["/var/lib"]), arguments(Wanted::First, "/var/lib"));
        assert_eq!(parse(&["-label", "A", "/m"]), arguments(Wanted::Label("A".into()), "/m"));
        assert_eq!(parse(&["--uuid=1", "/m"]), arguments(Wanted::Uuid("1".into()), "/m"));
        let device = || Wanted::Device("/dev/sda1".into());
        assert_eq!(parse(&["-device", "/dev/sda1", "/m"]), arguments(device(), "/m"));
        assert_eq!(parse(&["-label", "A", "/dev/sda1", "/m"]), arguments(device(), "/m"));
        assert_eq!(parse(&[]), Err("no mount point is named".into()));
        assert!(parse(&["a", "b", "c"]).is_err());
        assert!(parse(&["-x", "/m"]).is_err());
        assert_eq!(parse(&["-timeout", "60", "/m"]).unwrap().timeout, Duration::from_secs(60));
    }

    #[test]
    fn a_disk_that_the_next_boot_formats_is_not_written_to() {
        /// Every disk has a partition table with this identifier.
        struct Table(&'static str);
        impl Probe for Table {
            fn content(&self, _: &Path) -> Result<Content, crate::probe::ProbeError> {
                Ok(Content { table_id: Some(self.0.into()), ..Content::default() })
            }
        }
        let disk = |name: &str| devices::Disk { name: name.into(), partitions: vec![format!("{name}1")] };
        let disks = [disk("vda"), disk("vdb")];
        let on = |node: &str, table| unfinished(&disks, Path::new(node), &Table(table));
        assert_eq!(on("/dev/vdb1", crate::format::UNFINISHED_DOS), Some("/dev/vdb".into()));
        assert_eq!(on("/dev/vda1", "12345678"), None);
        // A filesystem on all of a disk has no table.
        assert_eq!(on("/dev/vdb", crate::format::UNFINISHED_DOS), None);
    }

    #[test]
    fn only_what_needs_it_is_checked() {
        let step = check("ext4", Path::new("/dev/vda1")).unwrap();
        assert_eq!((step.to_string().as_str(), step.accepted), ("e2fsck -p /dev/vda1", 3));
        assert!(check("xfs", Path::new("/dev/vda1")).is_none());
    }
}
