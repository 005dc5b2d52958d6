// SPDX-License-Identifier: Apache-2.0
//! What the program says about itself: lines on standard error, or in the
//! kernel's log when it is in the background. What happens often is said once
//! and then counted.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long something that goes on happening stays unmentioned.
const QUIET: Duration = Duration::from_secs(60);

/// Where lines go.
#[derive(Debug, Clone)]
pub struct Log {
    kernel: Option<Rc<File>>,
    verbose: bool,
}

impl Log {
    /// To standard error.
    pub fn new(verbose: bool) -> Self {
        Self { kernel: None, verbose }
    }

    /// To the kernel's log from now on. Not to a syslog socket: that may be
    /// one that we serve.
    ///
    /// # Errors
    /// When `/dev/kmsg` cannot be opened.
    pub fn to_kernel(&mut self) -> io::Result<()> {
        self.kernel = Some(Rc::new(OpenOptions::new().write(true).open("/dev/kmsg")?));
        Ok(())
    }

    /// One line. Nobody to read it is no reason to stop.
    pub fn line(&self, text: fmt::Arguments<'_>) {
        // A line is one write: both readers take it as one message.
        let _ = match &self.kernel {
            // Facility daemon (3), severity notice (5).
            Some(file) => file.as_ref().write_all(format!("<29>vsudd: {text}\n").as_bytes()),
            None => io::stderr().write_all(format!("vsudd: {text}\n").as_bytes()),
        };
    }

    /// One line for someone who looks closely.
    pub fn detail(&self, text: fmt::Arguments<'_>) {
        if self.verbose {
            self.line(text);
        }
    }
}

/// Something that may happen very often.
#[derive(Debug, Default)]
pub struct Tally {
    count: u64,
    said: Option<Instant>,
}

impl Tally {
    /// Counts it. Returns the number of times since the beginning when it is
    /// to be mentioned: the first time, and then once a minute at most.
    pub fn add(&mut self, now: Instant) -> Option<Times> {
        self.count += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < QUIET) {
            return None;
        }
        self.said = Some(now);
        Some(Times(self.count))
    }

    /// It is over: begins anew, and returns how often it happened.
    pub fn end(&mut self) -> u64 {
        std::mem::take(self).count
    }
}

/// A number of times, as the end of a line: nothing for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times(pub u64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            count => write!(f, " ({count} times by now)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn said_once_and_then_counted() {
        let mut tally = Tally::default();
        let start = Instant::now();
        assert_eq!(tally.add(start), Some(Times(1)));
        assert_eq!(Times(1).to_string(), "");
        for second in 1..60 {
            assert_eq!(tally.add(start + Duration::from_secs(second)), None);
        }
        let said = tally.add(start + QUIET).unwrap();
        assert_eq!(said.to_string(), " (61 times by now)");
        assert_eq!((tally.end(), tally.end()), (61, 0));
        assert_eq!(tally.add(start + QUIET), Some(Times(1)));
    }
}
