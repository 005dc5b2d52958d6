// SPDX-License-Identifier: Apache-2.0
//! What is told of a service, to people and programs.

use std::time::Duration;

use init::console::Console;
use init::{error, info};
use serde::{Deserialize, Serialize};

use super::state::{Event, Phase, Why};
use super::{Problem, Service};
use crate::engine::Exit;

/// A service as it is told to people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// `new`, `starting`, `running`, `stopping`, `backing-off`, `stopped`, `exited`, `given-up`.
    pub state: String,
    /// Its first process, while it runs.
    pub pid: Option<u32>,
    /// Seconds it has been up.
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
pub(super) fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Down(Why::New) => "new",
        Phase::Down(Why::Asked) => "stopped",
        Phase::Down(Why::Ended) => "exited",
        Phase::Down(Why::GaveUp) => "given-up",
        Phase::Waiting(_) => "backing-off",
        Phase::Starting => "starting",
        Phase::Up(_) => "running",
        Phase::Stopping(_) | Phase::Cleaning => "stopping",
    }
}

/// One line for what a person wants to know of a step.
pub(super) fn report(
    console: &Console,
    name: &str,
    service: &Service,
    event: Event,
    before: Phase,
    now: Duration,
) {
    let after = service.machine.phase;
    let next = || match after {
        Phase::Waiting(until) => {
            format!("starting it again in {:.1}s", until.saturating_sub(now).as_secs_f32())
        }
        Phase::Starting => "starting it again".to_owned(),
        Phase::Down(Why::GaveUp) => "failed too often, given up".to_owned(),
        _ => "it stays down".to_owned(),
    };
    match (event, before) {
        (Event::Launched, Phase::Starting) => {
            let pid = service.pid.unwrap_or_default();
            info!(console, "service {name}: running (process {pid})");
        }
        (Event::LaunchFailed, Phase::Starting) => {
            match &service.problem {
                Some(Problem { text, times: 1 }) => {
                    error!(console, "service {name}: failed to start: {text}; {}", next());
                }
                // The whole story once; then that it goes on.
                Some(Problem { times, .. }) => {
                    error!(console, "service {name}: failed to start, {times} times now; {}", next());
                }
                None => {}
            }
        }
        (Event::Exited(exit), Phase::Stopping(_)) => info!(console, "service {name}: stopped ({exit})"),
        (Event::Cleaned, Phase::Cleaning) if service.machine.wanted => {
            let exit = service.machine.last_exit.unwrap_or(Exit::LOST);
            if exit.success() {
                info!(console, "service {name}: ended ({exit}); {}", next());
            } else {
                let log = format!("/var/log/{name}.log");
                error!(console, "service {name}: failed: {exit}; {}; log: {log}", next());
            }
        }
        _ => {}
    }
}
