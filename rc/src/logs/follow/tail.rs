// SPDX-License-Identifier: Apache-2.0
//! One stream of a log: its file as it grows, and the older ones.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, Inotify, WatchDescriptor};

use super::{From, LONGEST, Line};
use crate::logs::Stream;
use crate::logs::chain::{self, Kept};

/// The most that one call reads of one stream.
const TURN: usize = 256 * 1024;

/// One stream's files.
pub(super) struct Tail {
    path: PathBuf,
    stream: Stream,
    open: Option<Kept>,
    watch: Option<WatchDescriptor>,
    offset: u64,
    partial: Vec<u8>,
    /// How much of that has been given as it came.
    given: usize,
}

impl Tail {
    pub(super) fn new(path: PathBuf, stream: Stream) -> Self {
        Self { path, stream, open: None, watch: None, offset: 0, partial: Vec::new(), given: 0 }
    }

    pub(super) fn begin(&mut self, from: From<'_>, changes: &Inotify) {
        let kept = chain::open(&self.path);
        let (file, offset) = match from {
            From::Start => (kept.into_iter().next(), 0),
            From::Now => {
                let last = kept.into_iter().next_back();
                let end = last.as_ref().map_or(0, |file| file.length);
                (last, end)
            }
            From::Marks(marks) => {
                let mark = match self.stream {
                    Stream::Stdout => &marks.stdout,
                    Stream::Stderr => &marks.stderr,
                };
                let at = mark.as_ref().and_then(|mark| kept.iter().position(|file| file.id == mark.id));
                let offset = at.and(mark.as_ref()).map_or(0, |mark| mark.length);
                (kept.into_iter().nth(at.unwrap_or(0)), offset)
            }
            From::Last(count) => last_lines(kept, count),
        };
        if let Some(file) = file {
            self.go_to(file, offset, changes);
        }
    }

    fn go_to(&mut self, kept: Kept, offset: u64, changes: &Inotify) {
        if let Some(watch) = self.watch.take() {
            // The kernel has removed it already if the file is gone.
            let _ = changes.rm_watch(watch);
        }
        let path = format!("/proc/self/fd/{}", kept.file.as_raw_fd());
        self.watch = changes.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).ok();
        self.offset = offset;
        self.open = Some(kept);
    }

    pub(super) fn read(&mut self, changes: &Inotify, take: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        let mut buffer = vec![0; 32 * 1024];
        let mut left = TURN;
        while left > 0 {
            let count = match &self.open {
                Some(kept) => kept.file.read_at(&mut buffer, self.offset)?,
                None => 0,
            };
            if count > 0 {
                self.offset += count as u64;
                left = left.saturating_sub(count);
                self.feed(buffer.get(..count).unwrap_or_default(), take);
                continue;
            }
            if !self.newer(changes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// At the end of a file: goes on to the next one, if there is one.
    fn newer(&mut self, changes: &Inotify) -> io::Result<bool> {
        let here = self.open.as_ref().map(|kept| kept.id);
        if let Some(kept) = &self.open {
            // In this order: nothing is written to a file that has been
            // renamed, so what it has then is all it will have.
            let named = std::fs::metadata(&self.path).ok().map(|data| (data.dev(), data.ino()));
            let length = kept.file.metadata()?.len();
            if length > self.offset {
                return Ok(true);
            }
            if length < self.offset {
                // Somebody has emptied it.
                self.offset = 0;
                return Ok(length > 0);
            }
            if named == here {
                return Ok(false);
            }
        }
        let kept = chain::open(&self.path);
        let at = kept.iter().position(|file| Some(file.id) == here);
        // One that is not kept any more was older than all that are.
        let next = at.map_or(0, |at| at + 1);
        let Some(file) = kept.into_iter().nth(next) else { return Ok(false) };
        self.go_to(file, 0, changes);
        Ok(true)
    }

    fn feed(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(Line<'_>)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(at);
            self.partial.extend_from_slice(line);
            bytes = rest.get(1..).unwrap_or_default();
            self.give(take);
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() >= LONGEST {
            self.give(take);
        }
    }

    fn give(&mut self, take: &mut dyn FnMut(Line<'_>)) {
        let text = String::from_utf8_lossy(&self.partial);
        take(Line { stream: self.stream, text: text.strip_suffix('\r').unwrap_or(&text), time: None });
        self.partial.clear();
        self.given = 0;
    }

    /// Gives what there is of a line, if there is more of it than the last time.
    pub(super) fn so_far(&mut self, take: &mut dyn FnMut(Line<'_>)) {
        if self.partial.len() > self.given {
            self.given = self.partial.len();
            let text = String::from_utf8_lossy(&self.partial);
            take(Line { stream: self.stream, text: &text, time: None });
        }
    }

    pub(super) fn flush(&mut self, take: &mut dyn FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            self.give(take);
        }
    }
}

/// Where the last `count` lines begin.
fn last_lines(kept: Vec<Kept>, count: usize) -> (Option<Kept>, u64) {
    let mut wanted = count;
    let mut oldest = None;
    for file in kept.into_iter().rev() {
        match begin_of_last(&file, wanted) {
            Ok(offset) => return (Some(file), offset),
            Err(found) => wanted = wanted.saturating_sub(found),
        }
        oldest = Some(file);
    }
    (oldest, 0)
}

/// Where the last `wanted` lines of one file begin, or how many lines it has.
fn begin_of_last(kept: &Kept, wanted: usize) -> Result<u64, usize> {
    if wanted == 0 {
        return Ok(kept.length);
    }
    let mut lines = usize::from(kept.length > 0);
    let mut block = [0; 8 * 1024];
    let mut end = kept.length;
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let size = usize::try_from(end - begin).unwrap_or_default();
        let bytes = block.get_mut(..size).unwrap_or_default();
        if kept.file.read_exact_at(bytes, begin).is_err() {
            break;
        }
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let behind = begin + at as u64 + 1;
            // The end of the last line is not the beginning of one.
            if behind < kept.length {
                if lines == wanted {
                    return Ok(behind);
                }
                lines += 1;
            }
        }
        end = begin;
    }
    if lines == wanted { Ok(0) } else { Err(lines) }
}
