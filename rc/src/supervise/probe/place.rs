// SPDX-License-Identifier: Apache-2.0
//! Files and sockets in a container, looked up from outside.
//!
//! A path means what it means to the container's first process: it is
//! resolved in that process' mount namespace and below its root, symbolic
//! links included (`/proc/PID/root` and openat2(2) with `RESOLVE_IN_ROOT`,
//! Linux 5.6).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::watch::Watch;

/// The pause between two looks at a link that leads nowhere yet.
const DANGLING: Duration = Duration::from_millis(500);

/// Opens a path as a place only (`O_PATH`): nothing is read, no device wakes.
fn locate(pid: u32, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let place = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = open(format!("/proc/{pid}/root").as_str(), place | OFlag::O_DIRECTORY, Mode::empty())?;
    let how = OpenHow::new().flags(place | flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    Ok(openat2(&root, path, how)?)
}

/// A path by which the kernel finds an open descriptor's file.
fn path_of(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Finds a file.
pub(super) fn find(pid: u32, path: &Path) -> Result<OwnedFd, String> {
    locate(pid, path, OFlag::empty()).map_err(|error| format!("{}: {error}", path.display()))
}

/// Waits until a file is there. Only its folder is watched, or the nearest
/// one above it that is there.
pub(super) async fn appears(pid: u32, path: &Path) -> Result<(), String> {
    loop {
        let folder = path
            .ancestors()
            .skip(1)
            .find_map(|folder| Some((folder, locate(pid, folder, OFlag::O_DIRECTORY).ok()?)));
        let Some((folder, fd)) = folder else {
            return Err(format!("the root of process {pid} cannot be read"));
        };
        // The watch comes before the look: what comes in between is told.
        let watch = Watch::folder(&path_of(&fd))
            .map_err(|error| format!("cannot watch {}: {error}", folder.display()))?;
        if locate(pid, path, OFlag::empty()).is_ok() {
            return Ok(());
        }
        let next = path.strip_prefix(folder).ok().and_then(|rest| rest.components().next());
        let nearer = next.map(|next| folder.join(next)).filter(|nearer| *nearer != path);
        if nearer.is_some_and(|nearer| locate(pid, &nearer, OFlag::O_DIRECTORY).is_ok()) {
            continue;
        }
        // Where a link leads nowhere yet, what it leads to may come anywhere.
        let link = next.map(|next| folder.join(next));
        if link.is_some_and(|link| locate(pid, &link, OFlag::O_NOFOLLOW).is_ok()) {
            sleep(DANGLING).await;
        } else {
            watch.changed().await;
        }
    }
}

/// Connects to a socket. One that is made for datagrams is there when it has
/// its name; it takes no connections.
pub(super) async fn connect(pid: u32, path: &Path) -> Result<(), String> {
    let fd = find(pid, path)?;
    let kind = fstat(&fd).map(|data| SFlag::from_bits_truncate(data.st_mode) & SFlag::S_IFMT);
    if kind != Ok(SFlag::S_IFSOCK) {
        return Err(format!("{} is no socket", path.display()));
    }
    match UnixStream::connect(path_of(&fd)).await {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(nix::libc::EPROTOTYPE) => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::time::Duration;

    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), work).await.unwrap() })
    }

    fn own() -> u32 {
        std::process::id()
    }

    #[test]
    fn a_file_is_seen_though_its_folders_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        block_on(async {
            let make = async {
                for step in ["a", "a/other", "a/b", "a/b/other"] {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    fs::create_dir(dir.path().join(step)).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(find(own(), &path).is_err());
                fs::write(&path, "").unwrap();
            };
            let (seen, ()) = tokio::join!(appears(own(), &path), make);
            assert_eq!(seen, Ok(()));
            // And by another name, that is there before what it leads to.
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(dir.path().join("a/later"), &link).unwrap();
            let make = async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                fs::write(dir.path().join("a/later"), "").unwrap();
            };
            let (seen, ()) = tokio::join!(appears(own(), &link), make);
            assert_eq!(seen, Ok(()));
        });
    }

    #[test]
    fn a_socket_takes_connections_or_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        block_on(async {
            let listener = UnixListener::bind(path("live")).unwrap();
            assert_eq!(connect(own(), &path("live")).await, Ok(()));
            drop(listener);
            let left = connect(own(), &path("live")).await.unwrap_err();
            assert!(left.contains("refused"), "{left}");
            let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
            assert_eq!(connect(own(), &path("datagrams")).await, Ok(()));
            fs::write(path("plain"), "").unwrap();
            let plain = connect(own(), &path("plain")).await.unwrap_err();
            assert!(plain.ends_with("is no socket"), "{plain}");
            assert!(connect(own(), &path("nothing")).await.is_err());
        });
    }
}
