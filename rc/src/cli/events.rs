// SPDX-License-Identifier: Apache-2.0
//! `service events`: what has happened to services, and what happens.

use std::path::Path;

use super::args::Options;
use super::service::{Problem, show};
use super::table::{Paint, colours, painted};
use crate::control::{Answer, Client, Failure, Request, journal};
use crate::paths;
use crate::supervise::Change;

/// `service events [-f] [NAME...]`.
pub(super) fn events(options: &Options) -> Result<(), Problem> {
    // Who follows listens first and reads then: so nothing is missed.
    let live = options.follow.then(|| Client::connect(Path::new(paths::CONTROL))).transpose()?;
    let live = live.map(|mut client| client.ask(&Request::Follow, None).map(|_| client)).transpose()?;
    let wanted = |change: &Change| options.words.is_empty() || options.words.contains(&change.service);
    let known = journal::load(Path::new(paths::EVENTS));
    let chosen: Vec<&Change> = known.iter().filter(|change| wanted(change)).collect();
    let skipped = options.lines.map_or(0, |lines| chosen.len().saturating_sub(lines));
    let colours = colours();
    let text: String =
        chosen.iter().skip(skipped).map(|change| line(change, options.json, colours)).collect();
    show(&text);
    let Some(mut client) = live else { return Ok(()) };
    loop {
        match client.receive(None)? {
            // It came between the two.
            Answer::Changed { change } if known.contains(&change) => {}
            Answer::Changed { change } if wanted(&change) => show(&line(&change, options.json, colours)),
            Answer::Changed { .. } => {}
            Answer::TooSlow { missed } => {
                return Err(Problem::Failed(format!(
                    "events: this was read too slowly: {missed} events are left out, and no more will \
                     come; `service events` shows them"
                )));
            }
            Answer::Failed { reason } => return Err(Problem::Failed(format!("events: {reason}"))),
            other => return Err(Failure::Unexpected(format!("{other:?}")).into()),
        }
    }
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
