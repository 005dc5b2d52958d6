// SPDX-License-Identifier: Apache-2.0
//! Console lines without the heap, for PID 1 and what runs before it.
//!
//! They look like [`crate::console`]'s and go to the same places. The
//! difference: these programs start before `/proc` and `/dev` are there, so
//! every line looks for the consoles that are not open yet, and no line
//! allocates.

use std::fmt;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use crate::console::{Level, PATIENCE};
use crate::line::Line;
use crate::sys::{clock, tty};

/// The longest line, time stamp included. The kernel's log takes 1 KiB at most.
const LENGTH: usize = 512;
/// How many `console=` are heeded.
const CONSOLES: usize = 4;

/// A device that lines go to.
#[derive(Debug, Default)]
struct Output {
    file: Option<File>,
}

impl Output {
    /// Shows a line there. False if the device cannot be opened.
    ///
    /// An open device stays open: closing a serial line waits until it is
    /// drained, half a minute where nobody listens. One that getty has hung up
    /// (vhangup(2)) takes nothing any more and is opened anew.
    fn show(&mut self, path: &Path, level: Level, line: &Line<LENGTH>) -> bool {
        if self.file.as_ref().is_some_and(tty::hung_up) {
            self.file = None;
        }
        if self.file.is_none() {
            self.file = tty::open_for_writing(path).ok();
        }
        let Some(file) = &self.file else { return false };
        let mut text = Line::<{ LENGTH + 16 }>::new();
        let (on, off) = if file.is_terminal() { level.colours() } else { ("", "") };
        text.push_bytes(on.as_bytes());
        text.push_bytes(line.as_bytes());
        text.push_bytes(off.as_bytes());
        text.push_bytes(if file.is_terminal() { b"\r\n" } else { b"\n" });
        tty::write_within(file, text.as_bytes(), PATIENCE);
        true
    }
}

/// The consoles and the kernel's log, opened when they are first needed and there.
#[derive(Debug, Default)]
pub struct Log {
    named: [Output; CONSOLES],
    default: Output,
    inherited: Output,
    kmsg: Option<File>,
}

impl Log {
    /// One line. Where no console can be opened it goes to standard error.
    pub fn line(&mut self, level: Level, text: fmt::Arguments<'_>) {
        let now = clock::since_boot();
        let line =
            Line::of(format_args!("lkinit: [{:>2}.{:03}] init: {text}", now.as_secs(), now.subsec_millis()));
        let mut buffer = [0; 4096];
        let mut shown = false;
        for (output, name) in self.named.iter_mut().zip(consoles(command_line(&mut buffer))) {
            let path = Line::<64>::of(format_args!("/dev/{name}"));
            shown |= output.show(as_path(path.as_bytes()), level, &line);
        }
        if !shown && !self.default.show(Path::new("/dev/console"), level, &line) {
            // A description of our own: making the inherited one non-blocking
            // would do so for everyone who has it.
            self.inherited.show(Path::new("/proc/self/fd/2"), level, &line);
        }
        // Facility daemon (3), severity debug (7): not on the console again.
        self.kmsg(31, text);
    }

    /// A warning (facility daemon, severity 4) for the kernel's log only,
    /// which shows it on the consoles as it does its own.
    pub fn record(&mut self, text: fmt::Arguments<'_>) {
        self.kmsg(28, text);
    }

    fn kmsg(&mut self, priority: u8, text: fmt::Arguments<'_>) {
        if self.kmsg.is_none() {
            self.kmsg = tty::open_for_writing(Path::new("/dev/kmsg")).ok();
        }
        if let Some(kmsg) = &mut self.kmsg {
            let mut line = Line::<LENGTH>::of(format_args!("<{priority}>lkinit: init: {text}"));
            line.end();
            let _ = kmsg.write_all(line.as_bytes());
        }
    }
}

/// The kernel's command line as far as it fits; empty while `/proc` is not mounted.
pub(crate) fn command_line(buffer: &mut [u8]) -> &str {
    let length = File::open("/proc/cmdline").and_then(|mut file| file.read(buffer)).unwrap_or(0);
    let bytes = buffer.get(..length).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => bytes
            .get(..error.valid_up_to())
            .and_then(|valid| std::str::from_utf8(valid).ok())
            .unwrap_or_default(),
    }
}

/// The names of `console=`, as [`crate::console::names`] finds them.
fn consoles(line: &str) -> impl Iterator<Item = &str> {
    let names = || {
        line.split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix("console=")?.split(',').next())
            .filter(|name| !name.is_empty() && *name != "null" && !name.contains(".."))
    };
    names()
        .enumerate()
        .filter(move |(at, name)| !names().skip(at + 1).any(|other| other == *name))
        .map(|(_, name)| name)
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_named_once_and_without_options() {
        let line = "quiet console=tty0 console=ttyS0,115200n8 console=tty0 console= console=../x a\n";
        assert_eq!(consoles(line).collect::<Vec<_>>(), ["ttyS0", "tty0"]);
    }

    #[test]
    fn a_line_is_stamped_and_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut output = Output::default();
        assert!(output.show(file.path(), Level::Error, &Line::of(format_args!("two\nlines"))));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "two lines\n");
        assert!(!Output::default().show(Path::new("/nowhere/at/all"), Level::Info, &Line::new()));
    }
}
