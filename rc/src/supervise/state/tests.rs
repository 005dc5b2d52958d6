// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;

use super::*;
use crate::supervise::policy::{Health, TakeDown};
use crate::supervise::probe::Probe;

const SECOND: Duration = Duration::from_secs(1);
const FAILURE: Event = Event::Exited(Exit { status: Some(1) });
const SUCCESS: Event = Event::Exited(Exit { status: Some(0) });

mod diagram;
mod world;

fn up(policy: &Policy) -> Machine {
    let mut machine = Machine::default();
    assert_eq!(machine.step(policy, Event::Start, SECOND), [Effect::Launch]);
    assert_eq!(machine.step(policy, Event::Launched, SECOND), []);
    assert_eq!(machine.phase, Phase::Up);
    machine
}

fn probe() -> Probe {
    Probe::File(PathBuf::from("/x"))
}

#[test]
fn a_first_crash_comes_back_at_once_and_a_second_one_after_a_pause() {
    let policy = Policy::default();
    let mut machine = up(&policy);
    assert_eq!(machine.step(&policy, FAILURE, 2 * SECOND), [Effect::EndProbe, Effect::Clean]);
    assert_eq!(machine.step(&policy, Event::Cleaned, 2 * SECOND), [Effect::Launch]);
    machine.step(&policy, Event::Launched, 2 * SECOND);
    machine.step(&policy, FAILURE, 3 * SECOND);
    machine.step(&policy, Event::Cleaned, 3 * SECOND);
    let Phase::BackingOff(until) = machine.phase else { panic!("{:?}", machine.phase) };
    let pause = until - 3 * SECOND;
    assert!(pause >= SECOND / 10 && pause <= SECOND / 8, "{pause:?}");
    assert_eq!(machine.step(&policy, Event::Timer, until - SECOND / 100), []);
    assert_eq!(machine.step(&policy, Event::Timer, until), [Effect::Launch]);
    assert_eq!(machine.restarts, 2);
}

#[test]
fn a_minute_of_running_is_forgiveness() {
    let policy = Policy { delay: Some(SECOND), ..Policy::default() };
    let mut machine = up(&policy);
    let mut now = SECOND;
    let mut pause = |machine: &mut Machine, lasts: Duration| {
        now += lasts;
        machine.step(&policy, FAILURE, now);
        machine.step(&policy, Event::Cleaned, now);
        let Phase::BackingOff(until) = machine.phase else { panic!("{:?}", machine.phase) };
        let pause = until - now;
        now = until;
        machine.step(&policy, Event::Timer, now);
        machine.step(&policy, Event::Launched, now);
        pause.as_secs()
    };
    let pauses: Vec<_> = [1, 1, 1, 61, 1].map(|lasts| pause(&mut machine, lasts * SECOND)).into();
    assert_eq!(pauses, [1, 2, 4, 1, 2]);
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
    assert_eq!(machine.step(&policy, Event::Cleaned, 2 * SECOND), [Effect::Launch]);
}

#[test]
fn a_stop_is_polite_and_then_is_not() {
    let policy = Policy::default();
    let mut machine = up(&policy);
    let kill_at = 3 * SECOND + policy.stop_timeout;
    let effects = machine.step(&policy, Event::Stop, 3 * SECOND);
    assert_eq!(effects, [Effect::EndProbe, Effect::AskToEnd, Effect::WakeAt(kill_at)]);
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
    assert_eq!(machine.phase, Phase::Down(Why::Failed));
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
fn too_many_restarts_are_given_up_and_a_critical_service_takes_the_machine_with_it() {
    let policy =
        Policy { restart_max: Some((2, 60 * SECOND)), critical: Some(TakeDown::Reboot), ..Policy::default() };
    let mut machine = up(&policy);
    let mut now = 2 * SECOND;
    let mut last = Vec::new();
    while !matches!(machine.phase, Phase::Down(_)) {
        machine.step(&policy, FAILURE, now);
        last = machine.step(&policy, Event::Cleaned, now);
        if let Phase::BackingOff(until) = machine.phase {
            now = until;
            machine.step(&policy, Event::Timer, now);
        }
        machine.step(&policy, Event::Launched, now);
    }
    assert_eq!((machine.phase, machine.restarts), (Phase::Down(Why::GaveUp), 2));
    assert_eq!(last, [Effect::TakeDown(TakeDown::Reboot)]);
    // An rc that takes over does so, too: the one before it may have died first.
    let mut found = machine.clone();
    let ended = Event::Found(Left::Ended(Exit::LOST));
    assert_eq!(found.step(&policy, ended, now), [Effect::TakeDown(TakeDown::Reboot)]);
    found.step(&policy, Event::Stop, now);
    assert_eq!(found.step(&policy, ended, now), []);
    // A person can start it again.
    assert_eq!(machine.step(&policy, Event::Start, now), [Effect::Launch]);
}

#[test]
fn it_is_ready_when_its_probe_says_so_and_has_failed_when_that_takes_too_long() {
    let policy = Policy { ready: probe(), ready_timeout: Some(5 * SECOND), ..Policy::default() };
    let mut machine = Machine::default();
    machine.step(&policy, Event::Start, SECOND);
    let effects = machine.step(&policy, Event::Launched, SECOND);
    assert_eq!(effects, [Effect::AwaitReady, Effect::WakeAt(6 * SECOND)]);
    let mut late = machine.clone();
    assert_eq!(machine.step(&policy, Event::Ready, 2 * SECOND), [Effect::EndProbe]);
    assert_eq!(machine.phase, Phase::Up);
    assert_eq!(machine.step(&policy, Event::Timer, 6 * SECOND), []);

    late.step(&policy, Event::Timer, 6 * SECOND);
    assert!(matches!(late.phase, Phase::Stopping(Cause::NotReady, Some(_))));
    // However it ends then, it has failed.
    late.step(&policy, SUCCESS, 7 * SECOND);
    assert_eq!(late.step(&policy, Event::Cleaned, 7 * SECOND), [Effect::Launch]);
}

#[test]
fn failed_checks_in_a_row_start_it_again() {
    let health = Some(Health { probe: probe(), interval: SECOND, retries: 2 });
    let policy = Policy { health, ..Policy::default() };
    let mut machine = Machine::default();
    machine.step(&policy, Event::Start, SECOND);
    assert_eq!(machine.step(&policy, Event::Launched, SECOND), [Effect::WatchHealth]);
    let restart_no = Policy { restart: Restart::No, ..policy.clone() };
    machine.step(&policy, Event::Unsound, SECOND);
    assert_eq!(machine.phase, Phase::Unhealthy(1));
    machine.step(&policy, Event::Sound, SECOND);
    assert_eq!(machine.phase, Phase::Up);
    machine.step(&policy, Event::Unsound, SECOND);
    // With nothing to come after it, it is left alone.
    let mut kept = machine.clone();
    assert_eq!(kept.step(&restart_no, Event::Unsound, SECOND), []);
    assert_eq!(kept.phase, Phase::Unhealthy(2));
    assert!(machine.step(&policy, Event::Unsound, SECOND).contains(&Effect::AskToEnd));
    machine.step(&policy, SUCCESS, SECOND);
    assert_eq!(machine.step(&policy, Event::Cleaned, SECOND), [Effect::Launch]);
}

#[test]
fn its_turn_comes_at_the_start_and_at_the_end() {
    let policy = Policy { after: vec!["x".to_owned()], ..Policy::default() };
    let mut machine = Machine::default();
    assert_eq!(machine.step(&policy, Event::Start, SECOND), [Effect::AwaitTurn]);
    assert_eq!(machine.phase, Phase::Held);
    assert_eq!(machine.step(&policy, Event::Released, SECOND), [Effect::Launch]);
    machine.step(&policy, Event::Launched, SECOND);
    assert_eq!(machine.step(&policy, Event::Retire, SECOND), [Effect::EndProbe, Effect::AwaitTurn]);
    assert_eq!(machine.phase, Phase::Leaving);
    assert!(machine.step(&policy, Event::Released, SECOND).contains(&Effect::AskToEnd));
}
