// SPDX-License-Identifier: Apache-2.0
//! A log file with a cap, and the older ones behind it: `NAME`, `NAME.1`,
//! `NAME.2`, newest first.
//!
//! Bytes go from the pipe to the file inside the kernel (splice(2)), which
//! takes from the pipe what it has written and nothing else: a logger that is
//! killed at any moment has lost nothing and repeats nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{SpliceFFlags, splice, tee};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::pipe;

use crate::logs::chain;
use crate::logs::settings::Limits;

/// How far behind its cap a file may end, so that it ends with a line. Longer
/// lines are cut.
const SLACK: u64 = 8 * 1024;

/// Logs leave this much of their filesystem free: a tenth, at most this.
const RESERVE: u64 = 64 * 1024 * 1024;

/// The free space is looked at when so much has been written.
const LOOK: u64 = 1024 * 1024;

/// A log without room keeps at least this much of its newest output.
const LEAST: u64 = 64 * 1024;

/// A file that is written to, rotated and kept small.
pub(super) struct Capped {
    path: PathBuf,
    file: File,
    limits: Limits,
    /// Written since the free space was looked at.
    since_look: u64,
}

impl Capped {
    /// Opens the file, or makes it, and its folder. Older files beyond the
    /// limit are removed.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = create(path)?;
        let mut index = limits.files.max(1);
        while fs::remove_file(chain::older(path, index)).is_ok() {
            index += 1;
        }
        Ok(Self { path: path.to_path_buf(), file, limits, since_look: LOOK })
    }

    /// Whether `path` still leads to this file: something may have been
    /// mounted over its folder, or somebody has removed it.
    pub(super) fn is_current(&self, path: &Path, limits: Limits) -> bool {
        let same = |file: &fs::Metadata, named: &fs::Metadata| {
            (file.dev(), file.ino()) == (named.dev(), named.ino())
        };
        self.path == path
            && self.limits == limits
            && matches!((self.file.metadata(), fs::metadata(path)), (Ok(file), Ok(named)) if same(&file, &named))
    }

    /// Moves up to `most` bytes that wait in `fifo` into the file.
    ///
    /// # Errors
    /// WouldBlock: nothing waits. StorageFull: there is no room, though older
    /// files have been given up for it. Others of splice(2) and of rotating.
    pub(super) fn take(&mut self, fifo: &File, most: usize) -> io::Result<usize> {
        if self.since_look >= LOOK {
            self.since_look = 0;
            self.keep_reserve()?;
        }
        let count = match self.take_once(fifo, most) {
            Err(error) if error.kind() == ErrorKind::StorageFull && self.give_up_oldest()? => {
                self.take_once(fifo, most)
            }
            other => other,
        }?;
        self.since_look += count as u64;
        Ok(count)
    }

    fn take_once(&mut self, fifo: &File, most: usize) -> io::Result<usize> {
        // Asked each time: somebody may have emptied the file.
        let mut length = self.file.metadata()?.len();
        let cap = self.limits.bytes;
        if length >= cap {
            self.rotate()?;
            length = 0;
        }
        let soft = cap - SLACK.min(cap / 4);
        if length < soft {
            return self.move_bytes(fifo, length, bound(soft - length, most));
        }
        // Near the cap: the first end of a line is the end of the file.
        let room = bound(cap - length, most);
        let waiting = peek(fifo, room)?;
        let line = waiting.iter().position(|byte| *byte == b'\n');
        let wanted = line.map_or(waiting.len(), |at| at + 1);
        let mut moved = 0;
        while moved < wanted {
            moved += self.move_bytes(fifo, length + moved as u64, wanted - moved)?;
        }
        if line.is_some() || length + moved as u64 >= cap {
            self.rotate()?;
        }
        Ok(moved)
    }

    fn move_bytes(&self, fifo: &File, at: u64, count: usize) -> io::Result<usize> {
        let mut offset = i64::try_from(at).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        Ok(splice(fifo.as_fd(), None, self.file.as_fd(), Some(&mut offset), count, flags)?)
    }

    /// Names every file one higher and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        for index in (1..self.limits.files).rev() {
            let younger = if index == 1 { self.path.clone() } else { chain::older(&self.path, index - 1) };
            match fs::rename(younger, chain::older(&self.path, index)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.begin_anew()
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.file = create(&self.path)?;
        Ok(())
    }

    /// Removes this log's oldest file, the one that is written to as the
    /// last. `false`: there is nothing worth it.
    fn give_up_oldest(&mut self) -> io::Result<bool> {
        for index in (1..self.limits.files).rev() {
            if fs::remove_file(chain::older(&self.path, index)).is_ok() {
                return Ok(true);
            }
        }
        if self.file.metadata()?.len() < LEAST {
            return Ok(false);
        }
        self.begin_anew()?;
        Ok(true)
    }

    /// Other programs need the filesystem too: what is written while it is
    /// nearly full takes the place of this log's own older output.
    fn keep_reserve(&mut self) -> io::Result<()> {
        let short = |file: &File| {
            // A filesystem that cannot say is taken to have room.
            fstatvfs(file).is_ok_and(|space| {
                let (unit, all) = (space.fragment_size(), space.blocks());
                space.blocks_available() * unit < RESERVE.min(all * unit / 10)
            })
        };
        while short(&self.file) && self.give_up_oldest()? {}
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    // Not for appending: splice(2) refuses that.
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

fn bound(room: u64, most: usize) -> usize {
    usize::try_from(room).unwrap_or(usize::MAX).min(most)
}

/// Up to `most` bytes at the head of a pipe, which stay there.
fn peek(fifo: &File, most: usize) -> io::Result<Vec<u8>> {
    let (reader, writer) = pipe()?;
    let count = tee(fifo.as_fd(), &writer, most, SpliceFFlags::SPLICE_F_NONBLOCK)?;
    let mut bytes = vec![0; count];
    File::from(reader).read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::logs::record::{Stream, open_pipe};

    struct Case {
        folder: tempfile::TempDir,
        fifo: File,
        log: Capped,
    }

    impl Case {
        fn new(bytes: u64, files: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let fifo = open_pipe(folder.path(), "x", Stream::Stdout).unwrap();
            let log = Capped::open(&folder.path().join("log"), Limits { bytes, files }).unwrap();
            Self { folder, fifo, log }
        }

        fn print(&mut self, text: &str) {
            (&self.fifo).write_all(text.as_bytes()).unwrap();
            loop {
                match self.log.take(&self.fifo, 65536) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(error) => panic!("{error}"),
                }
            }
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.folder.path().join(name)).unwrap()
        }
    }

    #[test]
    fn files_end_with_lines_and_the_oldest_goes() {
        let mut case = Case::new(100_000, 3);
        let line = |n: u32| format!("line {n:08} {}\n", "x".repeat(80));
        let all: String = (0..4000).map(line).collect();
        for piece in all.as_bytes().chunks(777) {
            case.print(std::str::from_utf8(piece).unwrap());
        }
        let kept = ["log.2", "log.1", "log"].map(|name| case.text(name));
        for file in &kept[..2] {
            assert!(file.ends_with('\n') && file.len() <= 100_000 && file.len() > 90_000, "{}", file.len());
        }
        let kept = kept.concat();
        assert!(all.ends_with(&kept) && kept.starts_with("line "));
        assert!(!case.folder.path().join("log.3").exists());
    }

    #[test]
    fn a_line_longer_than_a_file_is_cut() {
        let mut case = Case::new(4096, 2);
        let long = "y".repeat(10_000);
        case.print(&long);
        case.print("\nz\n");
        assert_eq!(case.text("log.1").len(), 4096);
        let kept = format!("{}{}", case.text("log.1"), case.text("log"));
        assert!(format!("{long}\nz\n").ends_with(&kept), "{kept}");
    }

    #[test]
    fn one_file_begins_anew() {
        let mut case = Case::new(4096, 1);
        for n in 0..500 {
            case.print(&format!("line {n:06}\n"));
        }
        assert!(case.text("log").ends_with("line 000499\n"));
        assert!(!case.folder.path().join("log.1").exists());
    }

    #[test]
    fn an_emptied_file_is_written_from_its_beginning() {
        let mut case = Case::new(4096, 2);
        case.print("before\n");
        fs::write(case.folder.path().join("log"), "").unwrap();
        case.print("after\n");
        assert_eq!(case.text("log"), "after\n");
    }

    #[test]
    fn what_a_smaller_limit_leaves_over_is_removed() {
        let mut case = Case::new(4096, 4);
        for n in 0..2000 {
            case.print(&format!("line {n:06}\n"));
        }
        assert!(case.folder.path().join("log.3").exists());
        Capped::open(&case.folder.path().join("log"), Limits { bytes: 4096, files: 2 }).unwrap();
        assert!(case.folder.path().join("log.1").exists());
        assert!(!case.folder.path().join("log.2").exists() && !case.folder.path().join("log.3").exists());
    }
}
