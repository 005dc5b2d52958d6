// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;

use super::*;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (format!("lkinit.{key}"), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> (Policy, Vec<String>) {
    let (policy, warnings) = Policy::from_annotations(&annotations(pairs));
    (policy, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(read(&[]), (Policy::default(), Vec::new()));
    let foreign = BTreeMap::from([("org.example.x".to_owned(), "y".to_owned())]);
    assert_eq!(Policy::from_annotations(&foreign), (Policy::default(), Vec::new()));
}

#[test]
fn every_annotation_is_read() {
    let (policy, warnings) = read(&[
        ("restart", "always"),
        ("restart-delay", "1m"),
        ("restart-max", "5/60s"),
        ("after", "db, cache  000-net"),
        ("ready", "file:/run/ready"),
        ("ready-timeout", "0"),
        ("healthcheck", "tcp:127.0.0.1:80"),
        ("healthcheck-interval", "500ms"),
        ("healthcheck-retries", "2"),
        ("stop-signal", "int"),
        ("stop-timeout", "2s"),
        ("critical", "reboot"),
    ]);
    assert_eq!(warnings, [""; 0]);
    let second = Duration::from_secs(1);
    assert_eq!((policy.restart, policy.delay), (Restart::Always, Some(60 * second)));
    // A pause that was asked for is not cut short by the ceiling.
    assert_eq!(policy.delay_ceiling, 60 * second);
    assert_eq!(policy.restart_max, Some((5, 60 * second)));
    assert_eq!(policy.after, ["db", "cache", "000-net"]);
    assert_eq!(policy.ready, Probe::File(PathBuf::from("/run/ready")));
    assert_eq!(policy.ready_timeout, None);
    let health = policy.health.unwrap();
    assert_eq!((health.interval, health.retries), (second / 2, 2));
    assert_eq!((policy.stop_signal, policy.stop_timeout), (Signal::SIGINT, 2 * second));
    assert_eq!(policy.critical, Some(TakeDown::Reboot));
}

#[test]
fn what_cannot_be_read_is_named_with_what_is_used() {
    let (policy, warnings) = read(&[("restart", "sometimes"), ("stop-timeout", "2s")]);
    assert_eq!(policy.stop_timeout, Duration::from_secs(2));
    assert_eq!(
        warnings,
        [r#"annotation lkinit.restart: "sometimes" is not no, on-failure or always; using on-failure"#]
    );
    let bad = [
        ("restart-delay", "soon"),
        ("restart-max", "5"),
        ("ready", "ping:x"),
        ("ready-timeout", "1"),
        ("healthcheck", "started"),
        ("healthcheck-interval", "0"),
        ("healthcheck-retries", "0"),
        ("start-timeout", "never"),
        ("stop-signal", "SIGNOPE"),
        ("critical", "yes"),
        ("redy", "started"),
        ("timeout", "10s"),
    ];
    for pair in bad {
        let (policy, warnings) = read(&[pair]);
        assert_eq!(policy, Policy::default(), "{pair:?}");
        assert_eq!(warnings.len(), 1, "{pair:?}");
        assert!(warnings[0].starts_with(&format!("annotation lkinit.{}: {:?} ", pair.0, pair.1)));
        assert!(warnings[0].contains("using") || warnings[0].ends_with("not used"), "{warnings:?}");
    }
}

#[test]
fn a_first_crash_is_no_reason_to_wait() {
    let policy = Policy::default();
    let millis = |count, ran| policy.delay(count, ran).as_millis();
    assert_eq!([1, 2, 3, 4].map(|count| millis(count, true)), [0, 100, 200, 400]);
    assert_eq!([1, 2, 3].map(|count| millis(count, false)), [100, 100, 200]);
    assert_eq!(millis(u32::MAX, true), 30_000);
    let policy = Policy { delay: Some(Duration::from_secs(1)), ..policy };
    assert_eq!([1, 2, 3].map(|count| policy.delay(count, true).as_secs()), [1, 2, 4]);
    assert_eq!(policy.delay(40, true), policy.delay_ceiling);
}

#[test]
fn a_critical_service_is_given_up_some_time() {
    assert_eq!(Policy::default().most_restarts(), None);
    let (policy, _) = read(&[("critical", "true")]);
    assert_eq!(policy.most_restarts(), Some(CRITICAL_MAX));
    let (policy, _) = read(&[("critical", "true"), ("restart-max", "1/5s")]);
    assert_eq!(policy.most_restarts(), Some((1, Duration::from_secs(5))));
}

#[test]
fn containers_that_run_once() {
    let read = |pairs: &[(&str, &str)]| Once::of_stage(Stage::Onboot, &annotations(pairs));
    let (once, warnings) = read(&[("timeout", "5m"), ("on-failure", "reboot"), ("start-timeout", "0")]);
    assert_eq!((once.timeout, once.start_timeout), (Some(Duration::from_secs(300)), Duration::MAX));
    assert_eq!((once.on_failure, warnings.len()), (OnFailure::TakeDown(TakeDown::Reboot), 0));
    let (once, warnings) = read(&[("timeout", "long"), ("on-failure", "panic"), ("restart", "always")]);
    let usual = Once { timeout: None, start_timeout: START_TIMEOUT, on_failure: OnFailure::Continue };
    assert_eq!(once, usual);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[test]
fn what_follows_a_failure_on_the_way_down_cannot_be_chosen_and_that_is_said() {
    let read = |pairs: &[(&str, &str)]| Once::of_stage(Stage::Onshutdown, &annotations(pairs));
    let (once, warnings) = read(&[("timeout", "2s"), ("on-failure", "reboot")]);
    assert_eq!((once.timeout, once.on_failure), (Some(Duration::from_secs(2)), OnFailure::Continue));
    let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["annotation lkinit.on-failure: \"reboot\" is of a key that means nothing here: not used"]
    );
    assert_eq!(once.on_failure.next(Stage::Onshutdown), "the shutdown goes on");
}
