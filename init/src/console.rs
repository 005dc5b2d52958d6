// SPDX-License-Identifier: Apache-2.0
//! What a person sees: one line an event, on every console the kernel was
//! given and in the kernel's log.
//!
//! ```text
//! lkinit: [ 1.234] onboot 000-sysctl: done in 0.031s
//! ```
//! The time is seconds since the kernel started. A console that does not take
//! a line within [`PATIENCE`] loses it, so that a dead serial line cannot hold
//! up a boot; `/dev/kmsg` has every line.

use std::fmt;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cmdline::Cmdline;
use crate::line::Line;
use crate::sys::{clock, tty};

/// How long one console may hold up one line.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Shown with `lkinit.log=debug` only.
    Debug,
    /// What happens.
    Info,
    /// Something is not as it should be and things go on.
    Warning,
    /// Something failed.
    Error,
}

impl Level {
    /// What each is called on the kernel's command line.
    pub const WORDS: [(&'static str, Self); 4] =
        [("debug", Self::Debug), ("info", Self::Info), ("warning", Self::Warning), ("error", Self::Error)];

    /// The level of that name.
    pub fn by_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find_map(|(name, level)| (*name == word).then_some(*level))
    }

    /// Colours for terminals, as SGR codes (ECMA-48).
    pub(crate) fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Error => ("\x1b[31m", "\x1b[0m"),
            Self::Warning => ("\x1b[33m", "\x1b[0m"),
            Self::Debug | Self::Info => ("", ""),
        }
    }
}

/// A device or file that lines go to.
struct Output {
    /// Where it is opened anew; `None` for a file that was handed to us.
    path: Option<PathBuf>,
    file: Mutex<File>,
    terminal: bool,
}

impl Output {
    fn open(path: &Path) -> Option<Self> {
        let file = tty::open_for_writing(path).ok()?;
        Some(Self { path: Some(path.to_owned()), terminal: file.is_terminal(), file: Mutex::new(file) })
    }

    fn write(&self, bytes: &[u8]) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // When a shell on this terminal ends, the kernel hangs it up for
        // everyone (vhangup(2)): what was open takes nothing any more.
        if tty::hung_up(&file)
            && let Some(again) = self.path.as_deref().and_then(|path| tty::open_for_writing(path).ok())
        {
            *file = again;
        }
        tty::write_within(&file, bytes, PATIENCE);
    }
}

/// The consoles and the kernel's log.
pub struct Console {
    outputs: Vec<Output>,
    kmsg: Option<File>,
    threshold: Level,
}

impl Console {
    /// Opens every console that the command line names and that exists;
    /// `/dev/console` where none does.
    pub fn open(cmdline: &Cmdline) -> Self {
        let mut outputs: Vec<Output> = names(cmdline).iter().filter_map(|path| Output::open(path)).collect();
        if outputs.is_empty() {
            outputs.extend(Output::open(Path::new("/dev/console")));
        }
        let threshold = cmdline.get("lkinit.log").and_then(Level::by_word).unwrap_or(Level::Info);
        Self { outputs, kmsg: tty::open_for_writing(Path::new("/dev/kmsg")).ok(), threshold }
    }

    /// A console that is one file: for programs with a standard error of
    /// their own, and for tests.
    pub fn to_file(file: File) -> Self {
        let terminal = file.is_terminal();
        let outputs = vec![Output { path: None, file: Mutex::new(file), terminal }];
        Self { outputs, kmsg: None, threshold: Level::Info }
    }

    /// Shows lines of this level and above.
    pub fn set_threshold(&mut self, threshold: Level) {
        self.threshold = threshold;
    }

    /// One line. Line breaks inside it become blanks: one event, one line.
    pub fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if level < self.threshold {
            return;
        }
        let now = clock::since_boot();
        let text = text.to_string().replace(['\n', '\r'], " ");
        let stamp = format!("lkinit: [{:>2}.{:03}]", now.as_secs(), now.subsec_millis());
        let (on, off) = level.colours();
        for output in &self.outputs {
            let line = if output.terminal && !on.is_empty() {
                format!("{stamp} {on}{text}{off}\r\n")
            } else {
                format!("{stamp} {text}\n")
            };
            output.write(line.as_bytes());
        }
        if let Some(mut kmsg) = self.kmsg.as_ref() {
            // Facility daemon (3), severity debug (7): in the log, and not a
            // second time on the console. /dev/kmsg takes a line a write, and
            // refuses one of more than some 1000 bytes rather than cut it. What
            // does not end may be gone on with by whoever writes next.
            let mut line = Line::<900>::of(format_args!("<31>lkinit: {text}"));
            line.end();
            let _ = kmsg.write_all(line.as_bytes());
        }
    }

    /// Waits until every terminal has sent what it was given. A line whose
    /// other end is stuck never does: not for a thread that others wait for.
    pub fn drain(&self) {
        for output in self.outputs.iter().filter(|output| output.terminal) {
            let file = output.file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = nix::sys::termios::tcdrain(&*file);
        }
    }

    /// Bytes as they are, for the output of containers.
    pub fn raw(&self, bytes: &[u8]) {
        for output in &self.outputs {
            output.write(bytes);
        }
    }
}

/// The devices of `console=`, options cut off, each once, in order. One that is
/// named twice stands where it is named last: the kernel, too, prefers the last.
pub fn names(cmdline: &Cmdline) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for value in cmdline.all("console") {
        let name = value.split(',').next().unwrap_or_default();
        let path = Path::new("/dev").join(name);
        if !name.is_empty() && name != "null" && !name.contains("..") {
            paths.retain(|known| *known != path);
            paths.push(path);
        }
    }
    paths
}

/// A line about what happens.
#[macro_export]
macro_rules! info {
    ($console:expr, $($text:tt)*) => { $console.line($crate::console::Level::Info, format_args!($($text)*)) };
}

/// A line about something that is not as it should be.
#[macro_export]
macro_rules! warning {
    ($console:expr, $($text:tt)*) => { $console.line($crate::console::Level::Warning, format_args!($($text)*)) };
}

/// A line about a failure.
#[macro_export]
macro_rules! error {
    ($console:expr, $($text:tt)*) => { $console.line($crate::console::Level::Error, format_args!($($text)*)) };
}

/// A line for someone who looks closely.
#[macro_export]
macro_rules! debug {
    ($console:expr, $($text:tt)*) => { $console.line($crate::console::Level::Debug, format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_named_once_and_without_options() {
        let line = Cmdline::parse("console=tty0 console=ttyS0,115200n8 console=tty0 console= console=../x");
        assert_eq!(names(&line), [Path::new("/dev/ttyS0"), Path::new("/dev/tty0")]);
    }

    #[test]
    fn what_the_kernel_gets_is_whole_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let console =
            Console { outputs: Vec::new(), kmsg: Some(file.reopen().unwrap()), threshold: Level::Info };
        info!(console, "short");
        info!(console, "{}", "x".repeat(4000));
        let text = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(lines.first(), Some(&"<31>lkinit: short\n"));
        assert!(lines.len() == 2 && lines[1].len() == 900 && lines[1].ends_with("x\n"), "{text}");
    }

    #[test]
    fn a_line_is_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let console = Console::to_file(file.reopen().unwrap());
        warning!(console, "two\nlines, {}", 1);
        debug!(console, "not shown");
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.starts_with("lkinit: [") && text.ends_with("] two lines, 1\n"), "{text:?}");
        assert_eq!(text.lines().count(), 1);
    }
}
