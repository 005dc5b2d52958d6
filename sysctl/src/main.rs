// SPDX-License-Identifier: Apache-2.0
//! Applies kernel settings from configuration files.

use std::io::{self, Write as _};
use std::process::ExitCode;

use sysctl::arguments::{Arguments, USAGE};
use sysctl::run::{complain, run};

fn main() -> ExitCode {
    match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => run(&arguments),
        Err(error) => {
            complain("error", &error);
            let _ = io::stderr().write_all(USAGE.as_bytes());
            ExitCode::from(2)
        }
    }
}
