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

mod tail;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::query::{Mode, QUERY, Query};
use super::{EXTERNAL, Logs, Marks, Stream, record};
use crate::watch::Readable;
use tail::Tail;

/// A longer line is given in pieces.
const LONGEST: usize = 64 * 1024;

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
    query: Option<Query>,
    /// The log's name with an external logger.
    name: String,
    /// Where one is asked, and asked again when it was away.
    external: Option<PathBuf>,
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
        Self::open_at(logs, from, follow, (Path::new(EXTERNAL), Path::new(QUERY)))
    }

    /// The last are the sockets of an external logger.
    fn open_at(
        logs: &Logs,
        from: From<'_>,
        follow: bool,
        (socket, question): (&Path, &Path),
    ) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&changes, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        // Where its lines are while an external logger is away.
        let away = logs.external.as_ref().filter(|_| !logs.keep_files);
        let external = away.filter(|_| socket.exists());
        let folders = [logs.stdout.parent(), logs.stderr.parent()];
        let asked = external.filter(|_| follow).and_then(|_| question.parent());
        for folder in folders.into_iter().chain([asked]).flatten() {
            // Without its folder there is no log, and none will come to it.
            let _ = changes.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
        }
        let mode = match from {
            _ if !follow => Mode::Dump,
            From::Now => Mode::Follow,
            _ => Mode::DumpAndFollow,
        };
        let query = external.and_then(|_| ask(question, mode, &epoll, follow).ok());
        let paths = Stream::ALL.into_iter().flat_map(|stream| {
            let file = logs.file(stream).to_path_buf();
            let fallback = away.is_some().then(|| (record::fallback(&file), stream));
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
        let tails = paths.map(tail).collect();
        let name = external.cloned().unwrap_or_default();
        let external = external.filter(|_| follow).map(|_| question.to_owned());
        Ok(Self { tails, changes, query, name, external, since, epoll, ready: None })
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
        if self.is_cut_off()
            && let Some(socket) = &self.external
        {
            self.query = ask(socket, Mode::DumpAndFollow, &self.epoll, true).ok();
        }
        Ok(self.read_answer(take) || more)
    }

    /// Gives what an external logger has answered. `true`: there may be more.
    fn read_answer(&mut self, take: &mut dyn FnMut(Line<'_>)) -> bool {
        let Some(query) = &mut self.query else { return false };
        let (since, name) = (self.since, &self.name);
        let answer = query.read(&mut |entry| {
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
        match answer {
            Ok(true) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            // It has ended. What comes goes to the fallback files, and to the
            // next one from then on.
            Ok(false) | Err(_) => {
                self.query = None;
                self.since = Some(SystemTime::now());
                false
            }
        }
    }

    /// Whether there is an external logger, or was, and it cannot be asked.
    pub fn is_cut_off(&self) -> bool {
        self.query.is_none() && self.external.is_some()
    }

    /// What there is of lines whose end has not come, and has not been given
    /// before. They are given again when it comes.
    pub fn so_far(&mut self, take: &mut dyn FnMut(Line<'_>)) {
        for tail in &mut self.tails {
            tail.so_far(take);
        }
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

/// Asks an external logger; `follow`: its answer has no end, and is not waited for.
fn ask(socket: &Path, mode: Mode, epoll: &Epoll, follow: bool) -> io::Result<Query> {
    let query = Query::new(socket, mode)?;
    if follow {
        query.set_nonblocking()?;
    }
    epoll.add(&query, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
    Ok(query)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;

    use super::*;
    use crate::logs::chain;

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

    /// An external logger that has some lines, and is asked once.
    fn external(socket: &Path, lines: &[&str]) -> std::thread::JoinHandle<()> {
        use std::io::Read as _;
        let _ = fs::remove_file(socket);
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let text: String =
            lines.iter().map(|line| format!("{{\"source\":\"x.out\",\"msg\":\"{line}\"}}\n")).collect();
        std::thread::spawn(move || {
            let (mut asked, _) = listener.accept().unwrap();
            asked.read_exact(&mut [0]).unwrap();
            asked.write_all(text.as_bytes()).unwrap();
        })
    }

    #[test]
    fn an_external_logger_is_asked_and_asked_again_when_it_comes_back() {
        let case = Case::new();
        let logs = Logs { external: Some("x".to_owned()), keep_files: false, ..case.logs.clone() };
        let question = case._folder.path().join("question");
        let server = external(&question, &["one", "two"]);
        let sockets = (question.as_path(), question.as_path());
        let mut follower = Follower::open_at(&logs, From::Start, true, sockets).unwrap();
        server.join().unwrap();
        case.print("what somebody has written from its answers\n");
        let mut got = lines(&mut follower);
        while !follower.is_cut_off() {
            got.extend(lines(&mut follower));
        }
        assert_eq!(got, ["one", "two"]);
        fs::write(record::fallback(&logs.stdout), "three\n").unwrap();
        assert_eq!(lines(&mut follower), ["three"]);
        let server = external(&question, &["four"]);
        assert!(told(&follower), "its socket is there again");
        let mut got = Vec::new();
        while got.is_empty() {
            got = lines(&mut follower);
        }
        assert_eq!(got, ["four"]);
        server.join().unwrap();
    }
}
