// SPDX-License-Identifier: Apache-2.0
//! `--explain`: what was looked at, what it means, and what follows from it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::facts::Facts;
use crate::identify::Identification;
use crate::plan::{Plan, Step};

/// The time each kind of step has.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A guess.
    pub guess: Duration,
    /// A provider that is known to be the one, if less than its own time.
    pub known: Option<Duration>,
}

/// The whole story, as text.
pub fn explain(facts: &Facts, identification: &Identification, plan: &Plan, times: Times) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = write(&mut text, facts, identification, plan, times);
    text
}

fn write(
    out: &mut String,
    facts: &Facts,
    identification: &Identification,
    plan: &Plan,
    times: Times,
) -> fmt::Result {
    writeln!(out, "looked at:")?;
    looked_at(out, facts)?;
    writeln!(out, "meaning:")?;
    for candidate in &identification.candidates {
        writeln!(out, "  {}: {}", candidate.row.name, candidate.evidence.reason)?;
    }
    match (&identification.none, identification.candidates.is_empty()) {
        (Some(nobody), _) => writeln!(out, "  none: {}", nobody.reason)?,
        (None, true) => writeln!(out, "  unknown: nothing speaks for a provider")?,
        (None, false) => {}
    }
    writeln!(out, "plan:")?;
    if plan.steps.is_empty() {
        writeln!(out, "  nothing to ask")?;
    }
    for step in &plan.steps {
        match step {
            Step::Ask(row, reason) => {
                let time = times.known.map_or(row.patience, |known| known.min(row.patience));
                writeln!(out, "  ask {} for up to {time:?}: {reason}", row.name)?;
            }
            Step::Race { rows, .. } if rows.len() == 1 => {
                for row in rows {
                    let time = times.known.map_or(row.patience, |known| known.min(row.patience));
                    let guess = times.guess;
                    writeln!(
                        out,
                        "  ask {} for up to {time:?} if it takes a connection within {guess:?}",
                        row.name
                    )?;
                }
            }
            Step::Race { rows, ordered } => {
                let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
                let order = if *ordered { ", the earlier preferred" } else { "" };
                let names = names.join(" ");
                writeln!(out, "  ask at the same time for up to {:?}{order}: {names}", times.guess)?;
            }
            Step::File(path) => writeln!(out, "  read {}", path.display())?,
        }
    }
    if !plan.skipped.is_empty() {
        writeln!(out, "skipped:")?;
    }
    for (row, reason) in &plan.skipped {
        writeln!(out, "  {}: {reason}", row.name)?;
    }
    Ok(())
}

fn looked_at(out: &mut String, facts: &Facts) -> fmt::Result {
    let mut line =
        |name: &str, value: Option<&str>| writeln!(out, "  {name}: {}", value.unwrap_or("unavailable"));
    match (&facts.container, &facts.dmi) {
        (Some(manager), _) => {
            line("container", Some(&format!("of {manager}: SMBIOS is not this machine's")))?
        }
        (None, None) => line("SMBIOS", None)?,
        (None, Some(dmi)) => {
            for (name, value) in dmi.fields() {
                line(&format!("SMBIOS {name}"), value)?;
            }
        }
    }
    line("hypervisor UUID", facts.hypervisor_uuid.as_deref())?;
    line("CPUID hypervisor", facts.hypervisor.as_deref())?;
    let words: Vec<String> = facts
        .cmdline
        .words()
        .map(|(key, value)| value.map_or(key.to_owned(), |v| format!("{key}={v}")))
        .collect();
    line("kernel command line", Some(&words.join(" ")))?;
    for marker in &facts.markers {
        line("file", Some(marker))?;
    }
    if facts.openstack_container {
        line("environment of PID 1", Some("product_name=OpenStack Nova"))?;
    }
    match &facts.media {
        None => line("disks", Some("not looked at: they would not change the answer"))?,
        Some(media) if media.is_empty() => line("disks", Some("none with a label or a known file"))?,
        Some(media) => {
            for medium in media {
                let labels = medium.labels.iter().map(|(format, label)| format!("{format} {label:?}"));
                let files = medium.files.iter().map(|name| format!("file {name}"));
                let trouble = medium.trouble.iter().cloned();
                let what: Vec<String> = labels.chain(files).chain(trouble).collect();
                line(&format!("disk {}", medium.device.display()), Some(&what.join(", ")))?;
            }
        }
    }
    Ok(())
}
