// SPDX-License-Identifier: Apache-2.0
//! The life of a service as a pure state machine.
//!
//! [`Machine::step`] takes an event and the time and returns what is to be
//! done. It has no clock and does no I/O, so every path can be tested in no
//! time. Times are durations since boot.

use std::time::Duration;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Why a service is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A service's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A service that was found running, by an rc that takes over.
    pub fn adopted(now: Duration) -> Self {
        Self { phase: Phase::Up(now), wanted: true, ..Self::default() }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAILURE: Event = Event::Exited(Exit { status: Some(1) });
    const SUCCESS: Event = Event::Exited(Exit { status: Some(0) });

    fn up(policy: &Policy) -> Machine {
        let mut machine = Machine::default();
        assert_eq!(machine.step(policy, Event::Start, SECOND), [Effect::Launch]);
        assert_eq!(machine.step(policy, Event::Launched, SECOND), []);
        assert_eq!(machine.phase, Phase::Up(SECOND));
        machine
    }

    #[test]
    fn a_crash_comes_back_after_the_delay() {
        let policy = Policy::default();
        let mut machine = up(&policy);
        assert_eq!(machine.step(&policy, FAILURE, 2 * SECOND), [Effect::Clean]);
        let until = 2 * SECOND + policy.delay(1);
        assert_eq!(machine.step(&policy, Event::Cleaned, 2 * SECOND), [Effect::WakeAt(until)]);
        assert_eq!(machine.step(&policy, Event::Timer, until - SECOND / 100), []);
        assert_eq!(machine.step(&policy, Event::Timer, until), [Effect::Launch]);
        assert_eq!(machine.restarts, 1);
    }

    #[test]
    fn success_rests_unless_it_must_run_always() {
        let policy = Policy::default();
        let mut machine = up(&policy);
        machine.step(&policy, SUCCESS, 2 * SECOND);
        assert_eq!(machine.step(&policy, Event::Cleaned, 2 * SECOND), []);
        assert_eq!(machine.phase, Phase::Down(Why::Ended));

        let policy = Policy { restart: Restart::Always, ..policy };
        let mut machine = up(&policy);
        machine.step(&policy, SUCCESS, 2 * SECOND);
        machine.step(&policy, Event::Cleaned, 2 * SECOND);
        assert!(matches!(machine.phase, Phase::Waiting(_)));
    }

    #[test]
    fn a_stop_is_polite_and_then_is_not() {
        let policy = Policy::default();
        let mut machine = up(&policy);
        let kill_at = 3 * SECOND + policy.stop_timeout;
        let effects = machine.step(&policy, Event::Stop, 3 * SECOND);
        assert_eq!(effects, [Effect::AskToEnd, Effect::WakeAt(kill_at)]);
        assert_eq!(machine.step(&policy, Event::Timer, kill_at), [Effect::Kill]);
        assert_eq!(machine.step(&policy, Event::Timer, kill_at + SECOND), []);
        machine.step(&policy, Event::Exited(Exit::of_status(9)), kill_at + SECOND);
        machine.step(&policy, Event::Cleaned, kill_at + SECOND);
        assert_eq!(machine.phase, Phase::Down(Why::Asked));
    }

    #[test]
    fn a_restart_of_a_crashed_service_starts_it() {
        let policy = Policy { restart: Restart::No, ..Policy::default() };
        let mut machine = up(&policy);
        machine.step(&policy, FAILURE, 2 * SECOND);
        machine.step(&policy, Event::Cleaned, 2 * SECOND);
        assert_eq!(machine.phase, Phase::Down(Why::Ended));
        assert_eq!(machine.step(&policy, Event::Restart, 3 * SECOND), [Effect::Launch]);
    }

    #[test]
    fn a_stop_while_it_starts_takes_effect_when_it_is_up() {
        let policy = Policy::default();
        let mut machine = Machine::default();
        machine.step(&policy, Event::Start, SECOND);
        assert_eq!(machine.step(&policy, Event::Stop, SECOND), []);
        assert!(machine.step(&policy, Event::Launched, SECOND).contains(&Effect::AskToEnd));
    }

    #[test]
    fn too_many_restarts_are_given_up() {
        let policy = Policy { restart_max: Some((2, 60 * SECOND)), ..Policy::default() };
        let mut machine = up(&policy);
        let mut now = 2 * SECOND;
        while !matches!(machine.phase, Phase::Down(_)) {
            machine.step(&policy, FAILURE, now);
            machine.step(&policy, Event::Cleaned, now);
            if let Phase::Waiting(until) = machine.phase {
                now = until;
                machine.step(&policy, Event::Timer, now);
                machine.step(&policy, Event::Launched, now);
            }
        }
        assert_eq!((machine.phase, machine.restarts), (Phase::Down(Why::GaveUp), 2));
        // A person can start it again.
        assert_eq!(machine.step(&policy, Event::Start, now), [Effect::Launch]);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Start),
            Just(Event::Stop),
            Just(Event::Restart),
            Just(Event::Launched),
            Just(Event::LaunchFailed),
            Just(FAILURE),
            Just(SUCCESS),
            Just(Event::Cleaned),
            Just(Event::Timer),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: one launch at a time, each
        /// with an end, and none that nobody wants.
        #[test]
        fn never_in_two_places(events in prop::collection::vec((any_event(), 0u64..2000), 0..200)) {
            let policy = Policy::default();
            let mut machine = Machine::default();
            let mut now = Duration::ZERO;
            let mut busy = false;
            for (event, millis) in events {
                now += Duration::from_millis(millis);
                // The driver reports only what is under way.
                let real = match event {
                    Event::Launched | Event::LaunchFailed => machine.phase == Phase::Starting,
                    Event::Exited(_) => matches!(machine.phase, Phase::Up(_) | Phase::Stopping(_)),
                    Event::Cleaned => machine.phase == Phase::Cleaning,
                    _ => true,
                };
                let wanted = machine.wanted;
                let effects = machine.step(&policy, event, now);
                if !real {
                    prop_assert!(effects.is_empty(), "{event:?} in {:?}", machine.phase);
                    continue;
                }
                if matches!(event, Event::LaunchFailed | Event::Cleaned) {
                    busy = false;
                }
                for effect in effects {
                    if effect == Effect::Launch {
                        prop_assert!(!busy, "launched twice");
                        prop_assert!(machine.wanted, "launched unwanted");
                        busy = true;
                    }
                }
                if !wanted && !matches!(event, Event::Start | Event::Restart) {
                    prop_assert!(!machine.wanted, "{event:?} made it wanted");
                }
            }
        }

        /// Under repeated failure the pause never gets shorter.
        #[test]
        fn back_off_never_shrinks(count in 1u32..64) {
            let policy = Policy::default();
            prop_assert!(policy.delay(count) <= policy.delay(count + 1));
            prop_assert!(policy.delay(count) <= policy.delay_ceiling);
        }
    }
}
