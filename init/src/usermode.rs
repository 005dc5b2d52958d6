// SPDX-License-Identifier: Apache-2.0
//! `/sbin/usermode-helper`: the one program that a kernel built with
//! `CONFIG_STATIC_USERMODEHELPER_PATH` runs for itself.
//!
//! The kernel executes this path whatever it wants done, and leaves the name
//! of the program it means in the first word: a bug that lets someone choose
//! that name (`/proc/sys/kernel/core_pattern` and its like) ends here.

use std::ffi::{CStr, CString};

use crate::log::Log;
use crate::sys::process;

/// What the kernel may run.
const ALLOWED: [&CStr; 4] = [c"/sbin/mdev", c"/sbin/modprobe", c"/sbin/poweroff", c"/sbin/reboot"];

/// The exit status of a refusal.
const REFUSED: i32 = 2;
/// The exit status when an allowed program cannot be run, as shells have it.
const NOT_RUN: i32 = 127;

/// The program that the first word names, if the kernel may run it.
fn allowed(name: &CStr) -> Option<&'static CStr> {
    ALLOWED.into_iter().find(|program| *program == name)
}

/// Becomes the program that the first word names, or says no. Gives the exit
/// status when there is nothing to become.
pub fn run(words: &[CString]) -> i32 {
    let mut log = Log::default();
    let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let name = words.first().copied().unwrap_or_default();
    let Some(program) = allowed(name) else {
        log.record(format_args!("usermode-helper: refused to run {}", name.to_string_lossy()));
        return REFUSED;
    };
    let error = process::exec(program, &words);
    log.record(format_args!("usermode-helper: running {}: {error}", name.to_string_lossy()));
    NOT_RUN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_programs_and_their_whole_names_only() {
        for name in ALLOWED {
            assert_eq!(allowed(name), Some(name));
        }
        for name in [c"", c"modprobe", c"/sbin/modprobe ", c"/sbin/../sbin/modprobe", c"/bin/sh", c"/sbin/"] {
            assert_eq!(allowed(name), None, "{name:?}");
        }
    }
}
