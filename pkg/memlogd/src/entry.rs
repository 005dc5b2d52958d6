// SPDX-License-Identifier: Apache-2.0
//! One line of output, as it is told: `{"time","source","msg"}`.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A line that is kept.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was read, since 1970.
    pub time: Duration,
    /// The log's name.
    pub source: Rc<str>,
    /// The line, without its end. Any bytes.
    pub msg: Box<[u8]>,
}

/// A line as JSON has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// By RFC 3339, in UTC.
    pub time: String,
    /// The log's name.
    pub source: String,
    /// The line; bytes that are no UTF-8 are U+FFFD.
    pub msg: String,
}

/// The time now.
pub fn now() -> Duration {
    // A clock before 1970 is one that has not been set.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Entry {
    /// Appends the line of JSON to `out`.
    pub fn tell(&self, out: &mut Vec<u8>) {
        let told = Told {
            time: rfc3339(self.time),
            source: self.source.to_string(),
            msg: String::from_utf8_lossy(&self.msg).into_owned(),
        };
        // Strings only: this cannot fail.
        if serde_json::to_writer(&mut *out, &told).is_ok() {
            out.push(b'\n');
        }
    }
}

impl Told {
    /// As `logread` prints it. The source's semicolons get a backslash.
    pub fn line(&self) -> String {
        format!("{};{};{}\n", self.time, self.source.replace(';', "\\;"), self.msg)
    }

    /// As `logwrite` writes it into a file: LinuxKit's form there, with blanks
    /// and whole seconds.
    pub fn file_line(&self) -> String {
        let seconds = match self.time.split_once('.') {
            Some((seconds, fraction)) => {
                // What follows the fraction's digits is the zone.
                format!("{seconds}{}", fraction.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => self.time.clone(),
        };
        format!("{seconds} {} {}\n", self.source, self.msg)
    }
}

/// A time since 1970, with as much of a fraction as it has.
pub fn rfc3339(time: Duration) -> String {
    let (days, second) = (time.as_secs() / 86400, time.as_secs() % 86400);
    // Years begin in March, so that the leap day is the last one; 400 of them
    // are an era of 146097 days.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = match time.subsec_nanos() {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (951_868_800, 0, "2000-03-01T00:00:00Z"),
            (1_709_208_000, 1, "2024-02-29T12:00:00.000000001Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, nanos, text) in cases {
            assert_eq!(rfc3339(Duration::new(seconds, nanos)), text);
        }
    }

    #[test]
    fn a_line_of_json() {
        let entry =
            Entry { time: Duration::ZERO, source: "a;b".into(), msg: b"x \"\\\xff\t".as_slice().into() };
        let mut out = Vec::new();
        entry.tell(&mut out);
        let text = String::from_utf8(out).unwrap();
        let expected =
            "{\"time\":\"1970-01-01T00:00:00Z\",\"source\":\"a;b\",\"msg\":\"x \\\"\\\\\u{fffd}\\t\"}\n";
        assert_eq!(text, expected);
        let told: Told = serde_json::from_str(&text).unwrap();
        assert_eq!(told.line(), "1970-01-01T00:00:00Z;a\\;b;x \"\\\u{fffd}\t\n");
        assert_eq!(told.file_line(), "1970-01-01T00:00:00Z a;b x \"\\\u{fffd}\t\n");
        // LinuxKit's memlogd tells the time of the machine's zone.
        for (time, seconds) in [
            ("2026-11-26T14:03:07.120518Z", "2026-11-26T14:03:07Z"),
            ("2026-11-26T14:03:07.1+01:00", "2026-11-26T14:03:07+01:00"),
        ] {
            let told = Told { time: time.to_owned(), ..told.clone() };
            assert!(told.file_line().starts_with(&format!("{seconds} ")), "{}", told.file_line());
        }
    }
}
