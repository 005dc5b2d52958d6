// SPDX-License-Identifier: Apache-2.0
//! What is told of a service, to people and programs.

use std::time::Duration;

use init::console::Console;
use init::{error, info, warning};
use serde::{Deserialize, Serialize};

use super::state::{Cause, Event, Left, Phase, Why};
use super::{Problem, Service};
use crate::engine::Exit;

/// A service as it is told to people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// `new`, `waiting`, `starting`, `readying`, `running`, `unhealthy`,
    /// `stopping`, `backing-off`, `stopped`, `exited`, `failed`, `given-up`.
    pub state: String,
    /// Its first process, while it runs.
    pub pid: Option<u32>,
    /// Seconds its process has been running.
    pub uptime: Option<u64>,
    /// How often it was started again by itself.
    pub restarts: u64,
    /// How it ended the last time.
    pub last_exit: Option<u32>,
    /// Whether it runs and is ready.
    #[serde(default)]
    pub ready: bool,
    /// `healthy` or `unhealthy`, while it is ready and has a health check.
    #[serde(default)]
    pub health: Option<String>,
    /// What it comes after.
    #[serde(default)]
    pub after: Vec<String>,
    /// Why it is not running, or not well, in words.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The word for a phase.
pub fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Down(Why::New) => "new",
        Phase::Down(Why::Asked) => "stopped",
        Phase::Down(Why::Ended) => "exited",
        Phase::Down(Why::Failed) => "failed",
        Phase::Down(Why::GaveUp) => "given-up",
        Phase::Held => "waiting",
        Phase::BackingOff(_) => "backing-off",
        Phase::Starting => "starting",
        Phase::Readying(_) => "readying",
        Phase::Up => "running",
        Phase::Unhealthy(_) => "unhealthy",
        Phase::Leaving | Phase::Stopping(..) | Phase::Cleaning => "stopping",
    }
}

impl Service {
    /// The service as it is at `now`; `waits_for` is what it is held up by.
    pub(super) fn status(&self, name: &str, waits_for: &[String], now: Duration) -> Status {
        let machine = &self.machine;
        let runs = matches!(machine.phase, Phase::Up | Phase::Unhealthy(_));
        let health = match machine.phase {
            Phase::Up => Some("healthy"),
            Phase::Unhealthy(_) => Some("unhealthy"),
            _ => None,
        };
        Status {
            name: name.to_owned(),
            state: word(machine.phase).to_owned(),
            pid: self.pid,
            uptime: machine.runs().then(|| now.saturating_sub(machine.started_at).as_secs()),
            restarts: machine.restarts,
            last_exit: machine.last_exit.and_then(|exit| exit.status),
            ready: runs,
            health: health.filter(|_| self.policy.health.is_some()).map(str::to_owned),
            after: self.policy.after.clone(),
            reason: self.reason(waits_for, now),
        }
    }

    fn reason(&self, waits_for: &[String], now: Duration) -> Option<String> {
        match self.machine.phase {
            Phase::Held => Some(format!("waits for {}", waits_for.join(", "))),
            Phase::BackingOff(until) => {
                let pause = until.saturating_sub(now).as_secs_f32();
                Some(format!("{}; starting it again in {pause:.1}s", self.last_failure()))
            }
            Phase::Readying(_) => Some(format!("{}: {}", self.policy.ready, self.finding.borrow())),
            Phase::Unhealthy(count) => {
                Some(format!("{}; {count} checks in a row have failed", self.finding.borrow()))
            }
            Phase::Down(Why::Failed | Why::GaveUp) => Some(self.last_failure()),
            // What made the last start fail, until one does not.
            Phase::Starting => self.problem.as_ref().map(|problem| problem.text.clone()),
            Phase::Down(Why::New | Why::Asked | Why::Ended)
            | Phase::Up
            | Phase::Leaving
            | Phase::Stopping(..)
            | Phase::Cleaning => None,
        }
    }

    /// Notes why it is being stopped, if not because it was asked for: its
    /// exit status will not tell.
    pub(super) fn blame(&mut self, before: Phase) {
        let why = match self.machine.phase {
            Phase::Stopping(Cause::NotReady, _) => "not ready in time",
            Phase::Stopping(Cause::Unhealthy, _) => "unhealthy",
            _ => return,
        };
        if !matches!(before, Phase::Stopping(..)) {
            let text = format!("{why}: {}", self.finding.borrow());
            self.problem = Some(Problem { text, times: 1 });
        }
    }

    /// How the last run, or the last try of one, has failed.
    pub(super) fn last_failure(&self) -> String {
        match &self.problem {
            Some(problem) => problem.text.clone(),
            None => self.machine.last_exit.unwrap_or(Exit::LOST).to_string(),
        }
    }

    /// What has happened, in words.
    pub(super) fn why(&self, event: Event, before: Phase) -> String {
        let finding = || self.finding.borrow().clone();
        match event {
            Event::Start => "start".to_owned(),
            Event::Stop => "stop".to_owned(),
            Event::Retire => "the machine goes down".to_owned(),
            Event::Restart => "restart".to_owned(),
            Event::Found(Left::Running) => "taken over".to_owned(),
            Event::Found(Left::Ended(exit)) => format!("not found any more: {exit}"),
            Event::Released => "its turn".to_owned(),
            Event::Launched => format!("process {}", self.pid.unwrap_or_default()),
            Event::LaunchFailed => self.last_failure(),
            Event::Ready => format!("{} is there", self.policy.ready),
            Event::Sound => "a health check went well".to_owned(),
            Event::Unsound => finding(),
            Event::Exited(exit) => exit.to_string(),
            Event::Cleaned => self.machine.last_exit.unwrap_or(Exit::LOST).to_string(),
            Event::Timer => match before {
                Phase::Readying(_) => format!("not ready in time: {}", finding()),
                Phase::Stopping(..) => "did not end in time".to_owned(),
                _ => "the pause is over".to_owned(),
            },
        }
    }

    /// One line for what a person wants to know of a step.
    pub(super) fn report(&self, console: &Console, name: &str, event: Event, before: Phase, now: Duration) {
        let after = self.machine.phase;
        let next = || match after {
            Phase::BackingOff(until) => {
                format!("starting it again in {:.1}s", until.saturating_sub(now).as_secs_f32())
            }
            Phase::Starting | Phase::Held => "starting it again".to_owned(),
            Phase::Down(Why::GaveUp) => "failed too often, given up".to_owned(),
            _ => "it stays down".to_owned(),
        };
        match (event, before) {
            (Event::Launched, Phase::Starting) => {
                let pid = self.pid.unwrap_or_default();
                info!(console, "service {name}: running (process {pid})");
            }
            (Event::Ready, Phase::Readying(_)) => {
                let took = now.saturating_sub(self.machine.started_at).as_secs_f32();
                info!(console, "service {name}: ready after {took:.3}s ({})", self.policy.ready);
            }
            (Event::LaunchFailed, Phase::Starting) if self.machine.wanted => match &self.problem {
                Some(Problem { text, times: 1 }) => {
                    error!(console, "service {name}: failed to start: {text}; {}", next());
                }
                // The whole story once; then that it goes on.
                Some(Problem { times, .. }) => {
                    error!(console, "service {name}: failed to start, {times} times now; {}", next());
                }
                None => {}
            },
            (Event::Timer, Phase::Readying(_)) if after != before => {
                error!(
                    console,
                    "service {name}: not ready after {:.1}s: {}: {}; stopping it",
                    now.saturating_sub(self.machine.started_at).as_secs_f32(),
                    self.policy.ready,
                    self.finding.borrow()
                );
            }
            (Event::Unsound, Phase::Up) => {
                warning!(console, "service {name}: unhealthy: {}", self.finding.borrow());
            }
            _ => {}
        }
        match (event, before, after) {
            (Event::Unsound, _, Phase::Stopping(Cause::Unhealthy, _)) => {
                error!(
                    console,
                    "service {name}: unhealthy too often: {}; stopping it",
                    self.finding.borrow()
                );
            }
            (Event::Sound, Phase::Unhealthy(_), Phase::Up) => {
                info!(console, "service {name}: healthy again");
            }
            (Event::Exited(exit), Phase::Stopping(Cause::Asked, _) | Phase::Leaving, _) => {
                info!(console, "service {name}: stopped ({exit})");
            }
            (Event::Cleaned, Phase::Cleaning, _) if self.machine.wanted => {
                let exit = self.machine.last_exit.unwrap_or(Exit::LOST);
                let end = &self.ending;
                match &self.problem {
                    Some(Problem { text, .. }) => {
                        error!(console, "service {name}: failed: {text} ({exit}); {}{end}", next());
                    }
                    None if exit.success() => info!(console, "service {name}: ended ({exit}); {}", next()),
                    None => error!(console, "service {name}: failed: {exit}; {}{end}", next()),
                }
            }
            _ => {}
        }
    }
}
