// SPDX-License-Identifier: Apache-2.0
//! One shutdown at a time: two that put the same filesystems away would be in
//! each other's way, and the first to be ready would cut the other off.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use init::console::Console;
use init::{info, warning};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::DETACHED;
use crate::process::{self, Stat};

/// Waits until no other rc.shutdown is at work; none is, for as long as the
/// value lives. The kernel gives the place away when this process ends,
/// however it does. `None`: there is no file to lock.
pub(super) fn alone(console: &Console, path: &Path) -> Option<Flock<File>> {
    let unlocked = |error: Errno| {
        warning!(console, "shutdown: cannot lock {}: {error}; there may be two", path.display());
    };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| unlocked(Errno::from_raw(error.raw_os_error().unwrap_or(0)))).ok()?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Some(lock),
        Err((file, Errno::EWOULDBLOCK)) => {
            info!(console, "shutdown: another one is under way: waiting for it");
            let lock = Flock::lock(file, FlockArg::LockExclusive);
            lock.map_err(|(_, error)| unlocked(error)).ok()
        }
        Err((_, error)) => {
            unlocked(error);
            None
        }
    }
}

/// Whether there is another one, which waits for its turn.
pub(super) fn is_there_another() -> bool {
    let own = std::process::id().cast_signed();
    let found = process::find(|words| words.iter().take(2).any(is_name));
    found.into_iter().any(|process| process.pid != own && is_another(process.pid))
}

/// Whether a process is another one. Its end would be news to PID 1, which then
/// takes the machine down itself; what a person has called only waits for the
/// part that was left behind.
pub(super) fn is_another(pid: i32) -> bool {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
    words.iter().take(2).any(is_name)
        && (words.contains(&DETACHED.as_bytes()) || Stat::read(pid).is_some_and(|stat| stat.parent == 1))
}

/// `/bin/rc.shutdown ACTION`, or this program with that as its first word.
fn is_name(word: &&[u8]) -> bool {
    word.ends_with(b"rc.shutdown")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_second_waits_until_the_first_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (path, said) = (dir.path().join("lock"), dir.path().join("said"));
        let console = |path: &Path| Console::to_file(File::create(path).unwrap());
        let first = alone(&console(&dir.path().join("first")), &path);
        assert!(first.is_some());
        let (sender, receiver) = channel();
        let (second_path, second_said) = (path, said.clone());
        let second = std::thread::spawn(move || {
            let lock = alone(&console(&second_said), &second_path);
            sender.send(lock.is_some()).unwrap();
        });
        let early = receiver.recv_timeout(Duration::from_millis(100));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        drop(first);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(true));
        second.join().unwrap();
        assert!(fs::read_to_string(said).unwrap().contains("another one is under way: waiting for it"));
        assert!(fs::read_to_string(dir.path().join("first")).unwrap().is_empty());
    }
}
