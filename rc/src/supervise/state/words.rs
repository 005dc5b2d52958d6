// SPDX-License-Identifier: Apache-2.0
//! The words of the state machine: what happens, what is to be done, and the
//! phases of a service's life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Exit;
use crate::supervise::policy::TakeDown;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants the service up.
    Start,
    /// Somebody wants it down.
    Stop,
    /// The machine goes down: it is to be stopped in its turn.
    Retire,
    /// Somebody wants it stopped, if it is up, and started.
    Restart,
    /// An rc that takes over has looked for it; whatever the one before it had
    /// begun to do is not under way any more.
    Found(Left),
    /// It is its turn: nothing that is to come before it is still to come.
    Released,
    /// Its process runs.
    Launched,
    /// It could not be started; what was made for it is gone again.
    LaunchFailed,
    /// It does what `lkinit.ready` asks for.
    Ready,
    /// A health check went well.
    Sound,
    /// A health check went wrong.
    Unsound,
    /// Its process has ended.
    Exited(Exit),
    /// What its process left is gone.
    Cleaned,
    /// Time has passed.
    Timer,
}

/// What an rc that takes over finds of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its process runs.
    Running,
    /// It does not; how it ended, as far as anybody knows.
    Ended(Exit),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Send `Released` when it is its turn.
    AwaitTurn,
    /// Prepare the bundle, make the container, start it: ends with
    /// `Launched` or `LaunchFailed`.
    Launch,
    /// Find out when it is ready: ends with `Ready`, or by `EndProbe`.
    AwaitReady,
    /// Check its health again and again: `Sound`, `Unsound`, until `EndProbe`.
    WatchHealth,
    /// Ask no more whether it is ready or sound.
    EndProbe,
    /// Ask the process to end.
    AskToEnd,
    /// Kill everything in the container.
    Kill,
    /// Remove the container and what it mounted: ends with `Cleaned`.
    Clean,
    /// Send `Timer` at this time.
    WakeAt(Duration),
    /// Take the machine down: it cannot be without this service.
    TakeDown(TakeDown),
}

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing runs and nothing will by itself.
    Down(Why),
    /// It is to be started when what it comes after has come.
    Held,
    /// It has failed and will be started again at this time.
    BackingOff(Duration),
    /// It is being started.
    Starting,
    /// It runs and is not ready yet; at this time it has failed.
    Readying(Option<Duration>),
    /// It runs and is ready.
    Up,
    /// It runs, and its last health checks went wrong, so many in a row.
    Unhealthy(u32),
    /// It runs and is to be stopped when those that come after it are down.
    Leaving,
    /// It has been asked to end, and is killed at this time; `None`: it has been killed.
    Stopping(Cause, Option<Duration>),
    /// Its process has ended and what it left is being removed.
    Cleaning,
}

/// Why a service is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It was never started.
    New,
    /// Somebody stopped it.
    Asked,
    /// It ended well, and its policy lets it rest.
    Ended,
    /// It failed, and its policy is not to start it again.
    Failed,
    /// It failed too often.
    GaveUp,
}

/// Why a service is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Somebody wants it down, or down and up again.
    Asked,
    /// It was not ready in time.
    NotReady,
    /// Its health checks went wrong too often.
    Unhealthy,
}
