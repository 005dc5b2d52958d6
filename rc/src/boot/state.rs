// SPDX-License-Identifier: Apache-2.0
//! The folder of what rc knows, `/run/lkinit`: one rc has it at a time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why rc cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is one: somebody has called `rc.init` by hand.
    #[error(
        "there is one already, and it stays; `rc.init --plan` prints what a boot does, `service` what was done"
    )]
    Taken,
    /// A file or folder that it cannot do without.
    #[error("cannot {what} {}: {source}; nothing is booted", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Children would never be noticed to end.
    #[error("cannot listen for signals: {0}; nothing is booted")]
    Signals(#[source] io::Error),
}

impl Error {
    /// What was tried on a file.
    pub(super) fn at(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { what, path: path.to_owned(), source }
    }
}

/// Makes the folder, root's alone, and takes it for as long as the lock is
/// kept: the kernel gives it back when this process ends, however it does.
///
/// # Errors
/// The folder cannot be made, or another rc has it.
pub(super) fn take(path: &Path) -> Result<Flock<File>, Error> {
    fs::create_dir_all(path).map_err(|source| Error::at("make", path, source))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|source| Error::at("change the mode of", path, source))?;
    let folder = File::open(path).map_err(|source| Error::at("open", path, source))?;
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::Taken,
        errno => Error::at("lock", path, errno.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/lkinit");
        let first = take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(take(&path), Err(Error::Taken)));
        drop(first);
        take(&path).unwrap();
    }

    #[test]
    fn an_error_says_what_where_and_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("lkinit");
        let error = take(&path).unwrap_err().to_string();
        let expected =
            format!("cannot make {}: Not a directory (os error 20); nothing is booted", path.display());
        assert_eq!(error, expected);
    }
}
