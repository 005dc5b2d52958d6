// SPDX-License-Identifier: Apache-2.0
//! One program by several names: which one this call is.

mod args;
mod ask;
mod boot;
mod events;
mod exec;
mod local;
mod logs;
mod output;
mod service;
mod status;
mod table;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub(crate) use output::complain;
use output::show;

/// Set in the environment, the name of the program is its first argument:
/// `/proc/self/exe` cannot be called by another name.
pub const APPLET: &str = "LKINIT_APPLET";

/// Does what the program was called for.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let mut called = arguments.next().unwrap_or_default();
    if std::env::var_os(APPLET).is_some() {
        called = arguments.next().unwrap_or_default();
    }
    let name = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.as_str() {
        "rc.init" => rc_init(arguments),
        "modprobe" => crate::modules::modprobe_main(arguments),
        crate::logs::NAME => crate::logs::logger::main(arguments),
        "rc.shutdown" => crate::shutdown::main(arguments),
        name => service::main(name, arguments),
    }
}

fn rc_init(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        None => crate::boot::main(),
        Some("--plan" | "-plan") => {
            show(&crate::boot::print_plan());
            ExitCode::SUCCESS
        }
        Some("--help" | "-h") => {
            show("usage: rc.init [--plan]\n\nBoots the machine; with --plan, prints what a boot would do.\n");
            ExitCode::SUCCESS
        }
        Some(other) => {
            complain(&format!("rc.init: unknown argument {other:?}\nusage: rc.init [--plan]"));
            ExitCode::from(2)
        }
    }
}
