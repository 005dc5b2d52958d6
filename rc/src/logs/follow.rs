// SPDX-License-Identifier: Apache-2.0
//! Reading a log and what comes after: both streams, rotated files, and what
//! an external logger has.
//!
//! ```text
//! let mut follower = Follower::new(&logs, From::Marks(&marks))?;
//! loop {
//!     while follower.read(&mut |line| ...)? {}
//!     poll(follower.as_fd());         // or, in rc's event loop,
//!     follower.changed().await;
//! }
//! ```

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::chain::{self, Kept};
use super::query::{Mode, QUERY, Query};
use super::{EXTERNAL, Logs, Marks, Stream, record};
use crate::watch::Readable;

/// A longer line is given in pieces.
const LONGEST: usize = 64 * 1024;

/// The most that one call reads of one stream.
const TURN: usize = 256 * 1024;

/// Where reading begins.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// With all that is kept.
    Start,
    /// With what comes from now on.
    Now,
    /// Where a container's output began.
    Marks(&'a Marks),
    /// With so many of each stream's last lines.
    Last(usize),
}

/// A line of output, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which stream it was printed to.
    pub stream: Stream,
    /// The text. Bytes that are no UTF-8 are U+FFFD.
    pub text: &'a str,
    /// When an external logger got it; files do not say.
    pub time: Option<&'a str>,
}

/// Reads a log as it grows.
pub struct Follower {
    tails: Vec<Tail>,
    changes: Inotify,
    query: Option<(Query, String)>,
    /// What an external logger got before this is not wanted.
    since: Option<SystemTime>,
    /// Ready when one of the two has something.
    epoll: Epoll,
    ready: Option<Readable>,
}

impl Follower {
    /// Opens a log, which need not be there yet. An external logger is asked
    /// too where there is one, and has only the lines that it keeps: all of
    /// them, unless reading begins now.
    ///
    /// # Errors
    /// Those of inotify_init(2) and epoll_create(2).
    pub fn new(logs: &Logs, from: From<'_>) -> io::Result<Self> {
        Self::open(logs, from, true)
    }

    /// As [`Self::new`], for what there is now and nothing else: an external
    /// logger's answer ends, and [`Self::read`] waits for that.
    ///
    /// # Errors
    /// As those of [`Self::new`].
    pub fn once(logs: &Logs, from: From<'_>) -> io::Result<Self> {
        Self::open(logs, from, false)
    }

    fn open(logs: &Logs, from: From<'_>, follow: bool) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&changes, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        for folder in [&logs.stdout, &logs.stderr].into_iter().filter_map(|path| path.parent()) {
            // Without its folder there is no log, and none will come to it.
            let _ = changes.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
        }
        let query = logs.external.as_ref().filter(|_| !logs.keep_files && Path::new(EXTERNAL).exists());
        let mode = match from {
            _ if !follow => Mode::Dump,
            From::Now => Mode::Follow,
            _ => Mode::DumpAndFollow,
        };
        let query = query.and_then(|name| Some((Query::new(Path::new(QUERY), mode).ok()?, name.clone())));
        if let Some((query, _)) = &query {
            if follow {
                query.set_nonblocking()?;
            }
            epoll.add(query, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        }
        // Where its lines are while an external logger is away.
        let away = logs.external.is_some() && !logs.keep_files;
        let paths = Stream::ALL.into_iter().flat_map(|stream| {
            let file = logs.file(stream).to_path_buf();
            let fallback = away.then(|| (record::fallback(&file), stream));
            // While one is there, a file of this name is what somebody has
            // written from its answers.
            let file = query.is_none().then_some((file, stream));
            file.into_iter().chain(fallback)
        });
        let tail = |(path, stream)| {
            let mut tail = Tail::new(path, stream);
            tail.begin(from, &changes);
            tail
        };
        let since = match from {
            From::Marks(marks) => marks.time,
            _ => None,
        };
        Ok(Self { tails: paths.map(tail).collect(), changes, query, since, epoll, ready: None })
    }

    /// Gives the lines that are there to `take`. `true`: there may be more at
    /// once; `false`: it is worth waiting now.
    ///
    /// # Errors
    /// Those of reading the files.
    pub fn read(&mut self, take: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
        // What happens from here on is told again.
        while self.changes.read_events().is_ok_and(|events| !events.is_empty()) {}
        let mut more = false;
        for tail in &mut self.tails {
            more |= tail.read(&self.changes, take)?;
        }
        if let Some((query, name)) = &mut self.query {
            let since = self.since;
            let result = query.read(&mut |entry| {
                if entry.time().zip(since).is_some_and(|(time, since)| time < since) {
                    return;
                }
                let stream = match entry.source.strip_suffix(".out") {
                    Some(source) if source == name.as_str() => Stream::Stdout,
                    _ if entry.source == name.as_str() => Stream::Stderr,
                    _ => return,
                };
                take(Line { stream, text: &entry.msg, time: Some(&entry.time) });
            });
            match result {
                Ok(true) => more = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // It has ended. What comes goes to the files.
                Ok(false) | Err(_) => self.query = None,
            }
        }
        Ok(more)
    }

    /// What was printed last, if no end of line has come behind it.
    pub fn unfinished(&mut self, take: &mut dyn FnMut(Line<'_>)) {
        for tail in &mut self.tails {
            tail.flush(take);
        }
    }

    /// Waits, in rc's event loop, until [`Self::read`] may have something.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub async fn changed(&mut self) -> io::Result<()> {
        let ready = match &mut self.ready {
            Some(ready) => ready,
            none => none.insert(Readable::new(self.epoll.0.try_clone()?)?),
        };
        ready.take(|| ()).await
    }
}

/// Readable when [`Follower::read`] may have something.
impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// One stream's files.
struct Tail {
    path: PathBuf,
    stream: Stream,
    open: Option<Kept>,
    watch: Option<WatchDescriptor>,
    offset: u64,
    partial: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf, stream: Stream) -> Self {
        Self { path, stream, open: None, watch: None, offset: 0, partial: Vec::new() }
    }

    fn begin(&mut self, from: From<'_>, changes: &Inotify) {
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
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&kept.file));
        self.watch = changes.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).ok();
        self.offset = offset;
        self.open = Some(kept);
    }

    fn read(&mut self, changes: &Inotify, take: &mut dyn FnMut(Line<'_>)) -> io::Result<bool> {
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
    }

    fn flush(&mut self, take: &mut dyn FnMut(Line<'_>)) {
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

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;

    use super::*;

    struct Case {
        _folder: tempfile::TempDir,
        logs: Logs,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = |name: &str| folder.path().join(name);
            let logs = Logs::of_daemon("x", &file("x.out.log"), &file("x.log"));
            Self { logs, _folder: folder }
        }

        fn print(&self, text: &str) {
            let file = OpenOptions::new().create(true).append(true).open(&self.logs.stdout);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn rotate(&self) {
            let path = &self.logs.stdout;
            let _ = fs::rename(chain::older(path, 1), chain::older(path, 2));
            fs::rename(path, chain::older(path, 1)).unwrap();
        }

        fn follow(&self, from: From<'_>) -> Follower {
            Follower::new(&self.logs, from).unwrap()
        }
    }

    fn lines(follower: &mut Follower) -> Vec<String> {
        let mut lines = Vec::new();
        while follower.read(&mut |line| lines.push(line.text.to_owned())).unwrap() {}
        lines
    }

    /// Whether the descriptor says that it is worth reading.
    fn told(follower: &Follower) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        poll(&mut [PollFd::new(follower.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn a_log_is_followed_across_rotations() {
        let case = Case::new();
        let mut follower = case.follow(From::Start);
        assert!(lines(&mut follower).is_empty() && !told(&follower));
        case.print("one\ntw");
        assert!(told(&follower));
        assert_eq!(lines(&mut follower), ["one"]);
        case.print("o\n");
        case.rotate();
        assert!(told(&follower));
        assert_eq!(lines(&mut follower), ["two"]);
        case.print("three\n");
        case.rotate();
        case.print("four\n");
        assert_eq!(lines(&mut follower), ["three", "four"]);
        case.print("five\n");
        assert!(told(&follower));
        assert_eq!(lines(&mut follower), ["five"]);
        assert!(!told(&follower));
    }

    #[test]
    fn reading_begins_where_it_is_asked_to() {
        let case = Case::new();
        case.print("a\nb\n");
        case.rotate();
        case.print("c\nd\n");
        let marks = case.logs.mark();
        case.print("e\n");
        assert_eq!(lines(&mut case.follow(From::Start)), ["a", "b", "c", "d", "e"]);
        assert_eq!(lines(&mut case.follow(From::Marks(&marks))), ["e"]);
        assert_eq!(lines(&mut case.follow(From::Last(2))), ["d", "e"]);
        assert_eq!(lines(&mut case.follow(From::Last(4))), ["b", "c", "d", "e"]);
        assert_eq!(lines(&mut case.follow(From::Last(9))), ["a", "b", "c", "d", "e"]);
        assert!(lines(&mut case.follow(From::Last(0))).is_empty());
        let mut now = case.follow(From::Now);
        case.print("f\n");
        assert_eq!(lines(&mut now), ["f"]);
    }

    #[test]
    fn an_emptied_file_is_read_from_its_beginning() {
        let case = Case::new();
        case.print("before\n");
        let mut follower = case.follow(From::Start);
        assert_eq!(lines(&mut follower), ["before"]);
        fs::write(&case.logs.stdout, "").unwrap();
        case.print("new\n");
        assert_eq!(lines(&mut follower), ["new"]);
    }

    #[test]
    fn an_unfinished_line_and_a_very_long_one() {
        let case = Case::new();
        let mut follower = case.follow(From::Start);
        case.print(&"x".repeat(LONGEST + 10));
        let got = lines(&mut follower).concat();
        let mut rest = String::new();
        follower.unfinished(&mut |line| rest.push_str(line.text));
        assert_eq!(got.len() + rest.len(), LONGEST + 10);
    }
}
