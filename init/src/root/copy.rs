// SPDX-License-Identifier: Apache-2.0
//! Moving a tree of files into another filesystem without needing the room twice.
//!
//! Each file is taken away as soon as its copy is whole. What makes a file what
//! it is comes along: kind, content, mode, owner, times, extended attributes,
//! hard links.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::sys::xattr;

/// Something that could not be moved, or not whole. The rest is, all the same.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}: {source}", path.display())]
pub struct Error {
    /// The file, by its old path.
    pub path: PathBuf,
    /// What was tried on it.
    pub what: &'static str,
    source: io::Error,
}

/// What was moved.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Moved {
    /// How many names of files of all kinds.
    pub entries: u64,
    /// Directories on which something else is mounted: the directory was made
    /// and what is mounted there left alone, by its old path.
    pub mounts: Vec<PathBuf>,
}

/// Moves everything in the directory `from` into the directory `to`, and gives
/// `to` what `from` has of mode, owner and times. Tells `failed` of each file
/// that could not be moved; such a file stays where it was, unless its copy is
/// whole but for what the error says.
///
/// `to` may be in `from` if it is another filesystem.
pub fn relocate(from: &Path, to: &Path, failed: &mut dyn FnMut(Error)) -> Moved {
    let mut run = Run { to, links: HashMap::new(), moved: Moved::default(), failed };
    match fs::symlink_metadata(from) {
        Ok(metadata) => run.directory(from, to, &metadata),
        Err(source) => run.report(from, "reading its state", source),
    }
    run.moved
}

struct Run<'a> {
    to: &'a Path,
    /// New names of files that have several, by inode.
    links: HashMap<u64, PathBuf>,
    moved: Moved,
    failed: &'a mut dyn FnMut(Error),
}

impl Run<'_> {
    fn report(&mut self, path: &Path, what: &'static str, source: io::Error) {
        (self.failed)(Error { path: path.to_owned(), what, source });
    }

    /// Moves what is in a directory whose copy is there already.
    fn directory(&mut self, from: &Path, to: &Path, metadata: &Metadata) {
        match fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => {
                for entry in entries {
                    self.entry(&entry.path(), &to.join(entry.file_name()), metadata.dev());
                }
            }
            Err(source) => self.report(from, "listing it", source),
        }
        self.dress(from, to, metadata);
    }

    fn entry(&mut self, from: &Path, to: &Path, device: u64) {
        let metadata = match fs::symlink_metadata(from) {
            Ok(metadata) => metadata,
            Err(source) => return self.report(from, "reading its state", source),
        };
        if from == self.to {
            return;
        }
        if metadata.dev() != device {
            match make(from, to, &metadata) {
                Ok(()) => self.moved.mounts.push(from.to_owned()),
                Err(source) => self.report(from, "making a place to mount it", source),
            }
            return;
        }
        self.moved.entries += 1;
        let known = self.links.get(&metadata.ino()).filter(|_| !metadata.is_dir());
        let made = match known {
            Some(first) => fs::hard_link(first, to),
            None => make(from, to, &metadata),
        };
        if let Err(source) = made {
            return self.report(from, "copying it", source);
        }
        if metadata.is_dir() {
            self.directory(from, to, &metadata);
            // Not empty if something in it could not be moved.
            let _ = fs::remove_dir(from);
            return;
        }
        if known.is_none() {
            self.dress(from, to, &metadata);
            if metadata.nlink() > 1 {
                self.links.insert(metadata.ino(), to.to_owned());
            }
        }
        if let Err(source) = fs::remove_file(from) {
            self.report(from, "freeing the old one", source);
        }
    }

    /// Gives a copy everything but its content: each in its order, since a new
    /// owner takes set-id bits and capabilities away, and any of it touches the times.
    fn dress(&mut self, from: &Path, to: &Path, metadata: &Metadata) {
        let owned = std::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()));
        if let Err(source) = owned {
            self.report(from, "keeping its owner", source);
        }
        if !metadata.is_symlink() {
            let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
            if let Err(source) = fs::set_permissions(to, mode) {
                self.report(from, "keeping its mode", source);
            }
        }
        if let Err(source) = copy_attributes(from, to) {
            self.report(from, "keeping its extended attributes", source);
        }
        let accessed = TimeSpec::new(metadata.atime(), metadata.atime_nsec());
        let modified = TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
        let timed = utimensat(AT_FDCWD, to, &accessed, &modified, UtimensatFlags::NoFollowSymlink);
        if let Err(errno) = timed {
            self.report(from, "keeping its times", errno.into());
        }
    }
}

/// Makes a file of the same kind and content.
fn make(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        return fs::create_dir(to);
    }
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if kind.is_file() {
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        // Half a file is worse than none.
        let copied = File::open(from).and_then(|mut file| io::copy(&mut file, &mut target));
        return copied.map(drop).inspect_err(|_| drop(fs::remove_file(to)));
    }
    let flag = match kind {
        kind if kind.is_fifo() => SFlag::S_IFIFO,
        kind if kind.is_socket() => SFlag::S_IFSOCK,
        kind if kind.is_block_device() => SFlag::S_IFBLK,
        _ => SFlag::S_IFCHR,
    };
    Ok(mknod(to, flag, Mode::S_IRUSR | Mode::S_IWUSR, metadata.rdev())?)
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    for name in xattr::list(from)? {
        xattr::set(to, &name, &xattr::get(from, &name)?)?;
    }
    Ok(())
}
