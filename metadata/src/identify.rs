// SPDX-License-Identifier: Apache-2.0
//! Which provider this machine belongs to, from the facts alone: no file is
//! opened here and no packet sent.

use crate::facts::Facts;
use crate::providers::{Class, Evidence, Row, TABLE, Weight, by_name};

/// A provider that something speaks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub row: &'static Row,
    /// What speaks for it.
    pub evidence: Evidence,
}

/// What the facts say.
#[derive(Debug, Clone, PartialEq)]
pub struct Identification {
    /// Who it may be, the likeliest first. Empty if nothing is known.
    pub candidates: Vec<Candidate>,
    /// Why there can be none on the network. The candidates are disks then, if
    /// there are any.
    pub none: Option<Nobody>,
}

/// A machine without a metadata service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nobody {
    /// How that is known.
    pub reason: String,
    /// Whether disks are not to be looked at either.
    pub nothing: bool,
}

/// Words of the kernel command line that name the provider, ours first: the
/// first that has a value counts.
const KEYS: &[&str] = &["metadata.provider", "ds", "ci.ds", "ci.datasource", "ignition.platform.id"];

/// Names that stand for no provider, and whether that goes for disks too.
const NOBODY: &[(&str, bool)] = &[("none", true), ("metal", false), ("qemu", false)];

/// Virtual machines that people run themselves, with no service beside them:
/// vendor, start of the product's name, what it is.
const PRIVATE: &[(&str, &str, &str)] = &[
    ("innotek GmbH", "VirtualBox", "VirtualBox"),
    ("Parallels", "Parallels", "Parallels Desktop"),
    ("Apple Inc.", "Apple Virtualization", "Apple's virtualization"),
    ("Microsoft Corporation", "Virtual Machine", "Hyper-V outside Azure"),
    ("FreeBSD", "BHYVE", "bhyve"),
];

/// Draws the conclusions.
pub fn identify(facts: &Facts) -> Identification {
    let command = named_on_command_line(facts);
    let nobody = match command {
        Some(Command::Provider(candidate)) => {
            return Identification { candidates: vec![candidate], none: None };
        }
        Some(Command::Nobody(nobody)) if nobody.nothing => {
            return Identification { candidates: Vec::new(), none: Some(nobody) };
        }
        Some(Command::Nobody(nobody)) => Some(nobody),
        None => None,
    };
    let mut candidates: Vec<Candidate> = TABLE
        .iter()
        .copied()
        .filter(|row| nobody.is_none() || row.class == Class::Local)
        .filter_map(|row| (row.evidence)(facts).map(|evidence| Candidate { row, evidence }))
        .collect();
    // Networks before disks, as names on the command line are tried; then by
    // weight; then as they stand in the table, for the sort is stable.
    candidates.sort_by_key(|candidate| (candidate.row.class, candidate.evidence.weight));
    // A disk says nothing about the network.
    let asked = candidates.iter().any(|candidate| candidate.row.class == Class::Network);
    let none = if asked { None } else { nobody.or_else(|| private(facts)) };
    Identification { candidates, none }
}

enum Command {
    Provider(Candidate),
    Nobody(Nobody),
}

/// A name nobody knows here says nothing: it is meant for another program.
fn named_on_command_line(facts: &Facts) -> Option<Command> {
    KEYS.iter().find_map(|key| {
        // `ds=nocloud;s=...`: what follows the name is the provider's own affair.
        let value = facts.cmdline.get(key)?;
        let name = value.split(';').next().unwrap_or(value);
        let reason = format!("the kernel command line says {key}={name}");
        if let Some((_, nothing)) = NOBODY.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
            return Some(Command::Nobody(Nobody { reason, nothing: *nothing }));
        }
        let evidence = Evidence { weight: Weight::Command, reason };
        by_name(name).map(|row| Command::Provider(Candidate { row, evidence }))
    })
}

fn private(facts: &Facts) -> Option<Nobody> {
    let dmi = facts.dmi()?;
    let (vendor, product) = (dmi.sys_vendor.as_deref()?, dmi.product_name.as_deref()?);
    let known = PRIVATE.iter().find(|(own, start, _)| vendor.starts_with(own) && product.starts_with(start));
    known.map(|(_, _, what)| Nobody {
        reason: format!("the machine is {what}, which has no metadata service"),
        nothing: false,
    })
}

impl Identification {
    /// Whether disks may tell more than what is known without them.
    pub fn wants_media(&self) -> bool {
        match self.candidates.first() {
            Some(first) => first.row.media,
            None => !self.none.as_ref().is_some_and(|nobody| nobody.nothing),
        }
    }
}

#[cfg(test)]
#[path = "identify_tests.rs"]
mod tests;
