// SPDX-License-Identifier: Apache-2.0
//! Lines on standard error: bare text, as LinuxKit's own tool writes them.
//! With `-v` each line says when and how much it matters, and lines for
//! someone who looks closely are shown too.

use std::fmt;
use std::io::Write as _;

/// Longest text of a line, in characters: names and messages come from
/// strangers, and may be as long as a document.
const LONGEST: usize = 1000;

/// Where lines go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log {
    verbose: bool,
}

impl Log {
    /// `verbose` is `-v`.
    pub fn new(verbose: bool) -> Self {
        Self { verbose }
    }

    /// What happens.
    pub fn info(self, text: fmt::Arguments<'_>) {
        self.line("info", text);
    }

    /// What did not work.
    pub fn error(self, text: fmt::Arguments<'_>) {
        self.line("error", text);
    }

    /// What happens on the way, with `-v` only.
    pub fn debug(self, text: fmt::Arguments<'_>) {
        if self.verbose {
            self.line("debug", text);
        }
    }

    fn line(self, level: &str, text: fmt::Arguments<'_>) {
        let text = one_line(text);
        let line = if self.verbose {
            let since_boot = init::sys::clock::since_boot();
            format!(
                "time={}.{:03} level={level} msg={text:?}\n",
                since_boot.as_secs(),
                since_boot.subsec_millis()
            )
        } else {
            text + "\n"
        };
        // There is nowhere to report that standard error is closed.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// One event is one line of a length that can be read, and a stranger's text
/// moves no cursor.
fn one_line(text: fmt::Arguments<'_>) -> String {
    let mut line = Line::default();
    if fmt::write(&mut line, text).is_err() {
        line.text += "...";
    }
    line.text
}

/// What is written of a line, which ends the writing when it is long enough.
#[derive(Default)]
struct Line {
    text: String,
    length: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = LONGEST - self.length;
        let mut characters = text.chars();
        let taken = characters.by_ref().take(left).map(|c| if c.is_control() { ' ' } else { c });
        self.text.extend(taken.inspect(|_| self.length += 1));
        if characters.next().is_none() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// A line about what happens.
#[macro_export]
macro_rules! info {
    ($log:expr, $($text:tt)*) => { $log.info(format_args!($($text)*)) };
}

/// A line about what did not work.
#[macro_export]
macro_rules! error {
    ($log:expr, $($text:tt)*) => { $log.error(format_args!($($text)*)) };
}

/// A line for someone who looks closely.
#[macro_export]
macro_rules! debug {
    ($log:expr, $($text:tt)*) => { $log.debug(format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_not_long() {
        assert_eq!(one_line(format_args!("a\nb{}\x1b", "\u{9b}c")), "a b c ");
        let exact = "\u{e9}".repeat(LONGEST);
        assert_eq!(one_line(format_args!("{exact}")), exact);
        assert_eq!(one_line(format_args!("{exact}{}", "")), exact);
        assert_eq!(one_line(format_args!("{exact}x{exact}")), exact + "...");
    }
}
