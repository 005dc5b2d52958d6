// SPDX-License-Identifier: Apache-2.0
//! Asking an external logger for what it has: memlogd's query socket.
//!
//! One byte is sent and JSON lines come back: docs/logging.md has the format.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// The query socket.
pub const QUERY: &str = "/var/run/memlogdq.sock";

/// The longest answer line that is put together: a line of output is much
/// shorter.
const LONGEST: usize = 1024 * 1024;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What there is.
    Dump = 0,
    /// What comes.
    Follow = 1,
    /// Both.
    DumpAndFollow = 2,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// When the logger got it, by RFC 3339.
    #[serde(default)]
    pub time: String,
    /// The log's name.
    #[serde(default)]
    pub source: String,
    /// The line.
    #[serde(default)]
    pub msg: String,
}

impl Entry {
    /// The time as a time; `None` where it is none.
    pub fn time(&self) -> Option<SystemTime> {
        rfc3339(&self.time)
    }
}

/// `2006-01-02T15:04:05.999Z` or with `+07:00` at the end.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let at = clock.find(['Z', '+', '-'])?;
    let (clock, zone) = clock.split_at(at);
    let mut clock = clock.splitn(3, ':');
    let (hours, minutes) = (clock.next()?.parse::<i64>().ok()?, clock.next()?.parse::<i64>().ok()?);
    let seconds = clock.next()?.parse::<f64>().ok().filter(|seconds| (0.0..61.0).contains(seconds))?;
    let east = match zone.split_once(':') {
        None => 0,
        Some((hours, minutes)) => {
            let hours: i64 = hours.parse().ok()?;
            hours * 60 + minutes.parse::<i64>().ok()? * if zone.starts_with('-') { -1 } else { 1 }
        }
    };
    // Days since 1970 in the Gregorian calendar: years begin in March, so that
    // the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let whole = u64::try_from(((days * 24 + hours) * 60 + minutes - east) * 60).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(whole) + Duration::from_secs_f64(seconds))
}

/// A question that is being answered.
pub struct Query {
    socket: UnixStream,
    text: Vec<u8>,
}

impl Query {
    /// Asks the logger behind `socket`.
    ///
    /// # Errors
    /// Those of connect(2) and write(2).
    pub fn new(socket: &Path, mode: Mode) -> io::Result<Self> {
        let mut socket = UnixStream::connect(socket)?;
        socket.write_all(&[mode as u8])?;
        Ok(Self { socket, text: Vec::new() })
    }

    /// Has reads return at once when nothing is there.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)
    }

    /// Reads once, and gives every whole line to `take`. `false`: the answer
    /// has ended.
    ///
    /// # Errors
    /// Those of read(2); WouldBlock: nothing is there. A line that is no
    /// answer is left out.
    pub fn read(&mut self, take: &mut dyn FnMut(Entry)) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let count = self.socket.read(&mut buffer)?;
        self.text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let mut rest = self.text.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(at);
            rest = behind.get(1..).unwrap_or_default();
            if let Ok(entry) = serde_json::from_slice(line) {
                take(entry);
            }
        }
        let done = self.text.len() - rest.len();
        self.text.drain(..done);
        if self.text.len() > LONGEST {
            self.text.clear();
        }
        Ok(count > 0)
    }
}

impl AsFd for Query {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn times() {
        let unix = |text: &str| rfc3339(text).map(|time| time.duration_since(UNIX_EPOCH).unwrap());
        assert_eq!(unix("1970-01-01T00:00:00Z"), Some(Duration::ZERO));
        assert_eq!(unix("2024-02-29T12:00:00.5Z"), Some(Duration::from_millis(1_709_208_000_500)));
        assert_eq!(unix("2026-11-26T16:30:00+02:30"), Some(Duration::from_secs(1_795_701_600)));
        assert_eq!(unix("2026-11-26T11:30:00-02:30"), Some(Duration::from_secs(1_795_701_600)));
        for wrong in ["", "T", "2026-11-26", "2026-11-26T11:30:00", "2026-11-26T11:30:xxZ"] {
            assert_eq!(unix(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn answers_come_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut mode = [9];
            socket.read_exact(&mut mode).unwrap();
            for piece in
                ["{\"time\":\"t\",\"sour", "ce\":\"x.out\",\"msg\":\"a\"}\nnoise\n{\"source\":\"y\"}", "\n"]
            {
                socket.write_all(piece.as_bytes()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            mode[0]
        });
        let mut query = Query::new(&path, Mode::DumpAndFollow).unwrap();
        let mut seen = Vec::new();
        while query.read(&mut |entry| seen.push((entry.source, entry.msg))).unwrap() {}
        assert_eq!(seen, [("x.out".to_owned(), "a".to_owned()), ("y".to_owned(), String::new())]);
        assert_eq!(server.join().unwrap(), 2);
    }
}
