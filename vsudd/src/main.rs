// SPDX-License-Identifier: Apache-2.0
//! Joins vsock ports with unix sockets.

use std::io::{self, Write as _};
use std::process::ExitCode;

use vsudd::arguments::{Arguments, USAGE};
use vsudd::run::run;

fn main() -> ExitCode {
    let uid = nix::unistd::getuid().as_raw();
    match Arguments::parse(std::env::args_os().skip(1), uid) {
        Ok(arguments) => run(&arguments),
        Err(error) => {
            let _ = io::stderr().write_all(format!("vsudd: {error}\n{USAGE}").as_bytes());
            ExitCode::from(2)
        }
    }
}
