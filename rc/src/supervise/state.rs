// SPDX-License-Identifier: Apache-2.0
//! The life of a service as a pure state machine.
//!
//! [`Machine::step`] takes an event and the time and returns what is to be
//! done. It has no clock, no chance and does no I/O, so every path can be
//! tested in no time. Times are durations since boot. What happens for every
//! event in every phase is in docs/supervision.md, made from this code.

mod next;
mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{Policy, Restart};
use crate::engine::Exit;
pub use words::{Cause, Effect, Event, Left, Phase, Why};

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
    /// When its process was started the last time.
    pub started_at: Duration,
    /// Failures in a row, each before it had been up for long.
    failures: u32,
    /// Whether the last run was a failure.
    failed: bool,
    /// A restart was asked for: start again whatever the policy says.
    again: bool,
    /// When it ended the last time, or failed to start.
    ended_at: Duration,
    /// The last pause of a row of failures: the next one is not shorter.
    pause: Duration,
    /// When it was started again by itself, within the window of the policy.
    recent: Vec<Duration>,
    /// Where the jitter comes from.
    seed: u32,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Machine {
    /// A service that was never started. Services with different seeds that
    /// fail together do not start together again.
    pub fn new(seed: u32) -> Self {
        Self {
            phase: Phase::Down(Why::New),
            wanted: false,
            last_exit: None,
            restarts: 0,
            started_at: Duration::ZERO,
            failures: 0,
            failed: false,
            again: false,
            ended_at: Duration::ZERO,
            pause: Duration::ZERO,
            recent: Vec::new(),
            // Zero is the one number that never changes.
            seed: seed.max(1),
        }
    }

    /// Whether its process runs, as far as is known.
    pub fn runs(&self) -> bool {
        match self.phase {
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) | Phase::Leaving | Phase::Stopping(..) => {
                true
            }
            Phase::Down(_) | Phase::Held | Phase::BackingOff(_) | Phase::Starting | Phase::Cleaning => false,
        }
    }

    /// Whether it is wanted up and its last run was a failure.
    pub fn has_failed(&self) -> bool {
        self.wanted && self.failed
    }

    /// Takes one event.
    pub fn step(&mut self, policy: &Policy, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Start => self.start(policy),
            Event::Stop => self.stop(policy, now),
            Event::Retire => self.retire(),
            Event::Restart => self.restart(policy, now),
            Event::Found(Left::Running) => self.found_running(policy, now),
            Event::Found(Left::Ended(exit)) => self.found_ended(policy, exit, now),
            Event::Released => self.released(policy, now),
            Event::Launched => self.launched(policy, now),
            Event::LaunchFailed => self.launch_failed(policy, now),
            Event::Ready => self.ready(policy),
            Event::Sound => self.sound(),
            Event::Unsound => self.unsound(policy, now),
            Event::Exited(exit) => self.exited(policy, exit, now),
            Event::Cleaned => self.cleaned(policy, now),
            Event::Timer => self.timer(policy, now),
        }
    }

    fn start(&mut self, policy: &Policy) -> Vec<Effect> {
        self.wanted = true;
        match self.phase {
            Phase::Down(_) | Phase::BackingOff(_) => {
                // A person's word clears the record.
                self.forgive();
                self.recent.clear();
                self.begin(policy)
            }
            // It comes up, or is up.
            Phase::Held | Phase::Starting | Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) => {
                Vec::new()
            }
            // It starts again once it is down.
            Phase::Leaving | Phase::Stopping(..) | Phase::Cleaning => {
                self.again = true;
                Vec::new()
            }
        }
    }

    fn stop(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        self.unwanted();
        match self.phase {
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) | Phase::Leaving => {
                self.end(policy, Cause::Asked, now)
            }
            Phase::Down(_)
            | Phase::Held
            | Phase::BackingOff(_)
            | Phase::Starting
            | Phase::Stopping(..)
            | Phase::Cleaning => Vec::new(),
        }
    }

    fn retire(&mut self) -> Vec<Effect> {
        self.unwanted();
        match self.phase {
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) => {
                self.phase = Phase::Leaving;
                vec![Effect::EndProbe, Effect::AwaitTurn]
            }
            Phase::Down(_)
            | Phase::Held
            | Phase::BackingOff(_)
            | Phase::Leaving
            | Phase::Starting
            | Phase::Stopping(..)
            | Phase::Cleaning => Vec::new(),
        }
    }

    /// Nobody wants it up any more. Where nothing is under way, it is down by
    /// that; else `Launched` or `Cleaned` will find it.
    fn unwanted(&mut self) {
        self.wanted = false;
        self.again = false;
        if matches!(self.phase, Phase::Down(_) | Phase::Held | Phase::BackingOff(_)) {
            self.phase = Phase::Down(Why::Asked);
        }
    }

    fn restart(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) | Phase::Leaving => {
                self.wanted = true;
                self.again = true;
                self.end(policy, Cause::Asked, now)
            }
            Phase::Down(_)
            | Phase::Held
            | Phase::BackingOff(_)
            | Phase::Starting
            | Phase::Stopping(..)
            | Phase::Cleaning => self.start(policy),
        }
    }

    fn found_running(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        match self.phase {
            // An earlier life may have lost its memory: what runs is wanted.
            Phase::Down(_) => {
                self.wanted = true;
                self.started_at = now;
                self.readying(policy, now)
            }
            // Its start was the last thing that the rc before this one did.
            Phase::Held | Phase::BackingOff(_) | Phase::Starting => {
                self.phase = Phase::Starting;
                self.launched(policy, now)
            }
            Phase::Readying(until) => {
                [Effect::AwaitReady].into_iter().chain(until.map(Effect::WakeAt)).collect()
            }
            Phase::Up | Phase::Unhealthy(_) => policy.health.iter().map(|_| Effect::WatchHealth).collect(),
            Phase::Leaving => vec![Effect::AwaitTurn],
            Phase::Stopping(cause, _) => self.end(policy, cause, now),
            // It had ended, by what was known; it was a failure or was not.
            Phase::Cleaning => {
                self.end(policy, if self.failed { Cause::NotReady } else { Cause::Asked }, now)
            }
        }
    }

    fn found_ended(&mut self, policy: &Policy, exit: Exit, now: Duration) -> Vec<Effect> {
        match self.phase {
            // The rc before this one may have died before it took the machine
            // down with it.
            Phase::Down(why) => self.rest(policy, why),
            Phase::Held => vec![Effect::AwaitTurn],
            Phase::BackingOff(until) => vec![Effect::WakeAt(until)],
            Phase::Starting if self.wanted => self.launch(),
            Phase::Starting => {
                self.phase = Phase::Down(Why::Asked);
                Vec::new()
            }
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) | Phase::Leaving | Phase::Stopping(..) => {
                self.exited(policy, exit, now)
            }
            Phase::Cleaning => vec![Effect::Clean],
        }
    }

    fn released(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::Held => self.launch(),
            Phase::Leaving => self.end(policy, Cause::Asked, now),
            // It waits no more: somebody has said something else.
            _ => Vec::new(),
        }
    }

    fn launched(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if self.phase != Phase::Starting {
            return Vec::new();
        }
        self.started_at = now;
        if self.wanted { self.readying(policy, now) } else { self.end(policy, Cause::Asked, now) }
    }

    fn launch_failed(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if self.phase != Phase::Starting {
            return Vec::new();
        }
        self.failures = self.failures.saturating_add(1);
        self.failed = true;
        self.ended_at = now;
        self.decide(policy, false, now)
    }

    fn ready(&mut self, policy: &Policy) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Readying(_)) {
            return Vec::new();
        }
        let mut effects = vec![Effect::EndProbe];
        effects.extend(self.up(policy));
        effects
    }

    fn sound(&mut self) -> Vec<Effect> {
        if matches!(self.phase, Phase::Unhealthy(_)) {
            self.phase = Phase::Up;
        }
        Vec::new()
    }

    fn unsound(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        let Some(health) = &policy.health else { return Vec::new() };
        let before = match self.phase {
            Phase::Up => 0,
            Phase::Unhealthy(before) => before,
            _ => return Vec::new(),
        };
        let failed = before.saturating_add(1);
        // Without a restart there would be less than an unhealthy service.
        if failed >= health.retries && policy.restart != Restart::No {
            return self.end(policy, Cause::Unhealthy, now);
        }
        self.phase = Phase::Unhealthy(failed);
        Vec::new()
    }

    fn exited(&mut self, policy: &Policy, exit: Exit, now: Duration) -> Vec<Effect> {
        self.failed = match self.phase {
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) | Phase::Leaving => !exit.success(),
            Phase::Stopping(Cause::NotReady | Cause::Unhealthy, _) => true,
            Phase::Stopping(Cause::Asked, _) => false,
            // Nothing of ours runs in any other phase.
            Phase::Down(_) | Phase::Held | Phase::BackingOff(_) | Phase::Starting | Phase::Cleaning => {
                return Vec::new();
            }
        };
        let probed = matches!(self.phase, Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_));
        if now.saturating_sub(self.started_at) >= policy.stable {
            self.forgive();
        }
        self.failures = self.failures.saturating_add(1);
        self.last_exit = Some(exit);
        self.ended_at = now;
        self.phase = Phase::Cleaning;
        if probed { vec![Effect::EndProbe, Effect::Clean] } else { vec![Effect::Clean] }
    }

    fn cleaned(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if self.phase == Phase::Cleaning { self.decide(policy, true, now) } else { Vec::new() }
    }

    fn timer(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::BackingOff(until) if now >= until => self.begin(policy),
            Phase::Readying(Some(until)) if now >= until => self.end(policy, Cause::NotReady, now),
            Phase::Stopping(cause, Some(at)) if now >= at => {
                self.phase = Phase::Stopping(cause, None);
                vec![Effect::Kill]
            }
            // Too early, or of a phase that is over.
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
