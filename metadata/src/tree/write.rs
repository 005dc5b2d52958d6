// SPDX-License-Identifier: Apache-2.0
//! The base directory and how files come into it.
//!
//! Every directory is opened beneath the base by openat2(2), which follows no
//! symbolic link and cannot be led outside; every file is written under
//! another name and renamed into place, so a reader sees the old file or the
//! new one and never half of one.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::path::TreePath;
use super::{DIR_MODE, FILE_MODE, Node};

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The base itself.
    #[error("{}: cannot make or open the directory: {source}", path.display())]
    Base {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// One file or directory; the others are not touched by it.
    #[error("{path}: cannot {what}: {source}")]
    Node {
        /// Which, as seen from outside.
        path: String,
        /// The step that failed.
        what: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
}

impl WriteError {
    /// Whether the disk is to blame, and not who asked for the file.
    pub fn is_the_disks(&self) -> bool {
        use Errno::{EDQUOT, EIO, ENOSPC, EROFS};
        matches!(self, Self::Node { source: EDQUOT | EIO | ENOSPC | EROFS, .. })
    }
}

/// The open base directory.
#[derive(Debug)]
pub struct Base {
    path: PathBuf,
    dir: OwnedFd,
}

/// Open for a directory: to make things in it, never to follow a link to it.
const DIR_FLAGS: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Base {
    /// Opens the base, which is made with its parents where it is missing.
    /// The path to the base is the caller's own and may go through links.
    ///
    /// # Errors
    /// [`WriteError::Base`].
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        let open = || {
            DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)?;
            let dir = File::open(path)?;
            if !dir.metadata()?.is_dir() {
                return Err(io::Error::from(Errno::ENOTDIR));
            }
            Ok(dir.into())
        };
        let dir = open().map_err(|source| WriteError::Base { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), dir })
    }

    /// Where it is, as the caller named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes one file or directory.
    ///
    /// # Errors
    /// [`WriteError::Node`], with nothing half-written left behind.
    pub fn write(&self, node: &Node) -> Result<(), WriteError> {
        match node {
            Node::Dir { path, mode } => self.make_dir(path, *mode),
            Node::File { path, mode, bytes } => self.make_file(path, *mode, bytes),
        }
    }

    /// Makes a file of the base directory with the usual mode. `name` is one
    /// of our own.
    ///
    /// # Errors
    /// As [`Base::write`].
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let path = TreePath::default().join(name).unwrap_or_default();
        self.make_file(&path, FILE_MODE, bytes)
    }

    /// Reads a small file of the base directory back; `None` if it is not there.
    ///
    /// # Errors
    /// [`WriteError::Node`].
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, WriteError> {
        use std::io::Read as _;
        let fail = |source: io::Error| WriteError::Node {
            path: self.path.join(name).display().to_string(),
            what: "read it",
            source: Errno::from_raw(source.raw_os_error().unwrap_or_default()),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(fail(errno.into())),
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
        Ok(Some(bytes))
    }

    fn fail<'a>(&'a self, path: &'a TreePath, what: &'static str) -> impl Fn(Errno) -> WriteError + 'a {
        move |source| WriteError::Node { path: path.beneath(&self.path).to_string(), what, source }
    }

    fn make_dir(&self, path: &TreePath, mode: u32) -> Result<(), WriteError> {
        let fail = self.fail(path, "make the directory");
        // umask(2) must not matter: what is made gets its mode by fchmod(2).
        let mut at = self.dir.try_clone().map_err(|error| fail(errno(&error)))?;
        for name in path.names() {
            let made = match mkdirat(&at, name.as_str(), Mode::S_IRWXU) {
                Ok(()) => true,
                Err(Errno::EEXIST) => false,
                Err(errno) => return Err(fail(errno)),
            };
            at = openat(&at, name.as_str(), DIR_FLAGS, Mode::empty()).map_err(&fail)?;
            if made {
                fchmod(&at, Mode::from_bits_truncate(mode)).map_err(&fail)?;
            }
        }
        Ok(())
    }

    fn make_file(&self, path: &TreePath, mode: u32, bytes: &[u8]) -> Result<(), WriteError> {
        let Some((parent, name)) = path.split() else {
            return Err(self.fail(path, "make a file of the base directory")(Errno::EISDIR));
        };
        let dir = self.open_dir(parent).map_err(self.fail(path, "open the directory it is in"))?;
        let fail = self.fail(path, "write the file");
        let mode = match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(old) => match SFlag::from_bits_truncate(old.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFDIR => return Err(fail(Errno::EISDIR)),
                SFlag::S_IFREG => Mode::from_bits_truncate(old.st_mode & 0o777),
                _ => Mode::from_bits_truncate(mode),
            },
            Err(_) => Mode::from_bits_truncate(mode),
        };
        let (temporary, file) = temporary_file(&dir).map_err(&fail)?;
        let finish = || {
            fchmod(&file, mode)?;
            (&file).write_all(bytes).map_err(|error| errno(&error))?;
            renameat(&dir, temporary.as_str(), &dir, name)
        };
        finish().map_err(|errno| {
            let _ = unlinkat(&dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            fail(errno)
        })
    }

    fn open_dir(&self, names: &[String]) -> nix::Result<OwnedFd> {
        if names.is_empty() {
            return self.dir.try_clone().map_err(|error| errno(&error));
        }
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(DIR_FLAGS).resolve(resolve);
        match openat2(&self.dir, names.join("/").as_str(), how) {
            // Before Linux 5.6, or behind a filter that does not know the call.
            Err(Errno::ENOSYS | Errno::EPERM) => walk(&self.dir, names),
            result => result,
        }
    }
}

/// The same without openat2(2): one name after the other, none a link. Names
/// of a [`TreePath`] are never `..`.
fn walk(base: &OwnedFd, names: &[String]) -> nix::Result<OwnedFd> {
    let mut at = base.try_clone().map_err(|error| errno(&error))?;
    for name in names {
        at = openat(&at, name.as_str(), DIR_FLAGS, Mode::empty())?;
    }
    Ok(at)
}

/// A new file in `dir` under a name nobody else uses, readable by its owner alone.
fn temporary_file(dir: &impl AsFd) -> nix::Result<(String, File)> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut attempt = 0_u32;
    loop {
        let name = format!(".metadata-{}-{attempt}", std::process::id());
        match openat(dir, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Err(Errno::EEXIST) if attempt < 64 => attempt += 1,
            result => return result.map(|file| (name, File::from(file))),
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
