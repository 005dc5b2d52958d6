// SPDX-License-Identifier: Apache-2.0
//! One stream of a container: from its pipe to where it is kept.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use init::console::Console;
use init::sys::pipe::waiting;
use init::{error, info, warning};
use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice, tee};

use super::external::Outlet;
use super::file::Capped;
use crate::logs::record::{self, Record, Stream as Which};

/// The most that is moved of one stream before the others have their turn:
/// what a pipe holds.
const TURN: usize = 64 * 1024;

/// A disk that is full is told of so often at most.
const QUIET: Duration = Duration::from_secs(10);

/// What became of a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The pipe has been looked after; there may be more.
    Done,
    /// The external logger's pipe is full: nothing moves until it reads.
    Full,
}

/// A stream and where it goes.
pub(super) struct Stream {
    /// Its pipe.
    pub(super) fifo: File,
    /// Bytes that have been taken from the pipe.
    pub(super) taken: u64,
    /// Its way to the external logger, while that is there.
    pub(super) outlet: Option<Outlet>,
    /// Whether it has gone away, which it may come back from.
    left: bool,
    record: Record,
    which: Which,
    file: Option<Capped>,
    /// Bytes for which there was no place.
    lost: u64,
    /// When it was last told that bytes are lost.
    told: Option<Instant>,
}

impl Stream {
    /// The file it is kept in.
    pub(super) fn path(&self) -> PathBuf {
        let file = self.record.file(self.which);
        if self.left && !self.record.keep_files { record::fallback(file) } else { file.to_path_buf() }
    }

    /// Opens the pipe of a stream.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open(folder: &Path, id: &str, which: Which, record: Record) -> io::Result<Self> {
        let fifo = record::open_pipe(folder, id, which)?;
        Ok(Self { fifo, taken: 0, outlet: None, left: false, record, which, file: None, lost: 0, told: None })
    }

    /// Goes where `record` says from here on: its container starts anew.
    pub(super) fn follow(&mut self, record: Record) {
        self.record = record;
        let path = self.path();
        if self.file.as_ref().is_some_and(|file| !file.is_current(&path, self.record.limits)) {
            self.file = None;
        }
    }

    /// Looks for the external logger, where the record allows one. `Ok(true)`:
    /// its output goes there from here on.
    ///
    /// # Errors
    /// The logger's socket is there, and it does not take the pipe.
    pub(super) fn look_for_external(&mut self, socket: &Path) -> io::Result<bool> {
        let Some(name) = self.record.external(self.which) else { return Ok(false) };
        if self.outlet.is_some() {
            return Ok(false);
        }
        match Outlet::open(socket, &name) {
            Ok(outlet) => {
                self.outlet = Some(outlet);
                self.left = false;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => {
                // Its socket is there: it is away, and may come back.
                self.left = true;
                Err(error)
            }
        }
    }

    /// Whether its output went to the external logger before.
    pub(super) fn has_left_external(&self) -> bool {
        self.left && self.outlet.is_none()
    }

    /// Makes its file before there is something to write, for those who look
    /// for it.
    pub(super) fn make_file(&mut self, console: &Console) {
        if self.file.is_some() || (self.outlet.is_some() && !self.record.keep_files) {
            return;
        }
        match Capped::open(&self.path(), self.record.limits) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.tell_loss(&error, console),
        }
    }

    /// Moves what waits, as much as one turn allows.
    pub(super) fn turn(&mut self, console: &Console) -> Turn {
        let result = match &self.outlet {
            None => self.keep(TURN, console),
            Some(outlet) if self.record.keep_files => {
                let most = tee(self.fifo.as_fd(), outlet.pipe.as_fd(), TURN, SpliceFFlags::SPLICE_F_NONBLOCK);
                most.map_err(io::Error::from).and_then(|count| self.keep_exactly(count, console))
            }
            Some(outlet) => {
                let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
                let moved = splice(self.fifo.as_fd(), None, outlet.pipe.as_fd(), None, TURN, flags);
                moved.map(|count| self.taken += count as u64).map_err(io::Error::from)
            }
        };
        match result {
            Ok(()) => Turn::Done,
            // Either there is nothing or the other pipe is full.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.outlet.is_some() && self.waiting() > 0 { Turn::Full } else { Turn::Done }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Turn::Done,
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {
                self.leave_external(console);
                Turn::Done
            }
            Err(error) => {
                self.discard(&error, console);
                Turn::Done
            }
        }
    }

    /// How much waits in the pipe.
    pub(super) fn waiting(&self) -> usize {
        waiting(&self.fifo).unwrap_or_default()
    }

    /// The external logger has ended, or has closed this log: what it did not
    /// read, and all that comes, goes to the file.
    pub(super) fn leave_external(&mut self, console: &Console) {
        let Some(outlet) = self.outlet.take() else { return };
        self.left = true;
        let (file, name) = (self.path(), &outlet.name);
        warning!(
            console,
            "logs: the external logger no longer reads {name}: what it kept may be lost; the output goes on in {}",
            file.display()
        );
        if self.record.keep_files {
            return;
        }
        self.file = None;
        let rescued = outlet.unread().and_then(|unread| {
            loop {
                match self.take(Some(&unread), TURN) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        if let Err(error) = rescued {
            let bytes = waiting(&outlet.pipe).unwrap_or_default();
            error!(console, "logs: {bytes} bytes of {name} are lost: {error}");
        }
    }

    /// Takes up to `most` bytes of a pipe into the file.
    fn take(&mut self, pipe: Option<&File>, most: usize) -> io::Result<usize> {
        let path = self.path();
        let file = match &mut self.file {
            Some(file) => file,
            closed => closed.insert(Capped::open(&path, self.record.limits)?),
        };
        file.take(pipe.unwrap_or(&self.fifo), most)
    }

    fn keep(&mut self, most: usize, console: &Console) -> io::Result<()> {
        self.move_to_file(most, console).map(drop)
    }

    fn keep_exactly(&mut self, count: usize, console: &Console) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            match self.move_to_file(left, console) {
                Ok(moved) => left = left.saturating_sub(moved),
                // The external logger has these bytes already.
                Err(error) => {
                    self.discard_some(left, &error, console);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn move_to_file(&mut self, most: usize, console: &Console) -> io::Result<usize> {
        let count = self.take(None, most)?;
        self.taken += count as u64;
        if count > 0 && self.lost > 0 && self.told.is_some_and(|told| told.elapsed() >= QUIET) {
            let lost = std::mem::take(&mut self.lost);
            info!(
                console,
                "logs: {} is written again; {lost} bytes before this are lost",
                self.path().display()
            );
        }
        Ok(count)
    }

    /// There is no place for what waits: it is counted and thrown away, so
    /// that the container can go on.
    fn discard(&mut self, error: &io::Error, console: &Console) {
        self.discard_some(TURN, error, console);
    }

    fn discard_some(&mut self, most: usize, error: &io::Error, console: &Console) {
        self.tell_loss(error, console);
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        let null = OpenOptions::new().write(true).open("/dev/null");
        let thrown = null.map(|null| splice(self.fifo.as_fd(), None, null.as_fd(), None, most, flags));
        if let Ok(Ok(count)) = thrown {
            self.taken += count as u64;
            self.lost += count as u64;
        }
        // It is opened anew the next time.
        self.file = None;
    }

    fn tell_loss(&mut self, error: &io::Error, console: &Console) {
        if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
            self.told = Some(Instant::now());
            let path = self.path();
            let path = path.display();
            error!(console, "logs: cannot write {path}: {error}; output is lost until that is possible");
        }
    }
}
