// SPDX-License-Identifier: Apache-2.0
//! Whatever happens in whatever order: a world that does what the machine asks
//! for, late, badly or not at all, and looks at it after every step.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Ready,
    Health,
}

/// What is under way because the machine has asked for it.
#[derive(Debug, Default)]
struct World {
    machine: Machine,
    now: Duration,
    launching: bool,
    alive: bool,
    cleaning: bool,
    asked_to_end: bool,
    killed: bool,
    asking: Option<Asking>,
    turn: bool,
    timers: Vec<Duration>,
    launches: u64,
    taken_down: bool,
    /// The longest pause of this row of failures.
    pause: Duration,
}

impl World {
    /// Whether the driver could send this event now.
    fn is_real(&self, event: Event) -> bool {
        match event {
            Event::Start | Event::Stop | Event::Retire | Event::Restart | Event::Timer => true,
            // Sent by `rc_dies` alone.
            Event::Found(_) => true,
            Event::Released => self.turn,
            Event::Launched | Event::LaunchFailed => self.launching,
            Event::Ready => self.asking == Some(Asking::Ready),
            Event::Sound | Event::Unsound => self.asking == Some(Asking::Health),
            Event::Exited(_) => self.alive,
            Event::Cleaned => self.cleaning,
        }
    }

    fn step(&mut self, policy: &Policy, event: Event) -> Result<(), TestCaseError> {
        let before = self.machine.clone();
        let effects = self.machine.step(policy, event, self.now);
        if !self.is_real(event) {
            prop_assert!(effects.is_empty(), "{event:?} in {:?}: {effects:?}", before.phase);
            prop_assert_eq!(&self.machine, &before, "{:?} must change nothing", event);
            return Ok(());
        }
        match event {
            Event::Released => self.turn = false,
            Event::Launched => (self.launching, self.alive) = (false, true),
            Event::LaunchFailed => self.launching = false,
            Event::Exited(_) => self.alive = false,
            Event::Cleaned => self.cleaning = false,
            _ => {}
        }
        for effect in &effects {
            self.carry_out(*effect)?;
        }
        self.commands_are_obeyed(&before, event, &effects)?;
        self.pauses_do_not_shrink(policy, &before, event)?;
        self.something_is_under_way(policy)
    }

    /// rc is killed, and the next one takes over: of all that was under way
    /// only the process goes on. A start may have come to its end or not.
    fn rc_dies(&mut self, policy: &Policy, started: bool) -> Result<(), TestCaseError> {
        self.alive |= self.launching && started;
        (self.launching, self.cleaning, self.asking, self.turn) = (false, false, None, false);
        // What it was to do last may not have been done.
        self.taken_down = false;
        self.timers.clear();
        let left = if self.alive { Left::Running } else { Left::Ended(Exit::LOST) };
        self.step(policy, Event::Found(left))
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), TestCaseError> {
        match effect {
            Effect::Launch => {
                let idle = !self.launching && !self.alive && !self.cleaning && self.asking.is_none();
                prop_assert!(idle, "launched in two places: {self:?}");
                prop_assert!(self.machine.wanted, "launched unwanted");
                (self.launching, self.asked_to_end, self.killed) = (true, false, false);
                self.launches += 1;
            }
            Effect::AwaitTurn => self.turn = true,
            Effect::AwaitReady | Effect::WatchHealth => {
                prop_assert!(self.alive && self.asking.is_none(), "asked twice: {self:?}");
                let ready = effect == Effect::AwaitReady;
                self.asking = Some(if ready { Asking::Ready } else { Asking::Health });
            }
            Effect::EndProbe => self.asking = None,
            Effect::AskToEnd => {
                prop_assert!(self.alive, "nobody to ask");
                self.asked_to_end = true;
            }
            Effect::Kill => {
                prop_assert!(self.alive && self.asked_to_end, "killed before it was asked: {self:?}");
                self.killed = true;
            }
            Effect::Clean => {
                prop_assert!(!self.alive && !self.cleaning);
                self.cleaning = true;
            }
            Effect::WakeAt(at) => self.timers.push(at),
            Effect::TakeDown(_) => self.taken_down = true,
        }
        Ok(())
    }

    fn commands_are_obeyed(
        &self,
        before: &Machine,
        event: Event,
        effects: &[Effect],
    ) -> Result<(), TestCaseError> {
        let asked_for = matches!(event, Event::Start | Event::Restart);
        prop_assert!(asked_for || before.wanted || !self.machine.wanted, "{event:?} made it wanted");
        // A service that is down stays down until somebody says otherwise.
        if matches!(before.phase, Phase::Down(_)) && !asked_for {
            // But an rc that takes over takes the machine down, if that is to be.
            let takes_down = |effect: &Effect| matches!(effect, Effect::TakeDown(_));
            let late = matches!(event, Event::Found(_)) && effects.iter().all(takes_down);
            prop_assert!(effects.is_empty() || late, "{event:?}: {effects:?}");
            prop_assert!(matches!(self.machine.phase, Phase::Down(_)));
        }
        Ok(())
    }

    fn pauses_do_not_shrink(
        &mut self,
        policy: &Policy,
        before: &Machine,
        event: Event,
    ) -> Result<(), TestCaseError> {
        let lasted = self.now.saturating_sub(before.started_at);
        let forgiven = matches!(event, Event::Start | Event::Restart)
            || matches!(event, Event::Exited(_) | Event::Found(Left::Ended(_))) && lasted >= policy.stable
            || before.again;
        if forgiven {
            self.pause = Duration::ZERO;
        }
        if self.machine.restarts > before.restarts {
            let begun = self.machine.phase;
            let pause = match begun {
                Phase::BackingOff(until) => until - self.machine.ended_at,
                _ => self.machine.pause,
            };
            prop_assert!(pause >= self.pause, "{pause:?} after {:?}", self.pause);
            prop_assert!(pause <= policy.delay_ceiling);
            let base = policy.delay(self.machine.failures, event == Event::Cleaned);
            prop_assert!(pause >= base, "{pause:?} is less than {base:?}");
            self.pause = pause;
        }
        Ok(())
    }

    /// In every phase that is not an end, something is under way whose end
    /// will be told; and nothing else is.
    fn something_is_under_way(&self, policy: &Policy) -> Result<(), TestCaseError> {
        let phase = self.machine.phase;
        let expected = match phase {
            Phase::Down(_) => (false, false, false, None),
            Phase::Held | Phase::BackingOff(_) => (false, false, false, None),
            Phase::Starting => (true, false, false, None),
            Phase::Readying(_) => (false, true, false, Some(Asking::Ready)),
            Phase::Up => (false, true, false, policy.health.as_ref().map(|_| Asking::Health)),
            Phase::Unhealthy(_) => (false, true, false, Some(Asking::Health)),
            Phase::Leaving | Phase::Stopping(..) => (false, true, false, None),
            Phase::Cleaning => (false, false, true, None),
        };
        prop_assert_eq!((self.launching, self.alive, self.cleaning, self.asking), expected, "{:?}", self);
        match phase {
            Phase::Held | Phase::Leaving => prop_assert!(self.turn, "nobody tells its turn"),
            Phase::BackingOff(at) | Phase::Readying(Some(at)) | Phase::Stopping(_, Some(at)) => {
                prop_assert!(self.timers.contains(&at), "nobody wakes it: {self:?}");
            }
            Phase::Stopping(_, None) => prop_assert!(self.killed, "nobody has killed it"),
            _ => {}
        }
        let critical = policy.critical.is_some();
        let lost = matches!(phase, Phase::Down(Why::Failed | Why::GaveUp));
        prop_assert!(!(critical && lost) || self.taken_down, "the machine goes on without it");
        Ok(())
    }

    /// The time goes on, and wakes whom it is to wake.
    fn pass(&mut self, policy: &Policy, time: Duration) -> Result<(), TestCaseError> {
        self.now += time;
        let now = self.now;
        let due = self.timers.extract_if(.., |at| *at <= now).count();
        for _ in 0..due {
            self.step(policy, Event::Timer)?;
        }
        Ok(())
    }

    /// The worst that can come of what is under way, and has to come.
    fn worst(&mut self, policy: &Policy) -> Result<(), TestCaseError> {
        match self.machine.phase {
            Phase::Held | Phase::Leaving => self.step(policy, Event::Released),
            Phase::Starting => self.step(policy, Event::Launched),
            Phase::Cleaning => self.step(policy, Event::Cleaned),
            Phase::Stopping(_, None) => self.step(policy, FAILURE),
            Phase::Readying(Some(at)) | Phase::BackingOff(at) | Phase::Stopping(_, Some(at)) => {
                self.pass(policy, at - self.now.min(at))
            }
            Phase::Up | Phase::Unhealthy(_) if self.asking.is_some() => self.step(policy, Event::Unsound),
            Phase::Down(_) | Phase::Up | Phase::Unhealthy(_) | Phase::Readying(None) => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Event(Event),
    Time(Duration),
    /// rc dies; whether a start that is under way comes to its end.
    RcDies(bool),
}

impl World {
    fn happen(&mut self, policy: &Policy, happening: Happening) -> Result<(), TestCaseError> {
        match happening {
            Happening::Event(event) => self.step(policy, event),
            Happening::Time(time) => self.pass(policy, time),
            Happening::RcDies(started) => self.rc_dies(policy, started),
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let events = prop::sample::select(vec![
        Event::Start,
        Event::Stop,
        Event::Retire,
        Event::Restart,
        Event::Released,
        Event::Launched,
        Event::LaunchFailed,
        Event::Ready,
        Event::Sound,
        Event::Unsound,
        FAILURE,
        SUCCESS,
        Event::Cleaned,
        Event::Timer,
    ]);
    let likely = prop::sample::select(vec![
        Event::Released,
        Event::Launched,
        FAILURE,
        FAILURE,
        Event::Cleaned,
        Event::Ready,
        Event::Unsound,
    ]);
    // Few enough commands that rows of failures come about.
    prop_oneof![
        2 => events.prop_map(Happening::Event),
        5 => likely.prop_map(Happening::Event),
        1 => any::<bool>().prop_map(Happening::RcDies),
        3 => (0u64..40_000).prop_map(|ms| Happening::Time(Duration::from_millis(ms))),
    ]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let restart = prop::sample::select(vec![Restart::No, Restart::OnFailure, Restart::Always]);
    let delay = prop::option::of((0u64..2000).prop_map(Duration::from_millis));
    let most = prop::option::of((0usize..4, 1u32..100).prop_map(|(n, s)| (n, s * SECOND)));
    let health = prop::option::of(1u32..4);
    (restart, delay, most, health, any::<[bool; 4]>()).prop_map(|(restart, delay, most, health, flags)| {
        let [after, ready, limit, critical] = flags;
        Policy {
            restart,
            delay,
            restart_max: most,
            after: if after { vec!["other".to_owned()] } else { Vec::new() },
            ready: if ready { probe() } else { Probe::Started },
            ready_timeout: limit.then_some(20 * SECOND),
            health: health.map(|retries| Health { probe: probe(), interval: SECOND, retries }),
            critical: critical.then_some(TakeDown::PowerOff),
            ..Policy::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One launch at a time and none that nobody wants, pauses that do not
    /// shrink, always something under way: see [`World`].
    #[test]
    fn whatever_happens(
        policy in any_policy(),
        seed in any::<u32>(),
        happenings in prop::collection::vec(happening(), 0..300),
    ) {
        let mut world = World { machine: Machine::new(seed), ..World::default() };
        for happening in happenings {
            world.happen(&policy, happening)?;
        }
    }

    /// A service that was stopped is down soon, and never starts by itself.
    #[test]
    fn stopped_is_stopped(
        policy in any_policy(),
        in_turn in any::<bool>(),
        before in prop::collection::vec(happening(), 0..100),
        after in prop::collection::vec(happening(), 0..100),
    ) {
        let mut world = World::default();
        for happening in before.into_iter().chain([Happening::Time(SECOND)]) {
            world.happen(&policy, happening)?;
        }
        world.step(&policy, if in_turn { Event::Retire } else { Event::Stop })?;
        let launches = world.launches;
        for happening in after {
            if !matches!(happening, Happening::Event(Event::Start | Event::Restart)) {
                world.happen(&policy, happening)?;
            }
        }
        for _ in 0..10 {
            world.worst(&policy)?;
        }
        prop_assert!(matches!(world.machine.phase, Phase::Down(_)), "{:?}", world.machine.phase);
        prop_assert_eq!(world.launches, launches);
    }

    /// Every start has an end: ready, or down, or a pause before the next one,
    /// though the process never gets ready, does not end when it is asked to,
    /// and no check of it goes well.
    #[test]
    fn every_start_has_an_end(policy in any_policy(), before in prop::collection::vec(happening(), 0..100)) {
        let policy = Policy { ready_timeout: Some(20 * SECOND), ..policy };
        let mut world = World::default();
        for happening in before {
            world.happen(&policy, happening)?;
        }
        let (mut launches, mut steps) = (world.launches, 0);
        for _ in 0..300 {
            world.worst(&policy)?;
            let settled = match world.machine.phase {
                Phase::Down(_) | Phase::BackingOff(_) | Phase::Up | Phase::Unhealthy(_) => true,
                _ => world.launches > launches,
            };
            steps = if settled { 0 } else { steps + 1 };
            launches = world.launches;
            prop_assert!(steps < 8, "a start without an end: {:?}", world.machine.phase);
        }
    }
}
