// SPDX-License-Identifier: Apache-2.0
//! The diagram of docs/supervision.md: every event in every phase, by trying
//! it. Each state that a machine can get into is visited, from a new one on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;

const BEGIN: &str = "<!-- begin: made from rc/src/supervise/state.rs -->\n";
const END: &str = "<!-- end -->\n";

/// The events, as they are called in the documentation.
const EVENTS: [(&str, Event); 16] = [
    ("Start", Event::Start),
    ("Stop", Event::Stop),
    ("Retire", Event::Retire),
    ("Restart", Event::Restart),
    ("Found running", Event::Found(Left::Running)),
    ("Found ended", Event::Found(Left::Ended(Exit::LOST))),
    ("Released", Event::Released),
    ("Launched", Event::Launched),
    ("LaunchFailed", Event::LaunchFailed),
    ("Ready", Event::Ready),
    ("Sound", Event::Sound),
    ("Unsound", Event::Unsound),
    ("Exited with 0", SUCCESS),
    ("Exited, failed", FAILURE),
    ("Cleaned", Event::Cleaned),
    ("Timer", Event::Timer),
];

const PHASES: [&str; 10] = [
    "Down",
    "Held",
    "BackingOff",
    "Starting",
    "Readying",
    "Up",
    "Unhealthy",
    "Leaving",
    "Stopping",
    "Cleaning",
];

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Down(_) => "Down",
        Phase::Held => "Held",
        Phase::BackingOff(_) => "BackingOff",
        Phase::Starting => "Starting",
        Phase::Readying(_) => "Readying",
        Phase::Up => "Up",
        Phase::Unhealthy(_) => "Unhealthy",
        Phase::Leaving => "Leaving",
        Phase::Stopping(..) => "Stopping",
        Phase::Cleaning => "Cleaning",
    }
}

/// With what is said of a phase that there is more than one of.
fn full_name(phase: Phase) -> String {
    match phase {
        Phase::Down(why) => format!("Down ({})", crate::supervise::word(Phase::Down(why))),
        Phase::Stopping(_, None) => "Stopping (killed)".to_owned(),
        other => name(other).to_owned(),
    }
}

fn describe(effect: Effect) -> &'static str {
    match effect {
        Effect::AwaitTurn => "AwaitTurn",
        Effect::Launch => "Launch",
        Effect::AwaitReady => "AwaitReady",
        Effect::WatchHealth => "WatchHealth",
        Effect::EndProbe => "EndProbe",
        Effect::AskToEnd => "AskToEnd",
        Effect::Kill => "Kill",
        Effect::Clean => "Clean",
        Effect::WakeAt(_) => "WakeAt",
        Effect::TakeDown(_) => "TakeDown",
    }
}

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    for restart in [Restart::No, Restart::OnFailure, Restart::Always] {
        for bits in 0..32u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            for retries in [None, Some(1), Some(2)] {
                policies.push(Policy {
                    restart,
                    after: if bit(0) { vec!["other".to_owned()] } else { Vec::new() },
                    ready: if bit(1) { probe() } else { Probe::Started },
                    critical: bit(2).then_some(TakeDown::PowerOff),
                    restart_max: bit(3).then_some((1, 1000 * SECOND)),
                    delay: bit(4).then_some(Duration::ZERO),
                    health: retries.map(|retries| Health { probe: probe(), interval: SECOND, retries }),
                    ..Policy::default()
                });
            }
        }
    }
    policies
}

/// A machine without its times: two that are equal do the same.
fn shape(machine: &Machine) -> (String, [bool; 3], u32, usize) {
    let phase = match machine.phase {
        Phase::BackingOff(_) | Phase::Readying(_) => name(machine.phase).to_owned(),
        Phase::Stopping(cause, at) => format!("{cause:?} {}", at.is_some()),
        Phase::Unhealthy(count) => format!("Unhealthy {}", count.min(2)),
        other => format!("{other:?}"),
    };
    let flags = [machine.wanted, machine.again, machine.failed];
    (phase, flags, machine.failures.min(2), machine.recent.len().min(2))
}

/// What can come of an event: the phase after it, and what is to be done.
type Outcomes = BTreeMap<(&'static str, &'static str), BTreeSet<(String, Vec<&'static str>)>>;

fn explore() -> Outcomes {
    let mut outcomes = Outcomes::new();
    for policy in policies() {
        let mut open = vec![(Machine::default(), SECOND)];
        let mut seen = BTreeSet::from([shape(&Machine::default())]);
        while let Some((machine, now)) = open.pop() {
            let due = match machine.phase {
                Phase::BackingOff(at) | Phase::Readying(Some(at)) | Phase::Stopping(_, Some(at)) => at,
                _ => now,
            };
            for (label, event) in EVENTS {
                let now = if event == Event::Timer { due.max(now) } else { now };
                let mut next = machine.clone();
                let effects = next.step(&policy, event, now).into_iter().map(describe).collect();
                let place = (name(machine.phase), label);
                let to = if next.phase == machine.phase { "-".to_owned() } else { full_name(next.phase) };
                outcomes.entry(place).or_default().insert((to, effects));
                if seen.insert(shape(&next)) {
                    open.push((next, now));
                }
            }
        }
    }
    outcomes
}

fn render(outcomes: &Outcomes) -> String {
    let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> Down\n");
    for from in PHASES {
        let mut arrows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (label, _) in EVENTS {
            for (to, _) in &outcomes[&(from, label)] {
                let to = PHASES.iter().find(|phase| to.starts_with(**phase)).copied().unwrap_or(from);
                let labels = arrows.entry(to).or_default();
                if to != from && !labels.contains(&label) {
                    labels.push(label);
                }
            }
        }
        for to in PHASES {
            if let Some(labels) = arrows.get(to).filter(|labels| !labels.is_empty()) {
                writeln!(text, "    {from} --> {to}: {}", labels.join("; ")).unwrap();
            }
        }
    }
    text.push_str("```\n\n| in | when | then | to be done |\n| --- | --- | --- | --- |\n");
    for from in PHASES {
        let mut idle = Vec::new();
        for (label, _) in EVENTS {
            let found = &outcomes[&(from, label)];
            if found.iter().all(|(to, effects)| to == "-" && effects.is_empty()) {
                idle.push(label);
                continue;
            }
            let mut by_phase: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for (to, effects) in found {
                by_phase.entry(to).or_default().insert(effects.join(", "));
            }
            for (to, effects) in by_phase {
                let to = if to == "-" { "stays" } else { to };
                let effects: Vec<_> =
                    effects.iter().map(|text| if text.is_empty() { "nothing" } else { text }).collect();
                writeln!(text, "| {from} | {label} | {to} | {} |", effects.join(" *or* ")).unwrap();
            }
        }
        if !idle.is_empty() {
            writeln!(text, "| {from} | {} | stays | nothing |", idle.join("; ")).unwrap();
        }
    }
    text
}

#[test]
fn the_documentation_shows_the_machine_as_it_is() {
    let outcomes = explore();
    // Nothing is left out: each phase is reached, and each event was tried in it.
    assert_eq!(outcomes.len(), PHASES.len() * EVENTS.len());
    let made = render(&outcomes);

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/supervision.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("the page has no place for the diagram");
    let (there, tail) = rest.split_once(END).expect("the diagram has no end");
    if there == made {
        return;
    }
    if std::env::var_os("LKINIT_WRITE_DOCS").is_some() {
        return std::fs::write(&path, format!("{head}{BEGIN}{made}{END}{tail}")).unwrap();
    }
    panic!("docs/supervision.md is not up to date: LKINIT_WRITE_DOCS=1 cargo test -p rc diagram");
}
