// SPDX-License-Identifier: Apache-2.0
//! What a container's annotations say about its life. See docs/annotations.md.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::annotations::{Reader, signal};
pub use super::annotations::{Unreadable, duration};
use super::probe::Probe;
use crate::bundle::Stage;

/// When a service that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// When it has failed.
    OnFailure,
    /// Always.
    Always,
}

/// How the machine is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeDown {
    /// It is switched off.
    PowerOff,
    /// It starts anew.
    Reboot,
    /// It stands still.
    Halt,
}

impl TakeDown {
    /// The word for it, which `rc.shutdown` knows.
    pub fn word(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        }
    }
}

impl fmt::Display for TakeDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// `lkinit.healthcheck` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is checked.
    pub probe: Probe,
    /// The pause between two checks, and the most that one may take.
    pub interval: Duration,
    /// So many failures in a row, and it is started again.
    pub retries: u32,
}

/// How a service is kept up and taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `lkinit.restart`.
    pub restart: Restart,
    /// `lkinit.restart-delay`: the pause after the first failure; it doubles
    /// with every further one. `None`: a first crash is no reason to wait.
    pub delay: Option<Duration>,
    /// Where the pause stops growing.
    pub delay_ceiling: Duration,
    /// `lkinit.restart-max`: so many restarts within so much time, then no more.
    pub restart_max: Option<(usize, Duration)>,
    /// Up for so long, it has not failed.
    pub stable: Duration,
    /// `lkinit.after`: what comes before it, by name.
    pub after: Vec<String>,
    /// `lkinit.ready`.
    pub ready: Probe,
    /// `lkinit.ready-timeout`: not ready after this, it has failed.
    pub ready_timeout: Option<Duration>,
    /// `lkinit.healthcheck`.
    pub health: Option<Health>,
    /// `lkinit.start-timeout`: what runs containers has not started it after
    /// this, and the start has failed.
    pub start_timeout: Duration,
    /// `lkinit.stop-signal`.
    pub stop_signal: Signal,
    /// `lkinit.stop-timeout`: what is still there after this is killed.
    pub stop_timeout: Duration,
    /// `lkinit.critical`: what becomes of the machine when it is given up.
    pub critical: Option<TakeDown>,
}

/// The first pause, where none is set: after the second failure in a row, or
/// after a start that failed.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// What runs containers may take so long to start one. A hundred that start
/// together on a slow machine do take minutes.
pub const START_TIMEOUT: Duration = Duration::from_secs(300);

/// A critical service must be given up some time.
const CRITICAL_MAX: (usize, Duration) = (5, Duration::from_secs(60));

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart: Restart::OnFailure,
            delay: None,
            delay_ceiling: Duration::from_secs(30),
            restart_max: None,
            stable: Duration::from_secs(60),
            after: Vec::new(),
            ready: Probe::Started,
            ready_timeout: Some(Duration::from_secs(60)),
            health: None,
            start_timeout: START_TIMEOUT,
            stop_signal: Signal::SIGTERM,
            stop_timeout: Duration::from_secs(10),
            critical: None,
        }
    }
}

impl Policy {
    /// Reads the annotations of a service. What cannot be read keeps its
    /// default and is one of the warnings.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> (Self, Vec<Unreadable>) {
        let mut policy = Self::default();
        let mut reader = Reader::new(annotations);
        let restart =
            reader.read(
                "lkinit.restart",
                "no, on-failure or always; using on-failure",
                |value| match value {
                    "no" => Some(Restart::No),
                    "on-failure" => Some(Restart::OnFailure),
                    "always" => Some(Restart::Always),
                    _ => None,
                },
            );
        policy.restart = restart.unwrap_or(policy.restart);
        policy.delay = reader.read(
            "lkinit.restart-delay",
            "a duration such as 250ms or 10s; using the default",
            duration,
        );
        policy.delay_ceiling = policy.delay_ceiling.max(policy.delay.unwrap_or_default());
        policy.restart_max =
            reader.read("lkinit.restart-max", "a count in a window such as 5/60s; using no limit", |value| {
                let (count, window) = value.split_once('/')?;
                let window = duration(window).filter(|window| !window.is_zero())?;
                Some((count.parse().ok()?, window))
            });
        let after = reader.read("lkinit.after", "a list of names; using none", |value| {
            let names = value.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty());
            Some(names.map(str::to_owned).collect())
        });
        policy.after = after.unwrap_or_default();
        if let Some(ready) = reader.try_read("lkinit.ready", |value| {
            Probe::parse(value).map_err(|problem| format!("{problem}; using started"))
        }) {
            policy.ready = ready;
        }
        policy.ready_timeout = reader
            .read("lkinit.ready-timeout", "a duration such as 30s, or 0 for none; using 60s", duration)
            .map_or(policy.ready_timeout, |limit| Some(limit).filter(|limit| !limit.is_zero()));
        policy.health = health(&mut reader);
        policy.start_timeout = start_timeout(&mut reader);
        let stop = reader.read("lkinit.stop-signal", "a signal's name or number; using SIGTERM", signal);
        policy.stop_signal = stop.unwrap_or(policy.stop_signal);
        let stop = reader.read("lkinit.stop-timeout", "a duration such as 250ms or 10s; using 10s", duration);
        policy.stop_timeout = stop.unwrap_or(policy.stop_timeout);
        let critical =
            reader.read("lkinit.critical", "false, true, poweroff, reboot or halt; using false", |value| {
                match value {
                    "false" => Some(None),
                    "true" | "poweroff" => Some(Some(TakeDown::PowerOff)),
                    "reboot" => Some(Some(TakeDown::Reboot)),
                    "halt" => Some(Some(TakeDown::Halt)),
                    _ => None,
                }
            });
        policy.critical = critical.flatten();
        (policy, reader.finish())
    }

    /// The pause after so many failures in a row, without its jitter. A first
    /// crash, of a service that `ran`, is no reason to wait unless a pause was
    /// asked for.
    pub fn delay(&self, failures: u32, ran: bool) -> Duration {
        let (first, doublings) = match self.delay {
            Some(delay) => (delay, failures.saturating_sub(1)),
            None if failures <= 1 && ran => return Duration::ZERO,
            None => (FIRST_DELAY, failures.saturating_sub(2)),
        };
        first.saturating_mul(1 << doublings.min(31)).min(self.delay_ceiling)
    }

    /// When it is given up: so many restarts within so much time.
    pub fn most_restarts(&self) -> Option<(usize, Duration)> {
        self.restart_max.or(self.critical.map(|_| CRITICAL_MAX))
    }
}

fn start_timeout(reader: &mut Reader<'_>) -> Duration {
    let limit =
        reader.read("lkinit.start-timeout", "a duration such as 30s, or 0 for none; using 5m", duration);
    limit.map_or(START_TIMEOUT, |limit| if limit.is_zero() { Duration::MAX } else { limit })
}

fn health(reader: &mut Reader<'_>) -> Option<Health> {
    let probe = reader.try_read("lkinit.healthcheck", |value| match Probe::parse(value) {
        Ok(Probe::Started) => Err("checks nothing; using no health check".to_owned()),
        Ok(probe) => Ok(probe),
        Err(problem) => Err(format!("{problem}; using no health check")),
    });
    let interval = reader.read(
        "lkinit.healthcheck-interval",
        "a duration above 0 such as 500ms or 10s; using 10s",
        |value| duration(value).filter(|interval| !interval.is_zero()),
    );
    let retries = reader.read("lkinit.healthcheck-retries", "a count of 1 or more; using 3", |value| {
        value.parse().ok().filter(|count| *count >= 1)
    });
    Some(Health {
        probe: probe?,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        retries: retries.unwrap_or(3),
    })
}

/// What follows when an onboot or onshutdown container fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The next one.
    Continue,
    /// A root shell on the console; after it, the next one.
    Shell,
    /// The machine goes down.
    TakeDown(TakeDown),
}

/// How a container that runs once is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// `lkinit.timeout`: it is killed after this.
    pub timeout: Option<Duration>,
    /// `lkinit.start-timeout`, as for services.
    pub start_timeout: Duration,
    /// `lkinit.on-failure`.
    pub on_failure: OnFailure,
}

impl OnFailure {
    /// What comes next, for the line that tells of the failure.
    pub fn next(self, stage: Stage) -> String {
        match (self, stage) {
            (Self::Continue, Stage::Onshutdown) => "the shutdown goes on".to_owned(),
            (Self::Continue, _) => "the boot goes on".to_owned(),
            (Self::Shell, _) => "a shell is next (lkinit.on-failure)".to_owned(),
            (Self::TakeDown(how), _) => format!("{how} is next (lkinit.on-failure)"),
        }
    }
}

impl Once {
    /// Reads the annotations of an onboot or onshutdown container. What cannot
    /// be read keeps its default and is one of the warnings. While the machine
    /// goes down anyway, what a failure leads to cannot be chosen: such a key
    /// means nothing there, and that is a warning, too.
    pub fn of_stage(stage: Stage, annotations: &BTreeMap<String, String>) -> (Self, Vec<Unreadable>) {
        let mut reader = Reader::new(annotations);
        let timeout = reader.read("lkinit.timeout", "a duration such as 30s or 5m; using none", |value| {
            duration(value).filter(|limit| !limit.is_zero())
        });
        let start_timeout = start_timeout(&mut reader);
        let on_failure = match stage {
            Stage::Onshutdown => None,
            Stage::Onboot | Stage::Services => reader.read(
                "lkinit.on-failure",
                "continue, halt, poweroff, reboot or shell; using continue",
                |value| match value {
                    "continue" => Some(OnFailure::Continue),
                    "shell" => Some(OnFailure::Shell),
                    "halt" => Some(OnFailure::TakeDown(TakeDown::Halt)),
                    "poweroff" => Some(OnFailure::TakeDown(TakeDown::PowerOff)),
                    "reboot" => Some(OnFailure::TakeDown(TakeDown::Reboot)),
                    _ => None,
                },
            ),
        };
        let on_failure = on_failure.unwrap_or(OnFailure::Continue);
        (Self { timeout, start_timeout, on_failure }, reader.finish())
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
