// SPDX-License-Identifier: Apache-2.0
//! Disks at boot: the programs of the packages `format`, `mount` and `swap`.
//!
//! What is on a disk is asked of [`probe`], which disks there are of
//! [`devices`]. From both follows a list of [`step::Step`]s, which can be
//! printed (`--dry-run`) and compared, and is then carried out. The work on the
//! disk itself is left to the programs people trust with it: `sfdisk`, `mkfs.*`,
//! `e2fsck`, `cryptsetup`.

pub mod devices;
pub mod flags;
pub mod format;
pub mod mount;
pub mod probe;
pub mod step;
pub mod swap;
pub mod wait;

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Runs the program this one was called as: the first of `words`.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = words.into_iter();
    let called = words.next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let result = match name.as_str() {
        "format" => format::main(words),
        "mountie" => mount::main(words),
        "swap.sh" => swap::main(words),
        _ => Err(format!("{name}: called by none of its names: format, mountie, swap.sh").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&name, &*error);
            ExitCode::FAILURE
        }
    }
}

/// One line, with every reason behind it.
fn complain(name: &str, error: &dyn Error) {
    let mut line = format!("{name}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(&format!(": {error}"));
        source = error.source();
    }
    // Nobody may be reading; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line about what is done. A reader that has gone away is no reason to stop
/// in the middle of a disk.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
