// SPDX-License-Identifier: Apache-2.0
//! The life of a service as a pure state machine.
//!
//! [`Machine::step`] takes an event and the time and returns what is to be
//! done. It has no clock and does no I/O, so every path can be tested in no
//! time. Times are durations since boot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{Policy, Restart};
use crate::engine::Exit;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants the service up.
    Start,
    /// Somebody wants it down.
    Stop,
    /// Somebody wants it stopped, if it is up, and started.
    Restart,
    /// Its process runs.
    Launched,
    /// It could not be started; what was made for it is gone again.
    LaunchFailed,
    /// Its process has ended.
    Exited(Exit),
    /// What its process left is gone.
    Cleaned,
    /// Time has passed.
    Timer,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Prepare the bundle, make the container, start it: ends with
    /// `Launched` or `LaunchFailed`.
    Launch,
    /// Ask the process to end.
    AskToEnd,
    /// Kill everything in the container.
    Kill,
    /// Remove the container and what it mounted: ends with `Cleaned`.
    Clean,
    /// Send `Timer` at this time.
    WakeAt(Duration),
}

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing runs and nothing will by itself.
    Down(Why),
    /// It will be started at this time.
    Waiting(Duration),
    /// It is being started.
    Starting,
    /// It runs, since this time.
    Up(Duration),
    /// It has been asked to end, and is killed at this time; `None`: it has been killed.
    Stopping(Option<Duration>),
    /// Its process has ended and what it left is being removed.
    Cleaning,
}

/// What an rc that takes over finds of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its process runs.
    Running,
    /// It does not; how it ended, as far as anybody knows.
    Ended(Exit),
}

/// Why a service is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It was never started.
    New,
    /// Somebody stopped it.
    Asked,
    /// It ended, and its policy lets it rest.
    Ended,
    /// It failed too often.
    GaveUp,
}

/// A service's life so far. It is kept in a file (see `memory.rs`), so that
/// an rc that takes over goes on where the one before it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Where it is.
    pub phase: Phase,
    /// Whether somebody wants it up.
    pub wanted: bool,
    /// How it ended the last time, if it ever did.
    pub last_exit: Option<Exit>,
    /// How often it was started again by itself.
    pub restarts: u64,
    /// Failures in a row, each before it had been up for long.
    failures: u32,
    /// A restart was asked for: start again whatever the policy says.
    again: bool,
    /// When it ended the last time, or failed to start.
    ended_at: Duration,
    /// When it was started again by itself, within the window of the policy.
    recent: Vec<Duration>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            phase: Phase::Down(Why::New),
            wanted: false,
            last_exit: None,
            restarts: 0,
            failures: 0,
            again: false,
            ended_at: Duration::ZERO,
            recent: Vec::new(),
        }
    }
}

impl Machine {
    /// Goes on where an earlier rc was, which died at any point: what it
    /// remembers is brought together with what there is.
    pub fn resume(&mut self, policy: &Policy, left: Left, now: Duration) -> Vec<Effect> {
        match (self.phase, left) {
            // An earlier life may have lost its memory: what runs is wanted.
            (Phase::Down(_), Left::Running) => {
                self.phase = Phase::Up(now);
                self.wanted = true;
                Vec::new()
            }
            (Phase::Up(_), Left::Running) => Vec::new(),
            (Phase::Starting | Phase::Waiting(_), Left::Running) => {
                self.phase = Phase::Starting;
                self.launched(policy, now)
            }
            (Phase::Stopping(_) | Phase::Cleaning, Left::Running) => self.end(policy, now),
            (Phase::Up(_) | Phase::Stopping(_), Left::Ended(exit)) => self.exited(policy, exit, now),
            (Phase::Cleaning, Left::Ended(_)) => vec![Effect::Clean],
            (Phase::Waiting(until), Left::Ended(_)) => vec![Effect::WakeAt(until)],
            (Phase::Starting, Left::Ended(_)) if self.wanted => self.launch(),
            (Phase::Starting, Left::Ended(_)) => {
                self.phase = Phase::Down(Why::Asked);
                Vec::new()
            }
            (Phase::Down(_), Left::Ended(_)) => Vec::new(),
        }
    }

    /// Takes one event.
    pub fn step(&mut self, policy: &Policy, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Start => self.start(),
            Event::Stop => self.stop(policy, now),
            Event::Restart => self.restart(policy, now),
            Event::Launched => self.launched(policy, now),
            Event::LaunchFailed => self.launch_failed(policy, now),
            Event::Exited(exit) => self.exited(policy, exit, now),
            Event::Cleaned => self.cleaned(policy, now),
            Event::Timer => self.timer(now),
        }
    }

    fn start(&mut self) -> Vec<Effect> {
        self.wanted = true;
        match self.phase {
            Phase::Down(_) | Phase::Waiting(_) => {
                // A person's word clears the record.
                self.failures = 0;
                self.recent.clear();
                self.launch()
            }
            // It comes up, is up, or starts again once it is down.
            Phase::Starting | Phase::Up(_) => Vec::new(),
            Phase::Stopping(_) | Phase::Cleaning => {
                self.again = true;
                Vec::new()
            }
        }
    }

    fn stop(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        self.wanted = false;
        self.again = false;
        match self.phase {
            Phase::Down(_) | Phase::Waiting(_) => {
                self.phase = Phase::Down(Why::Asked);
                Vec::new()
            }
            Phase::Up(_) => self.end(policy, now),
            // `Launched` or `Cleaned` will find that nobody wants it.
            Phase::Starting | Phase::Stopping(_) | Phase::Cleaning => Vec::new(),
        }
    }

    fn restart(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::Up(_) => {
                self.wanted = true;
                self.again = true;
                self.end(policy, now)
            }
            _ => self.start(),
        }
    }

    fn launched(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if self.phase != Phase::Starting {
            return Vec::new();
        }
        self.phase = Phase::Up(now);
        if self.wanted { Vec::new() } else { self.end(policy, now) }
    }

    fn launch_failed(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if self.phase != Phase::Starting {
            return Vec::new();
        }
        self.failures = self.failures.saturating_add(1);
        self.ended_at = now;
        self.decide(policy, policy.restart != Restart::No, now)
    }

    fn exited(&mut self, policy: &Policy, exit: Exit, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::Up(since) => {
                if now.saturating_sub(since) >= policy.stable {
                    self.failures = 0;
                }
                self.failures = self.failures.saturating_add(1);
            }
            Phase::Stopping(_) => {}
            // Nothing of ours runs in any other phase.
            Phase::Down(_) | Phase::Waiting(_) | Phase::Starting | Phase::Cleaning => return Vec::new(),
        }
        self.last_exit = Some(exit);
        self.ended_at = now;
        self.phase = Phase::Cleaning;
        vec![Effect::Clean]
    }

    fn cleaned(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if self.phase != Phase::Cleaning {
            return Vec::new();
        }
        let failed = !self.last_exit.is_some_and(Exit::success);
        let again = match policy.restart {
            Restart::No => false,
            Restart::OnFailure => failed,
            Restart::Always => true,
        };
        self.decide(policy, again, now)
    }

    fn timer(&mut self, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::Waiting(until) if now >= until => self.launch(),
            Phase::Stopping(Some(at)) if now >= at => {
                self.phase = Phase::Stopping(None);
                vec![Effect::Kill]
            }
            _ => Vec::new(),
        }
    }

    /// What follows when nothing is left of the last run.
    fn decide(&mut self, policy: &Policy, again: bool, now: Duration) -> Vec<Effect> {
        if !self.wanted {
            self.phase = Phase::Down(Why::Asked);
            return Vec::new();
        }
        if std::mem::take(&mut self.again) {
            self.failures = 0;
            return self.launch();
        }
        if !again {
            self.phase = Phase::Down(Why::Ended);
            return Vec::new();
        }
        if let Some((most, window)) = policy.restart_max {
            self.recent.retain(|at| now.saturating_sub(*at) < window);
            if self.recent.len() >= most {
                self.phase = Phase::Down(Why::GaveUp);
                return Vec::new();
            }
            self.recent.push(now);
        }
        self.restarts = self.restarts.saturating_add(1);
        // The delay counts from the end of the last run, not of its removal.
        let until = self.ended_at.saturating_add(policy.delay(self.failures));
        if until <= now {
            return self.launch();
        }
        self.phase = Phase::Waiting(until);
        vec![Effect::WakeAt(until)]
    }

    fn launch(&mut self) -> Vec<Effect> {
        self.phase = Phase::Starting;
        vec![Effect::Launch]
    }

    fn end(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        let kill_at = now.saturating_add(policy.stop_timeout);
        self.phase = Phase::Stopping(Some(kill_at));
        vec![Effect::AskToEnd, Effect::WakeAt(kill_at)]
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
