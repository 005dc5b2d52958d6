// SPDX-License-Identifier: Apache-2.0
//! `service`: the command of LinuxKit's name, and the links of its stages.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::args::{self, Options, command, help, near, usage};
use super::ask::{ask, unknown};
use super::output::{complain, show};
use super::{boot, events, exec, local, logs, status};
use crate::boot::initd::OwnStage;
use crate::bundle::{Bundle, Stage, is_id};
use crate::control::{Answer, Failure, Request};

/// Why it did not go as it was asked for.
#[derive(Debug)]
pub(super) enum Problem {
    /// It makes no sense: exit status 2.
    Usage(String),
    /// It was tried and failed: 1.
    Failed(String),
    /// Something of it has failed, and has been told: 1.
    Told,
    /// A service that does not run: 3.
    NotRunning,
    /// There is no such service: 4.
    Unknown(String),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

/// Says what was wrong with the call.
pub(super) fn usage_error(problem: &str) -> ExitCode {
    complain(&format!("service: {problem}\n`service help` tells how it is called."));
    ExitCode::from(2)
}

/// `service`, or a link whose name says the stage.
pub(super) fn main(name: &str, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match args::parse(arguments) {
        Ok(options) => options,
        Err(problem) => return usage_error(&problem),
    };
    let result = match OwnStage::of_link(name) {
        Some(stage) => stage_link(stage),
        None if options.verb == "exec" && !options.help => return exec::exec(&options),
        None => run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Usage(problem)) => usage_error(&problem),
        Err(Problem::Failed(problem)) => {
            complain(&format!("service: {problem}"));
            ExitCode::FAILURE
        }
        Err(Problem::Told) => ExitCode::FAILURE,
        Err(Problem::NotRunning) => ExitCode::from(3),
        Err(Problem::Unknown(problem)) => {
            complain(&format!("service: {problem}"));
            ExitCode::from(4)
        }
    }
}

fn stage_link(stage: OwnStage) -> Result<(), Problem> {
    match stage {
        OwnStage::Services => match ask(&Request::StartAll, None)? {
            Some(_) => Ok(()),
            None => Err(Problem::Failed("no supervisor: services are started by rc.init".to_owned())),
        },
        stage => local::stage(stage).map_err(Problem::Failed),
    }
}

fn run(options: &Options) -> Result<(), Problem> {
    if options.help {
        let text = command(&options.verb).map_or_else(usage, help);
        show(&text);
        return Ok(());
    }
    match options.verb.as_str() {
        "help" => match options.words.first().map(|word| (word, command(word))) {
            None => show(&usage()),
            Some((_, Some(command))) => show(&help(command)),
            Some((word, None)) => return Err(unknown_command(word, &[])),
        },
        "start" => each(options, |name| Request::Start { name })?,
        "stop" => each(options, |name| Request::Stop { name })?,
        "restart" => each(options, |name| Request::Restart { name })?,
        "system-init" => told(options, "system-init", request(options, &Request::StartAll))?,
        "status" => status::status(options)?,
        "list" => status::list(options)?,
        "logs" => logs::logs(options)?,
        "events" => events::events(options)?,
        "boot" => boot::boot(options)?,
        "completion" => match options.words.first().map(String::as_str) {
            Some("bash") => show(args::COMPLETION),
            _ => return Err(Problem::Usage("completion: for bash only".to_owned())),
        },
        "" => return Err(Problem::Usage("what is to be done?".to_owned())),
        other => return Err(unknown_command(other, &options.words)),
    }
    Ok(())
}

/// A word that is no command. Elsewhere the service's name comes first.
fn unknown_command(word: &str, behind: &[String]) -> Problem {
    let names = args::COMMANDS.iter().map(|command| command.name);
    let turned = behind.first().filter(|verb| command(verb).is_some());
    let meant = match turned {
        Some(verb) => Some(format!("{verb} {word}")),
        None => near(word, names).map(str::to_owned),
    };
    let hint = meant.map(|meant| format!("; is it {meant:?}?")).unwrap_or_default();
    Problem::Usage(format!("unknown command {word:?}{hint}"))
}

/// The same for every name. One that fails does not keep the others waiting
/// for ever; a name that is none is told before anything is done.
fn each(options: &Options, request_for: impl Fn(String) -> Request) -> Result<(), Problem> {
    let verb = options.verb.as_str();
    if options.words.is_empty() {
        return Err(Problem::Usage(format!("{verb}: which service?")));
    }
    for name in &options.words {
        if !is_id(name) || !options.path.join(name).is_dir() {
            let names = status::names(&options.path);
            return Err(unknown(name, names.iter().map(String::as_str), &options.path));
        }
    }
    if let (Some(file), "start", [name]) = (&options.dump_spec, verb, options.words.as_slice()) {
        dump_spec(&options.path.join(name), file)?;
    }
    let mut result = Ok(());
    for name in &options.words {
        let done = told(options, &format!("{verb} {name}"), request(options, &request_for(name.clone())));
        if let Err(problem) = done {
            match problem {
                Problem::Failed(text) => complain(&format!("service: {text}")),
                other => return Err(other),
            }
            result = Err(Problem::Told);
        }
    }
    result
}

/// Asks the supervisor, or does it here: where there is none, or for a
/// container that it does not know by the flags given.
fn request(options: &Options, request: &Request) -> Result<Answer, Problem> {
    let usual = Options::default();
    let elsewhere =
        options.path != usual.path || options.namespace.is_some() || options.socket != usual.socket;
    let answer = if elsewhere { None } else { ask(request, None)? };
    match answer {
        Some(answer) => Ok(answer),
        None => local::request(options, request).map_err(Problem::Failed),
    }
}

fn told(options: &Options, what: &str, answer: Result<Answer, Problem>) -> Result<(), Problem> {
    match answer {
        Ok(Answer::Failed { reason }) => Err(Problem::Failed(format!("{what}: {reason}"))),
        Ok(_) => {
            if options.verbose && !options.quiet {
                show(&format!("service: {what}: done\n"));
            }
            Ok(())
        }
        Err(Problem::Failed(reason)) => Err(Problem::Failed(format!("{what}: {reason}"))),
        Err(problem) => Err(problem),
    }
}

fn dump_spec(bundle: &Path, file: &Path) -> Result<(), Problem> {
    let bundle = Bundle::load(bundle, Stage::Services).map_err(|error| Problem::Failed(error.to_string()))?;
    let text = format!("{:#}\n", bundle.spec());
    std::fs::write(file, text)
        .map_err(|error| Problem::Failed(format!("cannot write {}: {error}", file.display())))
}
