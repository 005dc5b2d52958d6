// SPDX-License-Identifier: Apache-2.0
//! `service logs NAME`: what a container has printed, from its files or from
//! an external logger. Nobody else is asked.

use std::path::Path;

use init::cmdline::Cmdline;

use super::args::Options;
use super::ask::unknown;
use super::service::{Problem, show};
use super::status::names;
use crate::bundle::Stage;
use crate::logs::Logs;
use crate::paths;

/// `service logs [-f] [-n N] NAME`.
pub(super) fn logs(options: &Options) -> Result<(), Problem> {
    let [name] = options.words.as_slice() else {
        return Err(Problem::Usage("logs: of which service?".to_owned()));
    };
    let logs = find(options, name)?;
    for path in [&logs.stdout, &logs.stderr] {
        show(&std::fs::read_to_string(path).unwrap_or_default());
    }
    Ok(())
}

/// The log of a service, of a container that runs once, by its full name or
/// without the number, or of containerd.
fn find(options: &Options, name: &str) -> Result<Logs, Problem> {
    let cmdline = Cmdline::current().unwrap_or_default();
    let services = names(&options.path);
    if services.iter().any(|known| known == name) {
        return Ok(Logs::of(Stage::Services, name, &cmdline));
    }
    let mut known = services;
    for stage in [Stage::Onboot, Stage::Onshutdown] {
        let folder = Path::new(paths::CONTAINERS).join(stage.folder());
        for full in names(&folder) {
            let short = full.split_once('-').map_or(full.as_str(), |(_, short)| short);
            if name == full || name == short {
                return Ok(Logs::of(stage, &full, &cmdline));
            }
            known.push(full);
        }
    }
    Err(unknown(name, known.iter().map(String::as_str), &options.path))
}
