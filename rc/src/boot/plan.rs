// SPDX-License-Identifier: Apache-2.0
//! `rc.init --plan`: what a boot of this image would do, without doing it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use init::cmdline::Cmdline;
use init::mountinfo::MountTable;

use super::initd::{Entry, OwnStage};
use super::{initd, machine, mounts, own_program};
use crate::bundle::{self, Bundle, Hierarchy, Stage, volumes};
use crate::engine::daemon;
use crate::engine::direct::find_runtime;
use crate::modules::{self, Place};
use crate::paths;
use crate::supervise::policy::{Once, Policy};
use crate::system::Choice;

/// The resolver's file, which may lead elsewhere.
const RESOLVER: &str = "/etc/resolv.conf";

/// The plan of the image at `/`, as text.
pub fn print() -> String {
    let cmdline = Cmdline::current().unwrap_or_default();
    let mut text = String::new();
    let legacy = cmdline.flag("linuxkit.unified_cgroup_hierarchy") == Some(false);
    let controllers = legacy.then(|| fs::read_to_string("/proc/cgroups").unwrap_or_default());
    let problems = super::words::problems(&cmdline);
    if !problems.is_empty() {
        section(&mut text, "words of the command line without a meaning");
        problems.iter().for_each(|problem| line(&mut text, problem));
    }
    section(&mut text, "mounts");
    for step in [mounts::proc()].iter().chain(&mounts::plan(controllers.as_deref())) {
        let note = if step.optional { "  # if the kernel has it" } else { "" };
        line(&mut text, &format!("{}{note}", step.action));
    }
    section(&mut text, "engine");
    let runtime = find_runtime();
    let wanted = cmdline.get("lkinit.engine");
    let (choice, problem) = Choice::new(wanted, Path::new(daemon::PROGRAM).is_file(), runtime.is_some());
    line(&mut text, &format!("onboot and onshutdown: {}", choice.stages.map_or("none", |kind| kind.word())));
    line(&mut text, &format!("services: {}", choice.services.map_or("none", |kind| kind.word())));
    if let Some(runtime) = runtime {
        line(&mut text, &format!("OCI runtime: {}", runtime.display()));
    }
    if let Some(problem) = problem {
        line(&mut text, &problem);
    }
    if choice.starts_containerd() {
        line(&mut text, &format!("start {}, beside everything that follows", daemon::PROGRAM));
    }
    section(&mut text, "devices");
    devices(&mut text);
    section(&mut text, "settings");
    for action in machine::limits() {
        line(&mut text, &action.to_string());
    }
    line(&mut text, "loopback up");
    if let Ok(target) = fs::read_link(RESOLVER) {
        line(&mut text, &format!("make what {RESOLVER} leads to, {}, unless it is there", target.display()));
    }
    line(&mut text, "set the clock from the hardware clock (UTC), when devices have settled");
    let (name, problem) = machine::wanted_hostname();
    if let Some(problem) = problem {
        line(&mut text, &format!("# warning: {problem}"));
    }
    match name {
        Some(name) => line(&mut text, &format!("hostname {name}")),
        None => line(&mut text, "hostname as it is"),
    }
    for (folder, stages) in [(paths::INIT_D, initd::BOOT), (paths::SHUTDOWN_D, initd::SHUTDOWN)] {
        section(&mut text, folder);
        match initd::plan(Path::new(folder), &own_program(), stages) {
            Ok(entries) => entries.iter().for_each(|entry| describe(&mut text, entry)),
            Err(error) => line(&mut text, &format!("cannot be read: {error}")),
        }
    }
    text
}

/// The modules of the devices that are there now.
fn devices(text: &mut String) {
    let place = match Place::running() {
        Ok(place) => place,
        Err(error) => return line(text, &format!("cannot tell the kernel's version: {error}")),
    };
    let (plan, complaints) = modules::plan(&place, &super::devices::WANTED);
    for step in &plan.steps {
        line(text, &format!("{}  # {}", step.to_string().trim_end(), step.wanted_by));
    }
    for name in &plan.blacklisted {
        line(text, &format!("# {name}: blacklisted"));
    }
    for complaint in complaints {
        line(text, &format!("# {complaint}"));
    }
    line(text, "and what is needed by devices that these bring up");
}

fn describe(text: &mut String, entry: &Entry) {
    line(text, &entry.to_string());
    match entry {
        Entry::Own(OwnStage::Volumes) => match volumes::list(Path::new(paths::CONTAINERS)) {
            Ok(listing) => {
                let steps = listing.paths.iter().flat_map(|path| volumes::plan(path));
                steps.for_each(|step| line(text, &format!("  {step}")));
                listing.warnings.iter().for_each(|warning| line(text, &format!("  # warning: {warning}")));
            }
            Err(error) => line(text, &format!("  {error}")),
        },
        Entry::Own(OwnStage::Onboot) => containers(text, Stage::Onboot),
        Entry::Own(OwnStage::Services) => containers(text, Stage::Services),
        Entry::Own(OwnStage::Onshutdown) => containers(text, Stage::Onshutdown),
        Entry::Script(_) => {}
    }
}

fn containers(text: &mut String, stage: Stage) {
    let hierarchy = Hierarchy::read(&MountTable::read().unwrap_or_default());
    let listing = match bundle::list(Path::new(paths::CONTAINERS), stage) {
        Ok(listing) => listing,
        Err(error) => return line(text, &format!("  {error}")),
    };
    listing.warnings.iter().for_each(|warning| line(text, &format!("  # warning: {warning}")));
    for path in listing.paths {
        match Bundle::load(&path, stage) {
            Ok(bundle) => {
                line(text, &format!("  {}", bundle.label()));
                let own = bundle.annotations().iter().filter(|(key, _)| key.starts_with("lkinit."));
                own.for_each(|(key, value)| line(text, &format!("    # {key}={value}")));
                let unreadable = match stage {
                    Stage::Services => Policy::from_annotations(bundle.annotations()).1,
                    Stage::Onboot | Stage::Onshutdown => Once::of_stage(stage, bundle.annotations()).1,
                };
                let warnings =
                    unreadable.iter().map(ToString::to_string).chain(bundle.warnings.iter().cloned());
                warnings.for_each(|warning| line(text, &format!("    # warning: {warning}")));
                bundle.describe(&hierarchy).iter().for_each(|step| line(text, &format!("    {step}")));
            }
            Err(error) => line(text, &format!("  # left out: {error}")),
        }
    }
}

fn section(text: &mut String, name: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name}:");
}

fn line(text: &mut String, content: &str) {
    let _ = writeln!(text, "  {content}");
}
