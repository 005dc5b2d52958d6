// SPDX-License-Identifier: Apache-2.0
//! Who is asked, in which order, and who is not: a list that can be printed.

use std::path::PathBuf;

use crate::identify::Identification;
use crate::providers::{Class, Row, TABLE, Weight};

/// What the user has named, in the order of the command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Named {
    /// Providers.
    pub rows: Vec<&'static Row>,
    /// Files (`file=`).
    pub files: Vec<PathBuf>,
}

impl Named {
    /// Whether the user has named anything.
    pub fn anything(&self) -> bool {
        !self.rows.is_empty() || !self.files.is_empty()
    }
}

/// One step. The first that succeeds is the last.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Ask one provider, for this reason.
    Ask(&'static Row, String),
    /// Ask several at once, because nothing tells which it is. `ordered` if
    /// the user has named them.
    Race {
        /// Who takes part.
        rows: Vec<&'static Row>,
        /// Whether the earlier is to be preferred.
        ordered: bool,
    },
    /// Read a file.
    File(PathBuf),
}

/// The steps, and who is left out and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What is done.
    pub steps: Vec<Step>,
    /// What is not.
    pub skipped: Vec<(&'static Row, String)>,
}

/// Draws up the plan.
pub fn plan(identification: &Identification, named: &Named) -> Plan {
    let mut plan = Plan::default();
    let all: Vec<&'static Row> = if named.anything() { named.rows.clone() } else { TABLE.to_vec() };
    let wanted = |row: &'static Row| all.contains(&row);

    let candidates = identification.candidates.iter().filter(|candidate| wanted(candidate.row));
    plan.steps.extend(candidates.map(|it| Step::Ask(it.row, it.evidence.reason.clone())));
    let is_candidate = |row: &Row| identification.candidates.iter().any(|it| it.row == row);

    let mut guesses = Vec::new();
    for row in all.iter().copied().filter(|row| !is_candidate(row)) {
        let explicit = named.rows.contains(&row);
        match reason_to_skip(row, explicit, identification, &plan) {
            Some(reason) => plan.skipped.push((row, reason)),
            None => guesses.push(row),
        }
    }
    let (network, local): (Vec<_>, Vec<_>) = guesses.into_iter().partition(|row| row.class == Class::Network);
    if !network.is_empty() {
        plan.steps.push(Step::Race { rows: network, ordered: named.anything() });
    }
    plan.steps.extend(local.into_iter().map(|row| Step::Ask(row, "it was named".to_owned())));
    plan.steps.extend(named.files.iter().cloned().map(Step::File));
    plan
}

fn reason_to_skip(row: &Row, explicit: bool, identification: &Identification, plan: &Plan) -> Option<String> {
    if let Some(Step::Ask(other, _)) = plan.steps.first()
        && decides(identification, other)
    {
        return Some(format!("this is {}", other.name));
    }
    if explicit {
        return None;
    }
    if let Some(none) = &identification.none {
        return Some(none.reason.clone());
    }
    match row.class {
        Class::Local => Some("nothing speaks for it".to_owned()),
        Class::Network if !row.guess => {
            Some("a stranger could answer: it is asked only when named".to_owned())
        }
        Class::Network => None,
    }
}

/// Whether nobody else is to be asked where this one is a candidate. A
/// hypervisor or a disk may have nothing to say, and a service on the network
/// beside it: OpenStack runs machines on VMware, too.
fn decides(identification: &Identification, row: &Row) -> bool {
    let mut candidates = identification.candidates.iter();
    let candidate = candidates.find(|candidate| candidate.row == row);
    candidate.is_some_and(|it| row.class == Class::Network || it.evidence.weight == Weight::Command)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
