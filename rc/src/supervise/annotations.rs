// SPDX-License-Identifier: Apache-2.0
//! Reading `lkinit.*` annotations: what cannot be read is a warning that
//! names the key, the value and what is used instead.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

/// What all our annotations begin with.
const PREFIX: &str = "lkinit.";

/// The longest time that counts as one: a hundred years. Sums of times and
/// clocks stay far away from what a clock can tell.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Keys that are read elsewhere: how much of the output is kept.
const ELSEWHERE: &str = "lkinit.log-";

/// An annotation that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    key: String,
    value: String,
    problem: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {}: {:?} {}", self.key, self.value, self.problem)
    }
}

/// A container's annotations, while they are being read.
pub(super) struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    asked: Vec<&'static str>,
    warnings: Vec<Unreadable>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(annotations: &'a BTreeMap<String, String>) -> Self {
        Self { annotations, asked: Vec::new(), warnings: Vec::new() }
    }

    /// The value of a key, if it is there and makes sense. `wanted` says what
    /// it should be, and what is used if it is not.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.try_read(key, |value| parse(value).ok_or_else(|| format!("is not {wanted}")))
    }

    /// As [`Reader::read`], where it takes more words to say what is wrong.
    pub(super) fn try_read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.asked.push(key);
        let value = self.annotations.get(key)?;
        match parse(value.trim()) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.warn(key, value, problem);
                None
            }
        }
    }

    /// What could not be read, and what nobody has asked for: a key that is
    /// misspelt must not be passed over in silence.
    pub(super) fn finish(mut self) -> Vec<Unreadable> {
        for (key, value) in self.annotations {
            let ours = key.starts_with(PREFIX) && !key.starts_with(ELSEWHERE);
            if ours && !self.asked.contains(&key.as_str()) {
                self.warn(key, value, "is of a key that means nothing here: not used".to_owned());
            }
        }
        self.warnings
    }

    fn warn(&mut self, key: &str, value: &str, problem: String) {
        self.warnings.push(Unreadable { key: key.to_owned(), value: value.to_owned(), problem });
    }
}

/// A duration in the usual spelling: `250ms`, `10s`, `5m`, `1h`, sums of
/// them such as `1m30s`, and a bare `0`.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(f64::from_str(number).ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty() && total <= LONGEST).then_some(total)
}

/// A signal by number, or by name with or without `SIG`.
pub(super) fn signal(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    Signal::from_str(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("0.5s"), Some(Duration::from_millis(500)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for bad in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1x",
            "1e9999s",
            "99999999999999999999h",
            "5000000000000000h",
            "876001h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn signals() {
        assert_eq!(signal("9"), Some(Signal::SIGKILL));
        assert_eq!(signal("int"), Some(Signal::SIGINT));
        assert_eq!(signal("SIGQUIT"), Some(Signal::SIGQUIT));
        assert_eq!(signal("SIGNOPE"), None);
        assert_eq!(signal("0"), None);
    }
}
