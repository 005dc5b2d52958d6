// SPDX-License-Identifier: Apache-2.0
//! Where there is no vsock: the program, flags, confinement and all, with a
//! unix socket in a directory for each vsock port.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use vsudd::arguments::Arguments;
use vsudd::endpoint::Endpoint;
use vsudd::rule::Rule;

/// `--serve DIRECTORY FLAG...`
pub fn serve(directory: &Path, flags: &[String]) -> ExitCode {
    let uid = nix::unistd::getuid().as_raw();
    let mut arguments = Arguments::parse(flags.iter().map(OsString::from), uid).unwrap();
    let here = |endpoint: &mut Endpoint| {
        if let Endpoint::Vsock(_, port) = endpoint {
            *endpoint = Endpoint::Unix(directory.join(port.to_string()));
        }
    };
    for rule in &mut arguments.rules {
        match rule {
            Rule::Forward { listen, target } => {
                here(listen);
                here(target);
            }
            Rule::Syslog { sink, .. } | Rule::Ready { sink } => here(sink),
        }
    }
    vsudd::run::run(&arguments)
}
