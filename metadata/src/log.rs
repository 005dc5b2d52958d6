// SPDX-License-Identifier: Apache-2.0
//! Lines on standard error: bare text, as LinuxKit's own tool writes them.
//! With `-v` each line says when and how much it matters, and lines for
//! someone who looks closely are shown too.

use std::fmt;
use std::io::Write as _;

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
        // One event is one line, and a stranger's text moves no cursor.
        let text: String = text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
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
