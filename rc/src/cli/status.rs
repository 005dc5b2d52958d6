// SPDX-License-Identifier: Apache-2.0
//! `service status` and `service list`.

use std::path::Path;

use serde_json::{Value, json};

use super::args::Options;
use super::ask::{Services, services};
use super::output::show;
use super::service::Problem;
use super::table::{Cell, Paint, colours, painted, span, table};
use crate::bundle::{self, Bundle, Stage};
use crate::logs::Logs;
use crate::paths;
use crate::supervise::Status;
use crate::timeline;

/// `service status [NAME...]`.
pub(super) fn status(options: &Options) -> Result<(), Problem> {
    let found = services(options);
    let mut chosen = Vec::new();
    for name in &options.words {
        let status = found.services.iter().find(|status| status.name == *name);
        chosen.push(status.ok_or_else(|| found.unknown(name))?);
    }
    if options.json {
        show(&format!("{:#}\n", json(&found, &options.words)));
    } else if !options.quiet && options.words.is_empty() {
        show(&overview(&found, colours()));
    } else if !options.quiet {
        let texts: Vec<String> = chosen.iter().map(|status| details(&found, status, options)).collect();
        show(&texts.join("\n"));
    }
    match chosen.iter().all(|status| is_up(status)) {
        true => Ok(()),
        false => Err(Problem::NotRunning),
    }
}

/// Whether a service's process is up. One that is not ready yet is not.
fn is_up(status: &Status) -> bool {
    matches!(status.state.as_str(), "running" | "unhealthy")
}

fn json(found: &Services, names: &[String]) -> Value {
    let chosen = found.services.iter().filter(|status| names.is_empty() || names.contains(&status.name));
    json!({
        "supervisor": found.supervisor,
        "containerd": found.containerd,
        "services": chosen.collect::<Vec<_>>(),
    })
}

/// Every service in a line, and containerd.
fn overview(found: &Services, colours: bool) -> String {
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |status: &Status| {
        vec![
            Cell::from(status.name.as_str()),
            Cell::from(status.state.as_str()).paint(paint(status)),
            Cell::number(dash(status.pid.map(|pid| pid.to_string()))),
            Cell::number(dash(status.uptime.map(|seconds| span(seconds as f64)))),
            Cell::number(status.restarts.to_string()),
            Cell::number(dash(status.last_exit.map(|exit| exit.to_string()))),
            Cell::from(if status.ready { "yes" } else { "no" }),
        ]
    };
    let head = ["SERVICE", "STATE", "PID", "UPTIME", "RESTARTS", "LAST EXIT", "READY"];
    let mut text = match found.services.is_empty() {
        true => "no services\n".to_owned(),
        false => table(&head, found.services.iter().map(row).collect(), colours),
    };
    for status in &found.services {
        if let Some(reason) = &status.reason {
            text += &format!("{}: {reason}\n", status.name);
        }
    }
    if let Some(containerd) = &found.containerd {
        text += &format!("containerd: {containerd}\n");
    }
    text
}

fn paint(status: &Status) -> Paint {
    match status.state.as_str() {
        "running" => Paint::Good,
        "failed" | "given-up" | "unhealthy" | "backing-off" => Paint::Bad,
        "stopped" | "exited" | "new" => Paint::Plain,
        _ => Paint::Busy,
    }
}

/// All that is known of one service.
fn details(found: &Services, status: &Status, options: &Options) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let state = painted(&status.state, paint(status), colours());
    let ready = match (status.ready, &status.health) {
        (_, Some(health)) => format!(" ({health})"),
        (true, None) => " (ready)".to_owned(),
        (false, None) => String::new(),
    };
    lines.push(("state", format!("{state}{ready}")));
    if let Some(reason) = &status.reason {
        lines.push(("reason", reason.clone()));
    }
    if let Some(pid) = status.pid {
        lines.push(("pid", pid.to_string()));
    }
    if let Some(seconds) = status.uptime {
        lines.push(("up for", span(seconds as f64)));
    }
    if found.supervisor {
        lines.push(("restarts", status.restarts.to_string()));
    }
    if let Some(exit) = status.last_exit {
        lines.push(("last exit", exit.to_string()));
    }
    if !status.after.is_empty() {
        lines.push(("after", status.after.join(", ")));
    }
    let bundle = options.path.join(&status.name);
    let cmdline = init::cmdline::Cmdline::current().unwrap_or_default();
    let logs = Logs::of(Stage::Services, &status.name, &cmdline);
    lines.push(("logs", format!("{}, {}", logs.stderr.display(), logs.stdout.display())));
    lines.push(("bundle", bundle.display().to_string()));
    if let Ok(bundle) = Bundle::load(&bundle, Stage::Services) {
        let own = bundle.annotations().iter().filter(|(key, _)| key.starts_with("lkinit."));
        lines.extend(own.map(|(key, value)| ("set", format!("{key}={value}"))));
    }
    let text: String = lines.iter().map(|(key, value)| format!("{key:>10}: {value}\n")).collect();
    format!("{}\n{text}", status.name)
}

/// `service list`: services, and the containers that run once.
pub(super) fn list(options: &Options) -> Result<(), Problem> {
    if options.names_only {
        // Quick, and right without a supervisor: bash waits for it.
        let names = names(&options.path);
        show(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
        return Ok(());
    }
    let found = services(options);
    let record = timeline::load(Path::new(paths::TIMELINE)).unwrap_or_default();
    let mut rows = Vec::new();
    for stage in [Stage::Onboot, Stage::Services, Stage::Onshutdown] {
        let listing = bundle::list(Path::new(paths::CONTAINERS), stage)
            .map_err(|error| Problem::Failed(error.to_string()))?;
        for path in listing.paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let state = match stage {
                Stage::Services => {
                    let status = found.services.iter().find(|status| status.name == name);
                    status.map_or("new", |status| status.state.as_str()).to_owned()
                }
                Stage::Onboot => became(&record, &format!("{stage} {name}")),
                Stage::Onshutdown => "-".to_owned(),
            };
            rows.push((stage.folder(), name, state, path));
        }
    }
    if options.json {
        let rows = rows.iter().map(|(stage, name, state, path)| {
            json!({"stage": stage, "name": name, "state": state, "bundle": path})
        });
        show(&format!("{:#}\n", Value::Array(rows.collect())));
        return Ok(());
    }
    let rows = rows.into_iter().map(|(stage, name, state, path)| {
        vec![name.into(), stage.into(), state.into(), path.display().to_string().into()]
    });
    show(&table(&["NAME", "STAGE", "STATE", "BUNDLE"], rows.collect(), colours()));
    Ok(())
}

/// What has become of a container that runs once.
fn became(record: &[timeline::Span], lane: &str) -> String {
    let mut state = "new".to_owned();
    for span in record.iter().filter(|span| span.lane == lane && span.name != "delete") {
        state = match (&span.failed, span.end) {
            (Some(why), _) => format!("failed: {why}"),
            (None, None) => "running".to_owned(),
            (None, Some(_)) if span.name == "run" => "done".to_owned(),
            (None, Some(_)) => "starting".to_owned(),
        };
    }
    state
}

/// The names of the services under a folder.
pub(super) fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, state: &str) -> Status {
        let up = state == "running";
        Status {
            name: name.to_owned(),
            state: state.to_owned(),
            pid: up.then_some(812),
            uptime: up.then_some(192),
            restarts: 3,
            last_exit: Some(137),
            ready: up,
            health: None,
            after: Vec::new(),
            reason: (!up).then(|| "exit status 137 (SIGKILL); starting it again in 0.4s".to_owned()),
        }
    }

    fn found() -> Services {
        let services = vec![sample("getty", "running"), sample("node-exporter", "backing-off")];
        Services { supervisor: true, containerd: Some("1.6.20".to_owned()), services, path: "/c".into() }
    }

    #[test]
    fn the_overview() {
        assert_eq!(
            overview(&found(), false),
            "SERVICE        STATE        PID  UPTIME  RESTARTS  LAST EXIT  READY\n\
             getty          running      812   3m12s         3        137  yes\n\
             node-exporter  backing-off    -       -         3        137  no\n\
             node-exporter: exit status 137 (SIGKILL); starting it again in 0.4s\n\
             containerd: 1.6.20\n"
        );
        assert!(overview(&found(), true).contains("\x1b[32mrunning\x1b[0m"));
        assert_eq!(overview(&Services::default(), false), "no services\n");
    }

    #[test]
    fn one_service_for_programs() {
        let value = json(&found(), &["getty".to_owned()]);
        assert_eq!(value["supervisor"], true);
        assert_eq!(value["services"].as_array().unwrap().len(), 1);
        assert_eq!(value["services"][0]["pid"], 812);
    }

    #[test]
    fn what_became_of_a_container() {
        let text = "{\"lane\":\"onboot 000-a\",\"name\":\"create\",\"start\":1,\"end\":2}\n\
                    {\"lane\":\"onboot 000-a\",\"name\":\"run\",\"start\":2,\"end\":null}\n\
                    {\"lane\":\"onboot 001-b\",\"name\":\"run\",\"start\":2,\"end\":3}\n\
                    {\"lane\":\"onboot 001-b\",\"name\":\"delete\",\"start\":2,\"end\":null}\n\
                    {\"lane\":\"onboot 002-c\",\"name\":\"run\",\"start\":2,\"end\":3,\"failed\":\"exit status 3\"}";
        let record = timeline::parse(text);
        let told =
            ["000-a", "001-b", "002-c", "003-d"].map(|name| became(&record, &format!("onboot {name}")));
        assert_eq!(told, ["running", "done", "failed: exit status 3", "new"]);
    }
}
