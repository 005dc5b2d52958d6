// SPDX-License-Identifier: Apache-2.0
//! The program: bind what was asked for, give up everything else, forward.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{daemon, getuid};
use thiserror::Error;

use crate::arguments::{Arguments, Mode, USAGE};
use crate::door::Door;
use crate::endpoint::Endpoint;
use crate::engine::{Engine, TASKS, Task, hold_signals};
use crate::forward::{Forward, Terms};
use crate::log::Log;
use crate::policy::policy;
use crate::ready::Ready;
use crate::rule::Rule;
use crate::syslog::Syslog;

/// Why the program cannot do what it was asked to.
#[derive(Debug, Error)]
pub enum Error {
    /// No rule is left to carry out.
    #[error("nothing to do: give -inport, -outport, -syslog or -ready (-help tells more)")]
    Nothing,
    /// The pid file.
    #[error("-pidfile {0}: {1}; not started")]
    PidFile(String, io::Error),
    /// daemon(3).
    #[error("-detach: {0}; not started")]
    Detach(io::Error),
    /// The confinement.
    #[error("{0}; not started: it faces machines outside this one")]
    Confine(init::confine::Error),
    /// The event loop.
    #[error("the event loop: {0}")]
    Loop(io::Error),
}

/// Does what was asked.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut log = Log::new(arguments.verbose);
    for mistake in &arguments.mistakes {
        log.line(format_args!("{mistake}"));
    }
    let outcome = match arguments.mode {
        Mode::Help => print(&mut io::stdout(), USAGE),
        Mode::Plan => print(&mut io::stdout(), &plan(arguments)),
        Mode::Run => forward(arguments, &mut log),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log.line(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// A reader that has gone away is no failure of ours.
fn print(to: &mut impl io::Write, text: &str) -> Result<bool, Error> {
    let _ = to.write_all(text.as_bytes());
    Ok(true)
}

fn plan(arguments: &Arguments) -> String {
    let mut text = String::new();
    for rule in &arguments.rules {
        text.push_str(&format!("{rule}\n"));
    }
    text.push_str(&format!("connections from CID: {}\n", arguments.gate.cids));
    text.push_str(&format!("connections from user: {}\n", arguments.gate.uids));
    text.push_str(&format!("connections of one rule: at most {}\n", arguments.limit));
    text.push_str(&format!("{}\n", policy(&arguments.rules)));
    text
}

fn forward(arguments: &Arguments, log: &mut Log) -> Result<bool, Error> {
    let signals = hold_signals().map_err(|error| Error::Loop(error.into()))?;
    raise_file_limit(arguments, log);
    let policy = policy(&arguments.rules);
    let mut tasks = bind(arguments, log);
    if tasks.is_empty() {
        return Err(Error::Nothing);
    }
    // Opened before: its directory may be out of reach later, and whoever
    // waits for the program to go to the background can see that it failed.
    let pidfile = arguments.pidfile.as_deref().map(open_pidfile).transpose()?;
    if arguments.detach {
        detach(log)?;
    }
    if let (Some(mut file), Some(path)) = (pidfile, &arguments.pidfile) {
        write!(file, "{}", std::process::id()).map_err(|error| pidfile_error(path, error))?;
    }
    let engine = Engine::new(log.clone(), &signals).map_err(Error::Loop)?;
    let confined = policy.apply().map_err(Error::Confine)?;
    log.detail(format_args!("{confined}"));
    engine.run(&mut tasks).map_err(Error::Loop)
}

/// Lets go of whoever started the program. What it says goes to the kernel's
/// log from now on, or where there is none, as in most containers, still to
/// standard error.
///
/// The first process of a container stays what it is: with it the container
/// would end. LinuxKit's program never leaves its place either.
fn detach(log: &mut Log) -> Result<(), Error> {
    let kernel = log.to_kernel();
    if let Err(error) = &kernel {
        log.line(format_args!("-detach: /dev/kmsg: {error}; still to standard error"));
    }
    if std::process::id() != 1 {
        daemon(true, kernel.is_err()).map_err(|error| Error::Detach(error.into()))?;
    }
    Ok(())
}

/// Binds every rule that can be bound. One that cannot be stops no other.
fn bind(arguments: &Arguments, log: &Log) -> Vec<Box<dyn Task>> {
    let terms =
        Terms { gate: Rc::new(arguments.gate.clone()), limit: arguments.limit, patience: arguments.patience };
    let owner = getuid().as_raw();
    let alone = arguments.rules.iter().all(|rule| matches!(rule, Rule::Ready { .. }));
    let mut tasks: Vec<Box<dyn Task>> = Vec::new();
    for rule in &arguments.rules {
        let task: io::Result<Box<dyn Task>> = match rule {
            Rule::Forward { listen, target } => Door::bind(listen.clone(), terms.gate.file_mode(owner))
                .map(|door| Box::new(Forward::new(door, target.clone(), terms.clone())) as _),
            Rule::Syslog { source, sink } => {
                Syslog::bind(source, sink.clone()).map(|syslog| Box::new(syslog) as _)
            }
            Rule::Ready { sink } => {
                let until = alone.then(|| Instant::now() + arguments.patience);
                Ok(Box::new(Ready::new(sink.clone(), targets(&arguments.rules), until)) as _)
            }
        };
        match task {
            Ok(_) if tasks.len() == TASKS => log.line(format_args!("{rule}: too many rules; not done")),
            Ok(task) => {
                log.line(format_args!("{rule}"));
                tasks.push(task);
            }
            Err(error) => log.line(format_args!("{rule}: {error}; not done")),
        }
    }
    tasks
}

/// What has to answer before everything is in place: the targets in this
/// machine. A host that has not started its side yet is none of them.
fn targets(rules: &[Rule]) -> impl Iterator<Item = Endpoint> + '_ {
    rules.iter().filter_map(|rule| match rule {
        Rule::Forward { target: Endpoint::Vsock(..), .. } | Rule::Syslog { .. } | Rule::Ready { .. } => None,
        Rule::Forward { target, .. } => Some(target.clone()),
    })
}

/// A connection takes two descriptors. What is asked for first is often lower
/// than what may be had.
fn raise_file_limit(arguments: &Arguments, log: &Log) {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let doors = arguments.rules.iter().filter(|rule| matches!(rule, Rule::Forward { .. })).count();
    let wanted = (doors as u64).saturating_mul(arguments.limit as u64).saturating_mul(2);
    if hard < wanted {
        log.detail(format_args!(
            "open files are limited to {hard}: not all connections can be had at one time"
        ));
    }
}

fn open_pidfile(path: &Path) -> Result<File, Error> {
    let options = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path);
    options().map_err(|error| pidfile_error(path, error))
}

fn pidfile_error(path: &Path, error: io::Error) -> Error {
    Error::PidFile(path.display().to_string(), error)
}
