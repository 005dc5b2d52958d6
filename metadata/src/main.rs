// SPDX-License-Identifier: Apache-2.0
//! The program: see the library.

use std::io::Write as _;
use std::process::ExitCode;

use metadata::cli::{self, Command};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => {
            // Whoever reads no further has read enough.
            let _ = std::io::stdout().write_all(cli::USAGE.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Run(options)) => ExitCode::from(metadata::run::run(*options)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
