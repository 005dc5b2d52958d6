// SPDX-License-Identifier: Apache-2.0
//! Taking the machine down, because of something it cannot be without.

use std::io;
use std::path::Path;
use std::process::Command;

use super::policy::TakeDown;
use crate::paths;
use crate::reaper::Reaper;

/// Begins to take the machine down, by the program that a person would use:
/// the supervisor is asked to do its part as always. Where that has begun
/// already, nothing is done.
///
/// # Errors
/// Those of running this program.
pub(crate) fn begin(reaper: &Reaper, how: TakeDown) -> io::Result<()> {
    if Path::new(paths::SHUTDOWN).exists() {
        return Ok(());
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["rc.shutdown", how.word()]).env(crate::cli::APPLET, "1");
    reaper.spawn(&mut command).map(drop)
}
