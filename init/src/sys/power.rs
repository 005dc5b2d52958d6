// SPDX-License-Identifier: Apache-2.0
//! The last step of a machine: reboot(2).

use std::fmt;
use std::io;
use std::str::FromStr;

use nix::sys::reboot::{RebootMode, reboot};

/// What the machine does when everything is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// Switch the power off.
    Poweroff,
    /// Start again.
    Reboot,
    /// Stop, power on.
    Halt,
    /// Nothing: the caller does the last step.
    Noop,
}

impl PowerAction {
    /// The word of the command line of `rc.shutdown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Noop => "noop",
        }
    }
}

impl fmt::Display for PowerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PowerAction {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Poweroff, Self::Reboot, Self::Halt, Self::Noop]
            .into_iter()
            .find(|action| action.as_str() == word)
            .ok_or(())
    }
}

/// Writes what is dirty to the disks: sync(2).
pub fn sync() {
    nix::unistd::sync();
}

/// Ends the machine. Returns only on an error, or at once for `Noop`.
///
/// # Errors
/// The kernel's: EPERM without CAP_SYS_BOOT.
pub fn finish(action: PowerAction) -> io::Result<()> {
    let mode = match action {
        PowerAction::Poweroff => RebootMode::RB_POWER_OFF,
        PowerAction::Reboot => RebootMode::RB_AUTOBOOT,
        PowerAction::Halt => RebootMode::RB_HALT_SYSTEM,
        PowerAction::Noop => return Ok(()),
    };
    match reboot(mode) {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}

/// Whether ctrl-alt-del restarts at once (`true`) or sends SIGINT to PID 1 (`false`).
///
/// # Errors
/// The kernel's.
pub fn set_ctrl_alt_del(at_once: bool) -> io::Result<()> {
    Ok(nix::sys::reboot::set_cad_enabled(at_once)?)
}
