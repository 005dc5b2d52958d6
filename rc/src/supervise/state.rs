// SPDX-License-Identifier: Apache-2.0
//! The life of a service as a pure state machine.
//!
//! [`Machine::step`] takes an event and the time and returns what is to be
//! done. It has no clock, no chance and does no I/O, so every path can be
//! tested in no time. Times are durations since boot. What happens for every
//! event in every phase is in docs/supervision.md, made from this code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{Policy, Restart, TakeDown};
use crate::engine::Exit;

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
        self.wanted = false;
        self.again = false;
        match self.phase {
            Phase::Down(_) | Phase::Held | Phase::BackingOff(_) => {
                self.phase = Phase::Down(Why::Asked);
                Vec::new()
            }
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) | Phase::Leaving => {
                self.end(policy, Cause::Asked, now)
            }
            // `Launched` or `Cleaned` will find that nobody wants it.
            Phase::Starting | Phase::Stopping(..) | Phase::Cleaning => Vec::new(),
        }
    }

    fn retire(&mut self) -> Vec<Effect> {
        self.wanted = false;
        self.again = false;
        match self.phase {
            Phase::Down(_) | Phase::Held | Phase::BackingOff(_) => {
                self.phase = Phase::Down(Why::Asked);
                Vec::new()
            }
            Phase::Readying(_) | Phase::Up | Phase::Unhealthy(_) => {
                self.phase = Phase::Leaving;
                vec![Effect::EndProbe, Effect::AwaitTurn]
            }
            Phase::Leaving | Phase::Starting | Phase::Stopping(..) | Phase::Cleaning => Vec::new(),
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
            Phase::Down(_) => Vec::new(),
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
            Phase::Down(_)
            | Phase::BackingOff(_)
            | Phase::Starting
            | Phase::Readying(_)
            | Phase::Up
            | Phase::Unhealthy(_)
            | Phase::Stopping(..)
            | Phase::Cleaning => Vec::new(),
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
        let failed = match self.phase {
            Phase::Up => 1,
            Phase::Unhealthy(failed) => failed.saturating_add(1),
            Phase::Down(_)
            | Phase::Held
            | Phase::BackingOff(_)
            | Phase::Starting
            | Phase::Readying(_)
            | Phase::Leaving
            | Phase::Stopping(..)
            | Phase::Cleaning => return Vec::new(),
        };
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
            Phase::Down(_)
            | Phase::Held
            | Phase::BackingOff(_)
            | Phase::Starting
            | Phase::Readying(_)
            | Phase::Up
            | Phase::Unhealthy(_)
            | Phase::Leaving
            | Phase::Stopping(..)
            | Phase::Cleaning => Vec::new(),
        }
    }

    /// What follows when nothing is left of the last run, or of a start that
    /// failed: then it never `ran`.
    fn decide(&mut self, policy: &Policy, ran: bool, now: Duration) -> Vec<Effect> {
        if !self.wanted {
            self.phase = Phase::Down(Why::Asked);
            return Vec::new();
        }
        if std::mem::take(&mut self.again) {
            self.forgive();
            return self.begin(policy);
        }
        let again = match policy.restart {
            Restart::No => false,
            Restart::OnFailure => self.failed,
            Restart::Always => true,
        };
        if !again {
            return self.rest(policy, if self.failed { Why::Failed } else { Why::Ended });
        }
        if let Some((most, window)) = policy.most_restarts() {
            self.recent.retain(|at| now.saturating_sub(*at) < window);
            if self.recent.len() >= most {
                return self.rest(policy, Why::GaveUp);
            }
            self.recent.push(now);
        }
        self.restarts = self.restarts.saturating_add(1);
        // The pause counts from the end of the last run, not of its removal.
        self.pause = self.pause.max(self.next_pause(policy, ran));
        let until = self.ended_at.saturating_add(self.pause);
        if until <= now {
            return self.begin(policy);
        }
        self.phase = Phase::BackingOff(until);
        vec![Effect::WakeAt(until)]
    }

    /// The pause by the count of failures, and up to a quarter more of it.
    fn next_pause(&mut self, policy: &Policy, ran: bool) -> Duration {
        let base = policy.delay(self.failures, ran);
        // Marsaglia's xorshift with 32 bits (Journal of Statistical Software 8/14).
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let jitter = base.mul_f64(f64::from(self.seed) / f64::from(u32::MAX) / 4.0);
        base.saturating_add(jitter).min(policy.delay_ceiling)
    }

    /// It is down for good, and perhaps the machine with it.
    fn rest(&mut self, policy: &Policy, why: Why) -> Vec<Effect> {
        self.phase = Phase::Down(why);
        match (why, policy.critical) {
            (Why::Failed | Why::GaveUp, Some(how)) => vec![Effect::TakeDown(how)],
            (Why::New | Why::Asked | Why::Ended | Why::Failed | Why::GaveUp, _) => Vec::new(),
        }
    }

    fn forgive(&mut self) {
        self.failures = 0;
        self.pause = Duration::ZERO;
    }

    /// The next start, in its turn.
    fn begin(&mut self, policy: &Policy) -> Vec<Effect> {
        if policy.after.is_empty() {
            return self.launch();
        }
        self.phase = Phase::Held;
        vec![Effect::AwaitTurn]
    }

    fn launch(&mut self) -> Vec<Effect> {
        self.phase = Phase::Starting;
        vec![Effect::Launch]
    }

    fn readying(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if policy.ready.is_started() {
            return self.up(policy);
        }
        let until = policy.ready_timeout.map(|limit| now.saturating_add(limit));
        self.phase = Phase::Readying(until);
        [Effect::AwaitReady].into_iter().chain(until.map(Effect::WakeAt)).collect()
    }

    fn up(&mut self, policy: &Policy) -> Vec<Effect> {
        self.phase = Phase::Up;
        policy.health.iter().map(|_| Effect::WatchHealth).collect()
    }

    fn end(&mut self, policy: &Policy, cause: Cause, now: Duration) -> Vec<Effect> {
        let kill_at = now.saturating_add(policy.stop_timeout);
        self.phase = Phase::Stopping(cause, Some(kill_at));
        vec![Effect::EndProbe, Effect::AskToEnd, Effect::WakeAt(kill_at)]
    }
}

#[cfg(test)]
mod tests;
