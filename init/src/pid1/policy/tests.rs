// SPDX-License-Identifier: Apache-2.0
//! PID 1's decisions, without a PID 1.

use super::super::watchdog::{Feeding, Meal};
use super::*;

const RC: i32 = 100;
const SCRIPT: i32 = 200;
const FINAL: i32 = 300;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A machine whose rc.init is up since 0.
fn running() -> Policy {
    let mut policy = Policy::new();
    assert_eq!(policy.step(Event::Time, at(0)).effect, Some(Effect::StartRc));
    assert_eq!(policy.step(Event::Started(Program::Rc, RC), at(0)), Decision::default());
    policy
}

/// A machine whose rc.shutdown has been started for `signal`.
fn leaving(signal: i32) -> Policy {
    let mut policy = running();
    let effect = policy.step(Event::Signal(signal), at(0)).effect;
    assert_eq!(effect, request(signal).map(Effect::StartShutdown));
    policy.step(Event::Started(Program::Shutdown, SCRIPT), at(0));
    policy
}

#[test]
fn the_signals_of_sinit_and_busybox() {
    use PowerAction::{Poweroff, Reboot};
    let table = [
        (libc::SIGUSR1, Poweroff),
        (libc::SIGUSR2, Poweroff),
        (libc::SIGPWR, Poweroff),
        (libc::SIGINT, Reboot),
        (libc::SIGTERM, Reboot),
    ];
    for (signal, action) in table {
        assert_eq!(running().step(Event::Signal(signal), at(1)).effect, Some(Effect::StartShutdown(action)));
    }
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| table.iter().all(|(known, _)| known != signal)) {
        assert_eq!(running().step(Event::Signal(signal), at(1)), Decision::default(), "{signal}");
    }
}

#[test]
fn rc_comes_back_ever_later_and_soon_again_once_it_has_settled() {
    let mut policy = running();
    let mut now = at(0);
    for delay in [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000] {
        policy.step(Event::Ended(RC, 0x100), now);
        assert_eq!(policy.deadline(), Some(now + at(delay)));
        assert_eq!(policy.step(Event::Time, now + at(delay - 1)), Decision::default());
        now += at(delay);
        assert_eq!(policy.step(Event::Time, now).effect, Some(Effect::StartRc));
        assert_eq!(policy.deadline(), None);
        policy.step(Event::Started(Program::Rc, RC), now);
    }
    now += SETTLED;
    policy.step(Event::Ended(RC, 9), now);
    assert_eq!(policy.deadline(), Some(now + FIRST_DELAY));
}

#[test]
fn an_rc_that_cannot_be_started_is_tried_again() {
    let mut policy = Policy::new();
    policy.step(Event::Time, at(0));
    let decision = policy.step(Event::NotStarted(Program::Rc, libc::ENOMEM), at(0));
    assert_eq!(decision.note, Some(Note::NotStarted(Program::Rc, libc::ENOMEM)));
    assert_eq!(policy.deadline(), Some(FIRST_DELAY));
}

#[test]
fn rc_stays_down_once_rc_shutdown_says_so() {
    let mut policy = running();
    policy.step(Event::Ended(RC, 0), at(5));
    assert_eq!(policy.step(Event::Time, at(105)).effect, Some(Effect::StartRc));
    assert_eq!(policy.step(Event::NotWanted, at(105)).note, Some(Note::NotWanted));
    assert_eq!(policy.deadline(), None);
    assert_eq!(policy.step(Event::Time, at(99_999)), Decision::default());
    // And the machine can still be taken down by a signal.
    let effect = policy.step(Event::Signal(libc::SIGUSR1), at(100_000)).effect;
    assert_eq!(effect, Some(Effect::StartShutdown(PowerAction::Poweroff)));
}

#[test]
fn an_rc_that_ends_again_and_again_is_hopeless_and_one_that_settles_is_not() {
    let mut policy = running();
    let mut now = at(0);
    for failures in 0..HOPELESS {
        assert_eq!(policy.hopeless(now), None, "after {failures}");
        policy.step(Event::Ended(RC, 9), now);
        now = policy.deadline().unwrap();
        policy.step(Event::Time, now);
        policy.step(Event::Started(Program::Rc, RC), now);
    }
    assert_eq!(policy.hopeless(now), Some(Hopeless::Rc));
    assert!(now < at(13_000) + FIRST_DELAY * 256, "{now:?}");
    // A watchdog that comes later does not judge what is long past.
    assert_eq!(policy.hopeless(now + SETTLED), None);

    let mut policy = running();
    let mut now = at(0);
    for _ in 0..3 * HOPELESS {
        now += SETTLED;
        policy.step(Event::Ended(RC, 9), now);
        assert_eq!(policy.hopeless(now), None);
        now = policy.deadline().unwrap();
        policy.step(Event::Time, now);
        policy.step(Event::Started(Program::Rc, RC), now);
    }
    // One that cannot even be started counts, too.
    let mut policy = Policy::new();
    for _ in 0..HOPELESS {
        let now = policy.deadline().unwrap();
        policy.step(Event::Time, now);
        policy.step(Event::NotStarted(Program::Rc, libc::ENOMEM), now);
    }
    assert_eq!(policy.hopeless(at(0)), Some(Hopeless::Rc));
}

#[test]
fn a_way_down_that_does_not_end_is_hopeless() {
    let mut policy = leaving(libc::SIGUSR1);
    assert_eq!(policy.hopeless(DOWN_PATIENCE - at(1)), None);
    assert_eq!(policy.hopeless(DOWN_PATIENCE), Some(Hopeless::Shutdown));
    // A further request does not put it off.
    policy.step(Event::Signal(libc::SIGTERM), DOWN_PATIENCE - at(1));
    assert_eq!(policy.hopeless(DOWN_PATIENCE), Some(Hopeless::Shutdown));
    // Nor does an rc.shutdown that was called by hand have longer.
    let mut policy = running();
    policy.step(Event::Ended(RC, 0), at(0));
    policy.step(Event::Time, at(100));
    policy.step(Event::NotWanted, at(100));
    assert_eq!(policy.hopeless(DOWN_PATIENCE), None);
    assert_eq!(policy.hopeless(DOWN_PATIENCE + at(100)), Some(Hopeless::Shutdown));
}

#[test]
fn a_way_down_that_goes_on_is_not_hopeless() {
    let mut policy = leaving(libc::SIGUSR1);
    let mut now = at(0);
    for _ in 0..10 {
        now += DOWN_PATIENCE - at(1);
        assert_eq!(policy.hopeless(now), None, "{now:?}");
        policy.sign_of_life(now);
    }
    assert_eq!(policy.hopeless(now + DOWN_PATIENCE), Some(Hopeless::Shutdown));
    // A file that is touched while nobody has asked for anything means nothing.
    let mut policy = running();
    policy.sign_of_life(at(7));
    assert!(!policy.is_leaving());
}

/// Hours of a way down that goes on, fed by whatever watchdog there is; then
/// it hangs. PID 1 looks at rc.shutdown's file when it feeds and not in between.
#[test]
fn no_watchdog_ends_a_way_down_that_takes_hours_and_each_ends_one_that_hangs() {
    const HOURS: Duration = Duration::from_secs(20 * 3600);
    for seconds in [1, 3, 30, 60, 899, 901, 3600, 65535] {
        let timeout = Duration::from_secs(seconds);
        let mut policy = leaving(libc::SIGUSR1);
        let mut feeding = Feeding::started(timeout, at(0));
        let (mut seen, mut fed) = (None, at(0));
        let starved = loop {
            let now = feeding.deadline().unwrap();
            // A sign every ten seconds, as rc.shutdown gives them.
            let sign = Some(now.min(HOURS).as_secs() / 10);
            if sign != seen {
                seen = sign;
                policy.sign_of_life(now);
            }
            match feeding.step(policy.hopeless(now), now) {
                Some(Meal::Feed) => {
                    assert!(now - fed <= timeout, "{seconds}: not fed from {fed:?} to {now:?}");
                    fed = now;
                }
                Some(Meal::Starve(Hopeless::Shutdown, _)) => break now,
                other => panic!("{seconds}: {other:?} at {now:?}"),
            }
        };
        assert!(starved > HOURS, "{seconds}: not fed at {starved:?} though the way down went on");
        let late = DOWN_PATIENCE + timeout;
        assert!(starved <= HOURS + late, "{seconds}: still fed at {starved:?}");
    }
}

#[test]
fn somebody_elses_child_changes_nothing() {
    let mut policy = running();
    assert_eq!(policy.step(Event::Ended(4711, 9), at(1)), Decision::default());
    assert_eq!(policy.step(Event::Childless, at(1)), Decision::default());
    assert_eq!(policy.deadline(), None);
}

#[test]
fn a_second_request_is_ignored_and_said_so() {
    let mut policy = leaving(libc::SIGTERM);
    let decision = policy.step(Event::Signal(libc::SIGUSR1), at(1));
    assert_eq!(decision, Decision { note: Some(Note::Ignored(libc::SIGUSR1)), effect: None });
}

#[test]
fn rc_may_end_while_the_machine_goes_down() {
    assert_eq!(leaving(libc::SIGUSR1).step(Event::NotWanted, at(5)), Decision::default());
    let mut policy = leaving(libc::SIGUSR1);
    assert!(policy.is_rc(RC) && !policy.is_rc(SCRIPT));
    assert_eq!(policy.step(Event::Ended(RC, 0), at(5)), Decision::default());
    assert_eq!(policy.step(Event::Time, at(60_000)), Decision::default());
    assert_eq!(policy.deadline(), None);
}

#[test]
fn without_rc_shutdown_the_ladder_is_term_kill_last_step_reboot() {
    for first in [Event::Ended(SCRIPT, 0x100), Event::Ended(SCRIPT, 9), Event::Ended(SCRIPT, 0)] {
        let mut policy = leaving(libc::SIGINT);
        let mut now = at(10);
        assert_eq!(policy.step(first, now).effect, Some(Effect::SignalAll(Signal::SIGTERM)));
        now += TERM_PATIENCE;
        assert_eq!(policy.step(Event::Time, now).effect, Some(Effect::SignalAll(Signal::SIGKILL)));
        now += KILL_PATIENCE;
        assert_eq!(policy.step(Event::Time, now).effect, Some(Effect::StartFinal(PowerAction::Reboot)));
        policy.step(Event::Started(Program::Final, FINAL), now);
        now += FINAL_PATIENCE;
        assert_eq!(policy.step(Event::Time, now).effect, Some(Effect::Reboot(PowerAction::Reboot)));
        assert_eq!(policy.deadline(), None);
    }
}

#[test]
fn the_ladder_waits_for_nobody_who_is_gone() {
    let mut policy = running();
    policy.step(Event::Signal(libc::SIGUSR2), at(0));
    let effect = policy.step(Event::NotStarted(Program::Shutdown, libc::EAGAIN), at(0)).effect;
    assert_eq!(effect, Some(Effect::SignalAll(Signal::SIGTERM)));
    let effect = policy.step(Event::Childless, at(1)).effect;
    assert_eq!(effect, Some(Effect::StartFinal(PowerAction::Poweroff)));
    policy.step(Event::Started(Program::Final, FINAL), at(1));
    let decision = policy.step(Event::Ended(FINAL, 0x100), at(2));
    assert_eq!(decision.note, Some(Note::Ended(Program::Final, 0x100, None)));
    assert_eq!(decision.effect, Some(Effect::Reboot(PowerAction::Poweroff)));
    // The kernel would not: the next request tries once more.
    let effect = policy.step(Event::Signal(libc::SIGINT), at(3)).effect;
    assert_eq!(effect, Some(Effect::Reboot(PowerAction::Reboot)));
}

/// Every sequence of seven events, whatever their order, keeps the promises.
#[test]
fn no_order_of_events_breaks_a_promise() {
    const EVENTS: [Event; 7] = [
        Event::Time,
        Event::Signal(libc::SIGUSR1),
        Event::Signal(libc::SIGTERM),
        Event::Ended(RC, 9),
        Event::Ended(SCRIPT, 0x100),
        Event::Ended(FINAL, 0x100),
        Event::Childless,
    ];
    for number in 0..7_usize.pow(7) {
        let mut policy = Policy::new();
        let (mut rc_up, mut scripts, mut asked) = (false, 0, false);
        let mut now = at(0);
        let mut left = number;
        for _ in 0..7 {
            let event = EVENTS[left % 7];
            left /= 7;
            now += at(40_000);
            let decision = policy.step(event, now);
            rc_up &= event != Event::Ended(RC, 9);
            asked |= matches!(event, Event::Signal(_));
            let answer = match decision.effect {
                Some(Effect::StartRc) => {
                    assert!(!rc_up, "two of rc.init");
                    assert!(!asked, "rc.init started on the way down");
                    rc_up = true;
                    Some(Event::Started(Program::Rc, RC))
                }
                Some(Effect::StartShutdown(_)) => {
                    scripts += 1;
                    assert_eq!(scripts, 1, "rc.shutdown started twice");
                    Some(Event::Started(Program::Shutdown, SCRIPT))
                }
                Some(Effect::StartFinal(_)) => Some(Event::Started(Program::Final, FINAL)),
                Some(Effect::SignalAll(_) | Effect::Reboot(_)) => {
                    assert!(asked, "nobody asked for that");
                    None
                }
                None => None,
            };
            if let Some(answer) = answer {
                assert_eq!(policy.step(answer, now), Decision::default());
            }
        }
        // Whatever happened, something is up, due or on its way down.
        assert!(rc_up || asked || policy.deadline().is_some(), "{number}: nothing will ever happen");
    }
}
