// SPDX-License-Identifier: Apache-2.0
//! `memlogd`, `logread`, `logwrite`: see the library.

use std::io::{self, Write as _};
use std::process::ExitCode;

use memlogd::arguments::{Call, USAGE};
use memlogd::{daemon, logread, logwrite, wrap};

fn main() -> ExitCode {
    let complain = |text: String| {
        // There is nobody else to tell.
        let _ = io::stderr().write_all(text.as_bytes());
    };
    let call = match Call::parse(std::env::args_os()) {
        Ok(call) => call,
        Err((name, error)) => {
            complain(format!("{name}: {error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let (name, result) = match call {
        Call::Help => {
            let _ = io::stdout().write_all(USAGE.as_bytes());
            return ExitCode::SUCCESS;
        }
        Call::Daemon(options) => ("memlogd", daemon::run(&options).map_err(|error| error.to_string())),
        Call::Read(options) => ("logread", logread::run(&options).map_err(|error| error.to_string())),
        Call::Write(options) => ("logwrite", logwrite::run(&options).map_err(|error| error.to_string())),
        Call::Wrap(options) => match wrap::run(&options) {
            Ok(status) => return status,
            Err(error) => ("logwrite", Err(error.to_string())),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format!("{name}: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
