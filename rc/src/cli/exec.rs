// SPDX-License-Identifier: Apache-2.0
//! `service exec NAME COMMAND...`: this process becomes the OCI runtime's
//! program, which passes signals on, hands the terminal over and ends with the
//! command's exit status. Neither the supervisor nor containerd is asked.

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use super::args::Options;
use super::ask::services;
use super::local;
use super::output::complain;
use super::service::Problem;
use crate::engine::Exec;

/// Exit status where the command could not be tried.
pub(super) const NOT_TRIED: u8 = 125;

/// Runs the command; returns only when that cannot be done.
pub(super) fn exec(options: &Options) -> ExitCode {
    let problem = match try_exec(options) {
        Problem::Usage(text) => return super::service::usage_error(&text),
        Problem::Failed(text) | Problem::Unknown(text) => text,
        Problem::NotRunning => format!(
            "{}: it does not run; `service start` starts it",
            options.words.first().map_or("", String::as_str)
        ),
        Problem::Told => return ExitCode::from(NOT_TRIED),
    };
    complain(&format!("service: exec: {problem}"));
    ExitCode::from(NOT_TRIED)
}

fn try_exec(options: &Options) -> Problem {
    let Some((name, command)) = options.words.split_first() else {
        return Problem::Usage("exec: in which service?".to_owned());
    };
    if command.is_empty() {
        return Problem::Usage("exec: which command?".to_owned());
    }
    let found = services(options);
    let Some(status) = found.services.iter().find(|status| status.name == *name) else {
        return found.unknown(name);
    };
    if status.pid.is_none() {
        return Problem::NotRunning;
    }
    let terminals = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let terminal = options.terminal.unwrap_or(terminals);
    let exec = Exec { args: command, terminal, pid_file: None };
    match local::exec_command(options, name, exec) {
        Ok(mut command) => {
            let error = command.exec();
            Problem::Failed(format!("cannot run {}: {error}", command.get_program().display()))
        }
        Err(problem) => Problem::Failed(problem),
    }
}
