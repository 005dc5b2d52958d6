// SPDX-License-Identifier: Apache-2.0
//! `lkinit.after`: which services come before which.
//!
//! What cannot be kept is left out and told by name: a name that nothing has,
//! and the order among services that wait for each other. Everything else
//! stays as it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is wrong with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    /// A service is to come after something that is not there.
    Unknown {
        /// The service.
        service: String,
        /// What it names.
        name: String,
    },
    /// Services that wait for each other, in a round: each comes after the
    /// next, the last one after the first.
    Cycle(Vec<String>),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { service, name } => write!(
                f,
                "service {service}: annotation lkinit.after: {name:?} is no service and no onboot \
                 container; not waiting for it"
            ),
            Self::Cycle(round) => {
                let first = round.first().map_or("", String::as_str);
                write!(
                    f,
                    "services: {} after {first} (lkinit.after): they wait for each other; starting them in \
                     no order among themselves",
                    round.join(" after ")
                )
            }
        }
    }
}

/// The order of the services, without cycles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    before: BTreeMap<String, Vec<String>>,
}

impl Order {
    /// The order of `services`, each with the names it comes after. Names of
    /// `onboot` containers (`000-sysctl`, or `sysctl`) may be among them: those
    /// are over when services start.
    pub fn new(services: &BTreeMap<String, Vec<String>>, onboot: &[String]) -> (Self, Vec<Complaint>) {
        let mut complaints = Vec::new();
        let mut before: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (service, names) in services {
            let known = before.entry(service.clone()).or_default();
            for name in names {
                if services.contains_key(name) {
                    known.push(name.clone());
                } else if !onboot.iter().any(|container| is_called(container, name)) {
                    complaints.push(Complaint::Unknown { service: service.clone(), name: name.clone() });
                }
            }
        }
        let groups = mutual(&before);
        for group in &groups {
            complaints.push(Complaint::Cycle(round(&before, group)));
        }
        for (service, names) in &mut before {
            let group = groups.iter().find(|group| group.contains(service));
            names.retain(|name| !group.is_some_and(|group| group.contains(name)));
        }
        (Self { before }, complaints)
    }

    /// What comes before a service.
    pub fn before(&self, service: &str) -> &[String] {
        self.before.get(service).map_or(&[], Vec::as_slice)
    }

    /// What comes after a service.
    pub fn after<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a str> {
        let after = self.before.iter().filter(move |(_, before)| before.iter().any(|name| name == service));
        after.map(|(name, _)| name.as_str())
    }
}

/// Whether a container `NNN-NAME` is meant by a name.
fn is_called(container: &str, name: &str) -> bool {
    let short = container.split_once('-').filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()));
    container == name || short.is_some_and(|(_, short)| short == name)
}

/// All that a service comes after, directly or by others.
fn reachable(before: &BTreeMap<String, Vec<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for next in before.get(name).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    found
}

/// The groups of services that wait for each other.
fn mutual(before: &BTreeMap<String, Vec<String>>) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<String>> =
        before.keys().map(|name| (name, reachable(before, name))).collect();
    let mut groups: Vec<BTreeSet<String>> = Vec::new();
    for (name, reached) in &reach {
        if !reached.contains(*name) || groups.iter().any(|group| group.contains(*name)) {
            continue;
        }
        let back = |other: &&String| reach.get(other).is_some_and(|back| back.contains(*name));
        groups.push(reached.iter().filter(back).cloned().collect());
    }
    groups
}

/// A way through a group that comes back to where it began: the shortest.
fn round(before: &BTreeMap<String, Vec<String>>, group: &BTreeSet<String>) -> Vec<String> {
    let Some(first) = group.first() else { return Vec::new() };
    let mut ways = vec![vec![first.clone()]];
    let mut seen = BTreeSet::new();
    // Breadth first: what was reached by a shorter way needs no longer one.
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let next = way.last().and_then(|last| before.get(last)).into_iter().flatten();
            for name in next.filter(|name| group.contains(*name)) {
                if name == first {
                    return way;
                }
                if seen.insert(name.clone()) {
                    longer.push(way.iter().cloned().chain([name.clone()]).collect());
                }
            }
        }
        ways = longer;
    }
    vec![first.clone()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(services: &[(&str, &[&str])], onboot: &[&str]) -> (Order, Vec<String>) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let services = services.iter().map(|(name, after)| ((*name).to_owned(), owned(after))).collect();
        let (order, complaints) = Order::new(&services, &owned(onboot));
        (order, complaints.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn services_and_onboot_containers_may_be_named() {
        let (order, complaints) =
            order(&[("web", &["db", "sysctl", "001-net"]), ("db", &[])], &["000-sysctl", "001-net"]);
        assert_eq!(complaints, [""; 0]);
        assert_eq!(order.before("web"), ["db"]);
        assert_eq!(order.after("db").collect::<Vec<_>>(), ["web"]);
        assert_eq!(order.before("nonesuch"), [""; 0]);
    }

    #[test]
    fn an_unknown_name_is_told_and_not_waited_for() {
        let (order, complaints) = order(&[("web", &["bd", "x-sysctl"])], &["x-sysctl"]);
        assert_eq!(
            complaints,
            ["service web: annotation lkinit.after: \"bd\" is no service and no onboot container; not \
              waiting for it"]
        );
        assert_eq!(order.before("web"), [""; 0]);
    }

    #[test]
    fn a_cycle_is_told_by_name_and_keeps_its_order_to_the_others() {
        let (order, complaints) =
            order(&[("a", &["c", "z"]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"]), ("z", &[])], &[]);
        assert_eq!(
            complaints,
            ["services: a after c after b after a (lkinit.after): they wait for each other; starting them \
              in no order among themselves"]
        );
        assert_eq!(order.before("a"), ["z"]);
        assert_eq!((order.before("b"), order.before("c")), (&[][..], &[][..]));
        assert_eq!(order.before("d"), ["a"]);
        let (order, complaints) = self::order(&[("a", &["a"])], &[]);
        assert!(complaints[0].starts_with("services: a after a "), "{complaints:?}");
        assert_eq!(order.before("a"), [""; 0]);
    }

    proptest! {
        /// Whatever is asked for, everybody's turn comes; and where nothing
        /// is wrong, nothing is left out.
        #[test]
        fn everybodys_turn_comes(edges in prop::collection::vec((0u8..12, 0u8..12), 0..30)) {
            let mut services: BTreeMap<String, Vec<String>> =
                (0..12).map(|n: u8| (n.to_string(), Vec::new())).collect();
            for (from, to) in &edges {
                services.get_mut(&from.to_string()).unwrap().push(to.to_string());
            }
            let (order, complaints) = Order::new(&services, &[]);
            let mut started: BTreeSet<String> = BTreeSet::new();
            for _ in 0..services.len() {
                let ready = |name: &&String| order.before(name).iter().all(|other| started.contains(other));
                let next: Vec<_> = services.keys().filter(ready).cloned().collect();
                started.extend(next);
            }
            prop_assert_eq!(started.len(), services.len());
            for name in services.keys() {
                let acyclic = complaints.is_empty();
                prop_assert!(!acyclic || order.before(name) == services[name]);
                prop_assert!(order.before(name).iter().all(|other| services[name].contains(other)));
            }
        }
    }
}
