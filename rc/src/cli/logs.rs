// SPDX-License-Identifier: Apache-2.0
//! `service logs NAME`: what a container has printed, from its files or from
//! an external logger. Nobody else is asked.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use init::cmdline::Cmdline;

use super::args::Options;
use super::ask::unknown;
use super::output::{show, wait_for};
use super::service::Problem;
use super::status::names;
use crate::bundle::Stage;
use crate::logs::follow::{Follower, From, Line};
use crate::logs::{Logs, Stream};
use crate::paths;

/// `service logs [-f] [-n N] NAME`.
pub(super) fn logs(options: &Options) -> Result<(), Problem> {
    let [name] = options.words.as_slice() else {
        return Err(Problem::Usage("logs: of which service?".to_owned()));
    };
    let logs = find(options, name)?;
    let failed = |error: std::io::Error| Problem::Failed(format!("logs: {name}: {error}"));
    if logs.is_console() {
        let why = "its output goes to the console (linuxkit.runc_console=1), and is not kept";
        return Err(Problem::Failed(format!("logs: {name}: {why}")));
    }
    if options.follow {
        follow(&logs, options.lines).map_err(failed)
    } else {
        print(&logs, options.lines).map_err(failed)
    }
}

/// What there is: standard output first, or so many of each stream's last lines.
fn print(logs: &Logs, count: Option<usize>) -> io::Result<()> {
    let mut follower = Follower::once(logs, count.map_or(From::Start, From::Last))?;
    let Some(count) = count else {
        loop {
            let mut text = String::new();
            let more = follower.read(&mut |line| text.extend([line.text, "\n"]))?;
            if !more {
                follower.unfinished(&mut |line| text.extend([line.text, "\n"]));
            }
            show(&text);
            if !more {
                return Ok(());
            }
        }
    };
    // An external logger knows nothing of last lines.
    let mut kept = [VecDeque::new(), VecDeque::new()];
    let [stdout, stderr] = &mut kept;
    let mut keep = |line: Line<'_>| {
        let lines = if line.stream == Stream::Stdout { &mut *stdout } else { &mut *stderr };
        lines.push_back(format!("{}\n", line.text));
        if lines.len() > count {
            lines.pop_front();
        }
    };
    while follower.read(&mut keep)? {}
    follower.unfinished(&mut keep);
    kept.iter().flatten().for_each(|line| show(line));
    Ok(())
}

/// What there is, and what comes, until nobody reads it any more.
fn follow(logs: &Logs, count: Option<usize>) -> io::Result<()> {
    let mut follower = Follower::new(logs, count.map_or(From::Start, From::Last))?;
    loop {
        let mut text = String::new();
        let more = follower.read(&mut |line| text.extend([line.text, "\n"]))?;
        show(&text);
        if !more {
            wait_for(follower.as_fd())?;
        }
    }
}

/// The log of a service, of a container that runs once, by its full name or
/// without the number.
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
