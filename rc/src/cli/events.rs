// SPDX-License-Identifier: Apache-2.0
//! `service events`: what has happened to services, and what happens.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::args::Options;
use super::output::{complain, show, wait_for};
use super::service::Problem;
use super::table::{Paint, colours, painted};
use crate::control::{Answer, Client, Failure, Request};
use crate::journal::{self, Change};
use crate::paths;

/// `service events [-f] [NAME...]`.
pub(super) fn events(options: &Options) -> Result<(), Problem> {
    // Who follows listens first and reads then: so nothing is missed.
    let live = options.follow.then(listen).transpose()?;
    let colours = colours();
    let wanted = |change: &&Change| options.words.is_empty() || options.words.contains(&change.service);
    let tell = |changes: &[Change], most: Option<usize>| {
        let chosen: Vec<&Change> = changes.iter().filter(wanted).collect();
        let skipped = most.map_or(0, |most| chosen.len().saturating_sub(most));
        let lines = chosen.iter().skip(skipped).map(|change| line(change, options.json, colours));
        show(&lines.collect::<String>());
    };
    let mut known = journal::load(Path::new(paths::EVENTS));
    tell(&known, options.lines);
    let Some(mut client) = live else { return Ok(()) };
    let mut last = known.last().cloned();
    loop {
        if let Some(fd) = client.awaited() {
            wait_for(fd).map_err(|error| Problem::Failed(format!("events: {error}")))?;
        }
        match client.receive(None) {
            // It came between the two.
            Ok(Answer::Changed { change }) if known.contains(&change) => {}
            Ok(Answer::Changed { change }) => {
                tell(std::slice::from_ref(&change), None);
                last = Some(change);
            }
            Ok(Answer::TooSlow { missed }) => {
                return Err(Problem::Failed(format!(
                    "events: this was read too slowly: {missed} events are left out, and no more will \
                     come; `service events` shows them"
                )));
            }
            Ok(Answer::Failed { reason }) => return Err(Problem::Failed(format!("events: {reason}"))),
            Ok(other) => return Err(Failure::Unexpected(format!("{other:?}")).into()),
            Err(Failure::Broken(_)) => {
                complain("service: the supervisor has ended; waiting for the next one");
                client = listen_again()?;
                known = journal::load(Path::new(paths::EVENTS));
                tell(after(&known, last.as_ref()), None);
                last = known.last().cloned().or(last);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// Asks the supervisor to be told of what happens from now on.
fn listen() -> Result<Client, Failure> {
    let mut client = Client::connect(Path::new(paths::CONTROL))?;
    client.ask(&Request::Follow, None).map(|_| client)
}

/// Waits for a supervisor, which PID 1 starts again, and listens to it.
fn listen_again() -> Result<Client, Problem> {
    let failed =
        |error: io::Error| Problem::Failed(format!("events: cannot watch {}: {error}", paths::STATE));
    let watch = Inotify::init(InitFlags::IN_CLOEXEC).map_err(|error| failed(error.into()))?;
    // A socket has its name a moment before it takes anything; then its mode is set.
    let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ATTRIB;
    watch.add_watch(paths::STATE, events).map_err(|error| failed(error.into()))?;
    loop {
        if Path::new(paths::SHUTDOWN).exists() {
            return Err(Problem::Failed("events: the machine goes down".to_owned()));
        }
        if let Ok(client) = listen() {
            return Ok(client);
        }
        wait_for(watch.as_fd()).map_err(failed)?;
        watch.read_events().map_err(|error| failed(error.into()))?;
    }
}

/// The changes after the one that was told last; all, if that is not kept any more.
fn after<'a>(known: &'a [Change], last: Option<&Change>) -> &'a [Change] {
    let told = known.iter().rposition(|change| Some(change) == last);
    known.get(told.map_or(0, |at| at + 1)..).unwrap_or_default()
}

/// One line: text for people, JSON for programs.
fn line(change: &Change, json: bool, colours: bool) -> String {
    if json {
        return serde_json::to_string(change).map(|text| text + "\n").unwrap_or_default();
    }
    let paint = match change.to.as_str() {
        "running" => Paint::Good,
        "failed" | "given-up" | "unhealthy" | "backing-off" => Paint::Bad,
        _ => Paint::Plain,
    };
    let to = painted(&change.to, paint, colours);
    let why = if change.why.is_empty() { String::new() } else { format!(" ({})", change.why) };
    format!("[{:>9.3}] {}: {} -> {to}{why}\n", change.time, change.service, change.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_happened_while_nobody_listened_is_told_once() {
        let change = |n: u16| Change {
            time: f64::from(n),
            service: "web".to_owned(),
            from: String::new(),
            to: String::new(),
            why: String::new(),
        };
        let known: Vec<Change> = (3..7).map(change).collect();
        assert_eq!(after(&known, Some(&change(4))), &known[2..]);
        assert_eq!(after(&known, Some(&change(6))), []);
        assert_eq!(after(&known, Some(&change(1))), known);
        assert_eq!(after(&known, None), known);
    }

    #[test]
    fn a_line_for_people_and_one_for_programs() {
        let change = Change {
            time: 12.5,
            service: "web".to_owned(),
            from: "running".to_owned(),
            to: "stopping".to_owned(),
            why: "exit status 3".to_owned(),
        };
        assert_eq!(line(&change, false, false), "[   12.500] web: running -> stopping (exit status 3)\n");
        let json: serde_json::Value = serde_json::from_str(&line(&change, true, true)).unwrap();
        assert_eq!(json["service"], "web");
    }
}
