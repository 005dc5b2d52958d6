// SPDX-License-Identifier: Apache-2.0
//! The serial console of a machine: read by a thread as it comes, kept whole,
//! with the host's time for every line.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;

/// One line and when its first byte came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Since the machine was started.
    pub at: Duration,
    /// Without its end, and without escape sequences.
    pub text: String,
}

#[derive(Debug, Default)]
struct State {
    text: String,
    /// When each line of `text` began, the last, unfinished one too.
    times: Vec<Duration>,
    ended: bool,
}

/// How waiting for something on the console ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It came: the groups of the expression, the whole match first.
    Match(Vec<String>),
    /// Something came that ends all hope, as the first line of it.
    Fatal(String),
    /// The machine ended.
    Ended,
    /// Nothing came in time.
    Late,
}

/// What a console has said so far, and whoever waits for more.
#[derive(Clone, Debug, Default)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Console {
    /// Reads `from` on a thread until it ends, and writes what comes, line for
    /// line and with its time, to `transcript`.
    pub fn read(from: impl Read + Send + 'static, transcript: File, start: Instant) -> io::Result<Self> {
        let console = Self::default();
        let reader = console.clone();
        thread::Builder::new().name("console".into()).spawn(move || reader.run(from, transcript, start))?;
        Ok(console)
    }

    fn run(&self, mut from: impl Read, mut transcript: File, start: Instant) {
        let mut cleaner = Cleaner::default();
        let mut buffer = [0; 4096];
        let mut written = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let at = start.elapsed();
            let clean = cleaner.clean(&buffer[..count]);
            let mut state = self.state();
            state.append(&clean, at);
            let finished = state.lines(written);
            drop(state);
            written += finished.len();
            // A transcript that cannot be written must not hide the console.
            for line in finished {
                let _ = writeln!(transcript, "[{:8.3}] {}", line.at.as_secs_f64(), line.text);
            }
            self.shared.1.notify_all();
        }
        let mut state = self.state();
        if let Some(line) = state.unfinished() {
            let _ = writeln!(transcript, "[{:8.3}] {}", line.at.as_secs_f64(), line.text);
        }
        state.ended = true;
        drop(state);
        self.shared.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock left no half-done state.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `wanted` matches behind `*cursor` bytes of the text, and
    /// moves the cursor behind the match. `fatal`, found first, ends the wait.
    pub fn wait(
        &self,
        wanted: &Regex,
        fatal: Option<&Regex>,
        cursor: &mut usize,
        deadline: Instant,
    ) -> Found {
        let mut state = self.state();
        loop {
            if let Some(groups) = wanted.captures_at(&state.text, *cursor) {
                let all = groups.iter().map(|g| g.map_or("", |g| g.as_str()).to_owned()).collect();
                *cursor = groups.get(0).map_or(*cursor, |whole| whole.end());
                return Found::Match(all);
            }
            if let Some(found) = fatal.and_then(|fatal| fatal.find_at(&state.text, *cursor)) {
                let line = state.text[found.start()..].lines().next().unwrap_or_default();
                return Found::Fatal(line.to_owned());
            }
            if state.ended {
                return Found::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Found::Late;
            }
            let waited = self.shared.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything said so far.
    pub fn text(&self) -> String {
        self.state().text.clone()
    }

    /// Every finished line so far.
    pub fn lines(&self) -> Vec<Line> {
        self.state().lines(0)
    }

    /// The last `count` lines, the unfinished one too, with their times. What
    /// the kernel says before `/init` runs is left out, once that runs.
    pub fn tail(&self, count: usize) -> String {
        let state = self.state();
        let mut lines = state.lines(0);
        lines.extend(state.unfinished());
        let init = lines.iter().rposition(|line| line.text.contains("Run /init as init process"));
        let begin = lines.len().saturating_sub(count).max(init.unwrap_or(0));
        let shown = lines[begin..].iter();
        shown.map(|line| format!("  [{:8.3}] {}\n", line.at.as_secs_f64(), line.text)).collect()
    }
}

/// How many lines of a console tell why something on it is not as it should be.
const EXCERPT: usize = 30;

/// What of a console's text tells why something on it is not as it should be:
/// the last lines of lkinit about `subject`; of lkinit, if there are none; or
/// of whoever it was. A whole transcript in an error hides the error.
pub fn excerpt(text: &str, subject: &str) -> String {
    let all: Vec<&str> = text.lines().collect();
    let ours: Vec<&str> = all.iter().copied().filter(|line| line.contains("lkinit: ")).collect();
    let about: Vec<&str> = ours.iter().copied().filter(|line| line.contains(subject)).collect();
    let lines = [about, ours, all].into_iter().find(|lines| !lines.is_empty()).unwrap_or_default();
    lines[lines.len().saturating_sub(EXCERPT)..].iter().map(|line| format!("  {line}\n")).collect()
}

impl State {
    fn append(&mut self, text: &str, at: Duration) {
        for part in text.split_inclusive('\n') {
            if self.text.is_empty() || self.text.ends_with('\n') {
                self.times.push(at);
            }
            self.text.push_str(part);
        }
    }

    /// The finished lines from number `from` on.
    fn lines(&self, from: usize) -> Vec<Line> {
        let complete = self.text.rfind('\n').map_or("", |end| &self.text[..end]);
        let all = self.times.iter().zip(complete.split('\n'));
        let none = complete.is_empty() && !self.text.starts_with('\n');
        all.skip(from)
            .take(if none { 0 } else { usize::MAX })
            .map(|(&at, text)| Line { at, text: text.to_owned() })
            .collect()
    }

    fn unfinished(&self) -> Option<Line> {
        let rest = &self.text[self.text.rfind('\n').map_or(0, |end| end + 1)..];
        let at = *self.times.last()?;
        (!rest.is_empty()).then(|| Line { at, text: rest.to_owned() })
    }
}

/// Takes escape sequences and carriage returns out of a stream that comes in
/// pieces; what is not UTF-8 becomes the replacement character.
#[derive(Debug, Default)]
struct Cleaner {
    state: Escape,
    /// Bytes of a character whose rest has not come.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    Text,
    /// Behind ESC.
    Start,
    /// Inside `ESC [ …`, which ends with a byte from `@` to `~`.
    Control,
}

impl Cleaner {
    fn clean(&mut self, bytes: &[u8]) -> String {
        let mut plain = std::mem::take(&mut self.partial);
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (Escape::Text, 0x1b) => Escape::Start,
                (Escape::Start, b'[') => Escape::Control,
                (Escape::Control, 0x40..=0x7e) | (Escape::Start, _) => Escape::Text,
                (Escape::Control, _) => Escape::Control,
                (Escape::Text, byte) => {
                    if byte != b'\r' {
                        plain.push(byte);
                    }
                    Escape::Text
                }
            };
        }
        if let Err(error) = std::str::from_utf8(&plain)
            && error.error_len().is_none()
        {
            self.partial = plain.split_off(error.valid_up_to());
        }
        String::from_utf8_lossy(&plain).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(pieces: &[&str]) -> Console {
        let console = Console::default();
        for (n, piece) in pieces.iter().enumerate() {
            console.state().append(piece, Duration::from_secs(n as u64));
        }
        console
    }

    #[test]
    fn a_line_has_the_time_of_its_first_byte() {
        let console = console(&["one\ntw", "o\n", "\nrest"]);
        let line = |at, text: &str| Line { at: Duration::from_secs(at), text: text.into() };
        assert_eq!(console.lines(), [line(0, "one"), line(0, "two"), line(2, "")]);
        assert_eq!(console.tail(1), "  [   2.000] rest\n");
        assert_eq!(Console::default().lines(), []);
    }

    #[test]
    fn the_kernels_own_boot_is_not_shown_once_it_is_over() {
        let console = console(&["[ 0.1] a\n[ 0.2] b\n"]);
        assert_eq!(console.tail(9).lines().count(), 2);
        console.state().append("[ 0.3] Run /init as init process\nlkinit: x\n", Duration::from_secs(1));
        assert_eq!(
            console.tail(9),
            "  [   1.000] [ 0.3] Run /init as init process\n  [   1.000] lkinit: x\n"
        );
        assert_eq!(console.tail(1), "  [   1.000] lkinit: x\n");
    }

    #[test]
    fn an_excerpt_is_about_something() {
        let text = "noise\nlkinit: service a: x\n# lkinit: service b: y\n";
        assert_eq!(excerpt(text, "service b"), "  # lkinit: service b: y\n");
        assert_eq!(excerpt(text, "service c"), "  lkinit: service a: x\n  # lkinit: service b: y\n");
        assert_eq!(excerpt("one\ntwo\n", "x"), "  one\n  two\n");
        assert_eq!(excerpt(&"line\n".repeat(99), "x").lines().count(), EXCERPT);
    }

    #[test]
    fn what_was_found_is_not_found_again() {
        let console = console(&["a1\na2\n"]);
        let wanted = Regex::new(r"a(\d)").unwrap();
        let (mut cursor, now) = (0, Instant::now());
        let groups = |n: &str| Found::Match(vec![format!("a{n}"), n.to_owned()]);
        assert_eq!(console.wait(&wanted, None, &mut cursor, now), groups("1"));
        assert_eq!(console.wait(&wanted, None, &mut cursor, now), groups("2"));
        assert_eq!(console.wait(&wanted, None, &mut cursor, now), Found::Late);
    }

    #[test]
    fn a_panic_ends_the_wait_at_once() {
        let console = console(&["boot\nKernel panic - not syncing: x\nmore"]);
        let (wanted, fatal) = (Regex::new("login").unwrap(), Regex::new("Kernel panic").unwrap());
        let deadline = Instant::now() + Duration::from_secs(600);
        let found = console.wait(&wanted, Some(&fatal), &mut 0, deadline);
        assert_eq!(found, Found::Fatal("Kernel panic - not syncing: x".into()));
    }

    #[test]
    fn escape_sequences_and_characters_may_come_in_pieces() {
        let mut cleaner = Cleaner::default();
        let mut text = String::new();
        for piece in [&b"a\x1b"[..], b"[1;3", b"1mred\x1b[0m\r\n", b"\xc3", b"\xa9 \xff"] {
            text += &cleaner.clean(piece);
        }
        assert_eq!(text, "ared\né \u{fffd}");
    }
}
