// SPDX-License-Identifier: Apache-2.0
//! How `service` and `rc.shutdown` talk to the supervisor: one JSON request a
//! line over `/run/lkinit/control.sock`, one JSON answer a line back.

mod client;
mod follow;
mod server;

pub use client::{Client, Failure};
pub use server::serve;

use serde::{Deserialize, Serialize};

use crate::journal::Change;
use crate::supervise::Status;

/// What the supervisor can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Start a service; answered when it is up.
    Start {
        /// Which.
        name: String,
    },
    /// Stop a service; answered when it is down.
    Stop {
        /// Which.
        name: String,
    },
    /// Stop and start a service, or start a crashed one; answered when it is up.
    Restart {
        /// Which.
        name: String,
    },
    /// Start every service that is not up; answered when each has come up or failed.
    StartAll,
    /// Tell about every service.
    Status,
    /// Tell what happens from now on: answered with `done`, then with one
    /// `changed` after the other. Nothing more can be asked for.
    Follow,
    /// Take everything down but the machine; answered when it is done. The
    /// supervisor ends after the answer.
    Shutdown,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done,
    /// It could not be done.
    Failed {
        /// Why, in words.
        reason: String,
    },
    /// The services.
    Services {
        /// By name.
        services: Vec<Status>,
        /// containerd: its version, or why it does not answer.
        containerd: Option<String>,
    },
    /// Something has happened.
    Changed {
        /// What.
        change: Change,
    },
    /// Too much has happened since something was read last; no more will come.
    TooSlow {
        /// How many changes are left out.
        missed: u64,
    },
}

#[cfg(test)]
mod tests;
