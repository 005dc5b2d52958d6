// SPDX-License-Identifier: Apache-2.0
//! Tests of the graph: what can be loaded when, and what ends with what.

use std::collections::HashSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn step(name: &str, needs: &[&str], after: &[&str]) -> Step {
    let names = |names: &[&str]| names.iter().map(|name| ModuleName::new(name)).collect();
    Step {
        name: ModuleName::new(name),
        file: PathBuf::from(format!("/m/{name}.ko")),
        size: 0,
        options: String::new(),
        needs: names(needs),
        after: names(after),
        disabled: None,
        wanted_by: "test".to_owned(),
    }
}

fn next(graph: &mut Graph) -> Vec<(Ticket, String)> {
    std::iter::from_fn(|| graph.next().map(|(ticket, step)| (ticket, step.name.to_string()))).collect()
}

#[test]
fn what_waits_for_nothing_goes_at_once() {
    let mut graph = Graph::default();
    let blocked = graph
        .add(vec![step("ring", &[], &[]), step("crc", &[], &[]), step("blk", &["ring"], &["crc"])], false);
    assert!(blocked.is_empty());
    assert_eq!(graph.ready(), 2);
    let first = next(&mut graph);
    assert_eq!(first.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["ring", "crc"]);
    assert!(graph.finish(first[0].0, End::Live).is_empty());
    assert_eq!(graph.ready(), 0);
    assert!(graph.finish(first[1].0, End::Failed).is_empty(), "a soft dependency that fails holds up nobody");
    assert_eq!(next(&mut graph)[0].1, "blk");
}

#[test]
fn what_has_the_most_behind_it_goes_first() {
    let mut graph = Graph::default();
    let sized = |name, needs: &[&str], size| Step { size, ..step(name, needs, &[]) };
    let steps = vec![
        sized("button", &[], 30),
        sized("common", &[], 10),
        sized("scsi", &["common"], 300),
        sized("libata", &["common", "scsi"], 400),
        sized("overlay", &[], 200),
    ];
    graph.add(steps, false);
    let names: Vec<_> = next(&mut graph).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["common", "overlay", "button"]);
}

#[test]
fn what_is_needed_and_fails_takes_the_others_along() {
    let mut graph = Graph::default();
    graph.add(
        vec![
            step("a", &[], &[]),
            step("b", &["a"], &[]),
            step("c", &["a", "b"], &[]),
            step("d", &[], &["c"]),
        ],
        false,
    );
    let (ticket, _) = graph.next().unwrap();
    let blocked = graph.finish(ticket, End::Failed);
    let ends: Vec<_> = blocked.iter().map(|b| (b.step.name.as_str(), b.need.as_str(), b.end)).collect();
    assert_eq!(ends, [("b", "a", End::Failed), ("c", "b", End::Failed)]);
    assert_eq!(next(&mut graph)[0].1, "d");
    let late = graph.add(vec![step("e", &["b"], &[])], false);
    assert_eq!((late[0].step.name.as_str(), late[0].end), ("e", End::Failed));
}

#[test]
fn a_second_request_begins_nothing_twice() {
    let mut graph = Graph::default();
    graph.add(vec![step("a", &[], &[])], false);
    let (ticket, _) = graph.next().unwrap();
    graph.add(vec![step("a", &[], &[]), step("b", &["a"], &[])], true);
    assert_eq!(graph.ready(), 0, "a is under way, and b waits for it");
    graph.finish(ticket, End::Failed);
    graph.add(vec![step("a", &[], &[]), step("b", &["a"], &[])], false);
    assert_eq!(graph.ready(), 0);
    graph.add(vec![step("a", &[], &[]), step("b", &["a"], &[])], true);
    let (ticket, again) = graph.next().unwrap();
    assert_eq!(again.name.as_str(), "a");
    graph.finish(ticket, End::Live);
    assert_eq!(next(&mut graph)[0].1, "b");
}

proptest! {
    /// Random dependencies on earlier modules, in several plans, taken and
    /// finished in a random order: each module is given out once, after all
    /// that it needs, and none is left over.
    #[test]
    fn every_module_once_and_in_order(
        modules in proptest::collection::vec((proptest::collection::vec(0usize..60, 0..4), any::<bool>()), 1..60),
        picks in proptest::collection::vec((any::<usize>(), 0u8..8), 130..131),
        cut in 0usize..60,
    ) {
        let name = |i: usize| format!("m{i}");
        let steps: Vec<Step> = modules.iter().enumerate().map(|(i, (before, needed))| {
            let before: Vec<String> = before.iter().filter(|b| **b < i).map(|b| name(*b)).collect();
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            if *needed { step(&name(i), &before, &[]) } else { step(&name(i), &[], &before) }
        }).collect();
        let mut graph = Graph::default();
        let cut = cut.min(steps.len());
        let (mut ended, mut live, mut given) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut running = Vec::new();
        let mut late = Some(steps.clone());
        graph.add(steps[..cut].to_vec(), false);
        for (pick, outcome) in picks {
            while let Some((ticket, step)) = graph.next() {
                prop_assert!(given.insert(step.name.clone()), "{} twice", step.name);
                prop_assert!(step.needs.iter().all(|need| live.contains(need)));
                prop_assert!(step.after.iter().all(|before| ended.contains(before)));
                running.push((ticket, step));
            }
            if (running.is_empty() || outcome == 1) && let Some(steps) = late.take() {
                for blocked in graph.add(steps, false) { ended.insert(blocked.step.name.clone()); }
                continue;
            }
            if running.is_empty() { break }
            let (ticket, step) = running.swap_remove(pick % running.len());
            let end = if outcome == 0 { End::Failed } else { End::Live };
            ended.insert(step.name.clone());
            if end == End::Live { live.insert(step.name.clone()); }
            for blocked in graph.finish(ticket, end) {
                prop_assert!(ended.insert(blocked.step.name.clone()));
            }
        }
        prop_assert!(late.is_none() && running.is_empty() && graph.ready() == 0);
        prop_assert_eq!(ended.len(), steps.len());
    }
}
