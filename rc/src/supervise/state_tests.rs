// SPDX-License-Identifier: Apache-2.0
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
