// SPDX-License-Identifier: Apache-2.0
//! What a service's annotations say about its life.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

/// When a service that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// When its exit status is not 0.
    OnFailure,
    /// Always.
    Always,
}

/// How a service is kept up and taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `lkinit.restart`.
    pub restart: Restart,
    /// `lkinit.restart-delay`: the pause after the first failure; it doubles
    /// with every further one.
    pub delay: Duration,
    /// Where the pause stops growing.
    pub delay_ceiling: Duration,
    /// `lkinit.restart-max`: so many restarts within so much time, then no more.
    pub restart_max: Option<(usize, Duration)>,
    /// Up for so long, it has not failed.
    pub stable: Duration,
    /// `lkinit.stop-signal`.
    pub stop_signal: Signal,
    /// `lkinit.stop-timeout`: what is still there after this is killed.
    pub stop_timeout: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart: Restart::OnFailure,
            delay: Duration::from_millis(100),
            delay_ceiling: Duration::from_secs(30),
            restart_max: None,
            stable: Duration::from_secs(60),
            stop_signal: Signal::SIGTERM,
            stop_timeout: Duration::from_secs(10),
        }
    }
}

impl Policy {
    /// Reads the annotations of a bundle. What cannot be read keeps its
    /// default and is one of the warnings.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> (Self, Vec<Unreadable>) {
        let mut policy = Self::default();
        let mut warnings = Vec::new();
        let mut read = |key: &str, set: &mut dyn FnMut(&str) -> Result<(), Wanted>| {
            let Some(value) = annotations.get(key) else { return };
            if let Err(wanted) = set(value.trim()) {
                warnings.push(Unreadable { key: key.to_owned(), value: value.clone(), wanted });
            }
        };
        read("lkinit.restart", &mut |value| {
            policy.restart = match value {
                "no" => Restart::No,
                "on-failure" => Restart::OnFailure,
                "always" => Restart::Always,
                _ => return Err(Wanted("no, on-failure or always; using on-failure")),
            };
            Ok(())
        });
        read("lkinit.restart-delay", &mut |value| {
            policy.delay = duration(value).ok_or(Wanted("a duration such as 250ms or 10s; using 100ms"))?;
            policy.delay_ceiling = policy.delay_ceiling.max(policy.delay);
            Ok(())
        });
        read("lkinit.restart-max", &mut |value| {
            let parts = value
                .split_once('/')
                .and_then(|(count, window)| Some((count.parse().ok()?, duration(window)?)));
            policy.restart_max =
                Some(parts.ok_or(Wanted("a count in a window such as 5/60s; using no limit"))?);
            Ok(())
        });
        read("lkinit.stop-signal", &mut |value| {
            policy.stop_signal = signal(value).ok_or(Wanted("a signal's name or number; using SIGTERM"))?;
            Ok(())
        });
        read("lkinit.stop-timeout", &mut |value| {
            policy.stop_timeout =
                duration(value).ok_or(Wanted("a duration such as 250ms or 10s; using 10s"))?;
            Ok(())
        });
        (policy, warnings)
    }

    /// The pause after so many failures in a row.
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.delay.saturating_mul(1 << doublings).min(self.delay_ceiling)
    }
}

/// What an annotation should have held, and what is used instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted(&'static str);

/// An annotation that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    key: String,
    value: String,
    wanted: Wanted,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {}: {:?} is not {}", self.key, self.value, self.wanted.0)
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
    (!text.is_empty()).then_some(total)
}

/// A signal by number, or by name with or without `SIG`.
pub fn signal(text: &str) -> Option<Signal> {
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
        for bad in ["", "10", "s", "10 s", "-1s", "1x", "1e9999s", "99999999999999999999h"] {
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

    #[test]
    fn an_unreadable_annotation_names_key_value_and_what_is_used() {
        let annotations = BTreeMap::from([
            ("lkinit.restart".to_owned(), "sometimes".to_owned()),
            ("lkinit.stop-timeout".to_owned(), "2s".to_owned()),
        ]);
        let (policy, warnings) = Policy::from_annotations(&annotations);
        assert_eq!(policy.stop_timeout, Duration::from_secs(2));
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [r#"annotation lkinit.restart: "sometimes" is not no, on-failure or always; using on-failure"#]
        );
    }
}
