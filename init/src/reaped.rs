// SPDX-License-Identifier: Apache-2.0
//! The record of what PID 1 has reaped: `/run/lkinit/reaped`.
//!
//! A process whose parent has died becomes PID 1's child, and its exit status
//! goes to PID 1 alone. For a supervisor that was away meanwhile, PID 1 writes
//! the last [`CAPACITY`] of them into a ring file, each **before** the process
//! is reaped: once a process is gone from `/proc`, its record is there.
//!
//! The file is a header and [`CAPACITY`] slots of [`SLOT`] bytes, all numbers
//! little-endian:
//!
//! | header at | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | `lkreaped` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | bytes of a slot, 32 |
//! | 16 | 4 | slots |
//! | 20 | 12 | zero |
//!
//! | slot at | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | number of the record, counted from 1; 0 in a slot never used |
//! | 8 | 8 | start time of the process, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)); 0 if it could not be read |
//! | 16 | 8 | when it was reaped, in nanoseconds of `CLOCK_BOOTTIME` |
//! | 24 | 4 | its number |
//! | 28 | 4 | its wait status, as wait(2) gives it |
//!
//! Record n is in slot (n - 1) modulo the number of slots. Each is written by
//! one pwrite(2), which inotify(7) reports as `IN_MODIFY`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::line::Line;

/// Where the file is. Whoever mounts `/run` makes the directory; PID 1 makes
/// the file as soon as the directory is there, older records included.
pub const PATH: &str = "/run/lkinit/reaped";
/// How many records are kept.
pub const CAPACITY: usize = 512;
/// Bytes of a slot.
pub const SLOT: usize = 32;

const MAGIC: [u8; 8] = *b"lkreaped";
const VERSION: u32 = 1;
const HEADER: usize = 32;

/// One process that PID 1 has reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The number of the record, counted from 1.
    pub sequence: u64,
    /// The process' number.
    pub pid: i32,
    /// When it started, in clock ticks since boot; 0 if unknown.
    pub start_time: u64,
    /// How it ended.
    pub status: ExitStatus,
    /// When it was reaped: time since boot.
    pub reaped: Duration,
}

impl Record {
    fn to_bytes(self) -> [u8; SLOT] {
        let nanos = u64::try_from(self.reaped.as_nanos()).unwrap_or(u64::MAX);
        let fields: [&[u8]; 5] = [
            &self.sequence.to_le_bytes(),
            &self.start_time.to_le_bytes(),
            &nanos.to_le_bytes(),
            &self.pid.to_le_bytes(),
            &self.status.into_raw().to_le_bytes(),
        ];
        let mut line = Line::<SLOT>::new();
        fields.into_iter().for_each(|field| line.push_bytes(field));
        line.as_bytes().try_into().unwrap_or_default()
    }

    fn from_bytes(slot: &[u8]) -> Option<Self> {
        let sequence = u64::from_le_bytes(field(slot, 0)?);
        (sequence != 0).then_some(Self {
            sequence,
            start_time: u64::from_le_bytes(field(slot, 8)?),
            reaped: Duration::from_nanos(u64::from_le_bytes(field(slot, 16)?)),
            pid: i32::from_le_bytes(field(slot, 24)?),
            status: ExitStatus::from_raw(i32::from_le_bytes(field(slot, 28)?)),
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The writing end: PID 1's. It never allocates once it is made.
#[derive(Debug)]
pub struct Ring {
    slots: [[u8; SLOT]; CAPACITY],
    count: u64,
    file: Option<File>,
}

impl Ring {
    /// An empty ring, with no file yet.
    pub const fn new() -> Self {
        Self { slots: [[0; SLOT]; CAPACITY], count: 0, file: None }
    }

    /// Keeps one record, in memory and, if there is one, in the file. A file
    /// that cannot be written is given up, and [`Self::attach`] makes another.
    pub fn push(&mut self, pid: i32, start_time: u64, status: i32, reaped: Duration) {
        let index = usize::try_from(self.count).unwrap_or(0) % CAPACITY;
        self.count += 1;
        let status = ExitStatus::from_raw(status);
        let bytes = Record { sequence: self.count, pid, start_time, status, reaped }.to_bytes();
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = bytes;
        }
        if let Some(file) = &self.file {
            let at = (HEADER + index * SLOT) as u64;
            if file.write_all_at(&bytes, at).is_err() {
                self.file = None;
            }
        }
    }

    /// Makes the file if there is none and its directory is there.
    pub fn attach(&mut self, path: &Path) {
        if self.file.is_none() {
            self.file = self.create(path).ok();
        }
    }

    /// A file with every slot written, so that its room is taken once and for
    /// all: a filesystem that fills up later does not lose records.
    fn create(&self, path: &Path) -> io::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(path)?;
        file.write_all_at(self.slots.as_flattened(), HEADER as u64)?;
        let mut header = Line::<HEADER>::new();
        header.push_bytes(&MAGIC);
        for number in [VERSION, SLOT as u32, CAPACITY as u32, 0, 0, 0] {
            header.push_bytes(&number.to_le_bytes());
        }
        file.write_all_at(header.as_bytes(), 0)?;
        Ok(file)
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a ring file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened or read. There is none until PID 1 has reaped
    /// something after `/run/lkinit` was made.
    #[error("reading {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no ring file, or one of another version.
    #[error("{path} is not a record of reaped processes of version 1")]
    Format {
        /// Which file.
        path: PathBuf,
    },
}

/// Every record in the file, the oldest first.
///
/// # Errors
/// [`Error`].
pub fn records(path: &Path) -> Result<Vec<Record>, Error> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEADER + CAPACITY * SLOT);
        let limit = 16 * (HEADER + CAPACITY * SLOT) as u64;
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let failed = |source| Error::Read { path: path.to_owned(), source };
    // A record could be half written when it is read. Two readings that agree
    // hold none: no slot changes back.
    let mut bytes = read().map_err(failed)?;
    for _ in 0..16 {
        let again = read().map_err(failed)?;
        if again == bytes {
            break;
        }
        bytes = again;
    }
    decode(&bytes).ok_or_else(|| Error::Format { path: path.to_owned() })
}

fn decode(bytes: &[u8]) -> Option<Vec<Record>> {
    let number = |at| field(bytes, at).map(u32::from_le_bytes);
    if !bytes.starts_with(&MAGIC) || number(8)? != VERSION || number(12)? != SLOT as u32 {
        return None;
    }
    let slots = bytes.get(HEADER..)?.chunks_exact(SLOT).take(number(16)? as usize);
    let mut records: Vec<Record> = slots.filter_map(Record::from_bytes).collect();
    records.sort_unstable_by_key(|record| record.sequence);
    Some(records)
}

/// The record of one process in the file at [`PATH`], if PID 1 has reaped it
/// and not more than [`CAPACITY`] others since. Numbers are used again, so the
/// start time tells one process from another.
///
/// # Errors
/// [`Error`].
pub fn find(pid: i32, start_time: u64) -> Result<Option<Record>, Error> {
    let records = records(Path::new(PATH))?;
    Ok(records.into_iter().rev().find(|record| record.pid == pid && record.start_time == start_time))
}

/// When a process started, in clock ticks since boot: with its number, what
/// names one process for good. `None` without `/proc` or without the process.
/// Does not use the heap.
pub fn start_time(pid: i32) -> Option<u64> {
    let path = Line::<32>::of(format_args!("/proc/{pid}/stat"));
    let path = std::str::from_utf8(path.as_bytes()).ok()?;
    // 52 numbers and a name: 1 KiB is more than they can be.
    let mut buffer = [0; 1024];
    let length = File::open(path).ok()?.read(&mut buffer).ok()?;
    parse_start_time(buffer.get(..length)?)
}

/// Field 22 of a stat line. The name, field 2, is in brackets and may hold
/// blanks and brackets itself; after the last bracket comes field 3.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring_file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reaped");
        (folder, path)
    }

    #[test]
    fn what_came_before_the_file_is_in_it_and_the_oldest_make_room() {
        let (_folder, path) = ring_file();
        let mut ring = Ring::new();
        ring.push(7, 70, 0x0100, Duration::from_millis(5));
        ring.attach(&path);
        ring.push(8, 80, 9, Duration::from_millis(6));
        let two = records(&path).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!((two[0].sequence, two[0].pid, two[0].start_time), (1, 7, 70));
        assert_eq!((two[0].status.code(), two[0].reaped), (Some(1), Duration::from_millis(5)));
        assert_eq!((two[1].pid, two[1].status.signal()), (8, Some(9)));

        for pid in 0..i32::try_from(CAPACITY).unwrap() {
            ring.push(pid + 100, 1, 0, Duration::ZERO);
        }
        let all = records(&path).unwrap();
        assert_eq!(all.len(), CAPACITY);
        assert_eq!((all[0].sequence, all[0].pid), (3, 100));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (HEADER + CAPACITY * SLOT) as u64);
    }

    #[test]
    fn a_directory_that_comes_later_is_found() {
        let (folder, path) = ring_file();
        let path = path.parent().unwrap().join("later/reaped");
        let mut ring = Ring::new();
        ring.attach(&path);
        ring.push(1, 1, 0, Duration::ZERO);
        std::fs::create_dir(folder.path().join("later")).unwrap();
        ring.attach(&path);
        assert_eq!(records(&path).unwrap().len(), 1);
    }

    #[test]
    fn other_files_are_refused() {
        let (_folder, path) = ring_file();
        let missing = records(&path).unwrap_err();
        assert!(matches!(missing, Error::Read { .. }), "{missing}");
        for text in ["", "lkreaped", "lkreaped\u{2}\0\0\0 \0\0\0\u{1}\0\0\0            "] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(records(&path).unwrap_err(), Error::Format { .. }), "{text:?}");
        }
    }

    #[test]
    fn a_name_cannot_forge_a_start_time() {
        let rest = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 1";
        for name in ["sh", "a) S 1", ")", "(x)"] {
            let line = format!("17 ({name}) {rest}\n");
            assert_eq!(parse_start_time(line.as_bytes()), Some(4242), "{name}");
        }
        assert_eq!(parse_start_time(b"17 (sh) S 1"), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(own).unwrap() > 0);
    }
}
