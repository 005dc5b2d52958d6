// SPDX-License-Identifier: Apache-2.0
//! One binary, three programs: which one this is.

use std::ffi::{CStr, CString};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use crate::sys::{process, start};
use crate::{pid1, root, usermode};

/// The programs of the binary `init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `/init`, the first program of an initrd.
    FirstProgram,
    /// `/sbin/init`, PID 1.
    Pid1,
    /// `/sbin/usermode-helper`.
    UsermodeHelper,
    /// `init`, called by hand.
    NotFirst,
}

/// Chooses by the path that was executed and not by the first word: that is
/// what the kernel wants done, when it calls its usermode helper.
fn role(executed: &CStr, pid: u32) -> Role {
    let path = Path::new(std::ffi::OsStr::from_bytes(executed.to_bytes()));
    if path.file_name().is_some_and(|name| name == "usermode-helper") {
        Role::UsermodeHelper
    } else if pid != 1 {
        Role::NotFirst
    } else if path == Path::new("/init") {
        Role::FirstProgram
    } else {
        Role::Pid1
    }
}

/// Runs the program that this process was executed as. Gives its exit status;
/// as PID 1 only where it cannot go on.
pub fn main() -> i32 {
    start::fill_stdio();
    let words = || -> Vec<CString> {
        std::env::args_os().filter_map(|word| CString::new(word.into_vec()).ok()).collect()
    };
    match role(process::executed_as().unwrap_or_default(), std::process::id()) {
        Role::FirstProgram => root::run(&words()),
        Role::Pid1 => pid1::run(),
        Role::UsermodeHelper => usermode::run(&words()),
        Role::NotFirst => {
            let text =
                "init: runs as the first process only (PID 1); did you mean poweroff, reboot or rc.shutdown?";
            let _ = writeln!(std::io::stderr(), "{text}");
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executed_path_decides() {
        assert_eq!(role(c"/init", 1), Role::FirstProgram);
        assert_eq!(role(c"/sbin/init", 1), Role::Pid1);
        assert_eq!(role(c"/lib/other/name", 1), Role::Pid1);
        assert_eq!(role(c"", 1), Role::Pid1);
        assert_eq!(role(c"/init", 2), Role::NotFirst);
        assert_eq!(role(c"/sbin/init", 17), Role::NotFirst);
        assert_eq!(role(c"/sbin/usermode-helper", 17), Role::UsermodeHelper);
    }
}
