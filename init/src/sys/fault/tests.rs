// SPDX-License-Identifier: Apache-2.0
//! Real faults, each in a process of its own.

use std::ffi::CString;
use std::hint::black_box;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;
use crate::sys::process::fork;

/// Runs `child` with faults reported to files. Gives how it ended, and what
/// the kernel's log and the console would have had.
fn report_of(child: impl FnOnce() -> i32) -> (WaitStatus, [String; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["kmsg", "console"].map(|name| folder.path().join(name));
    let targets = paths.each_ref().map(|path| -> &'static CStr {
        std::fs::write(path, "").unwrap();
        Box::leak(CString::new(path.to_str().unwrap()).unwrap().into_boxed_c_str())
    });
    let pid = fork(|| {
        report_to(targets);
        child()
    });
    let status = waitpid(Pid::from_raw(pid.unwrap()), None).unwrap();
    (status, paths.map(|path| std::fs::read_to_string(path).unwrap()))
}

#[track_caller]
fn assert_reported(child: impl FnOnce() -> i32, signal: Signal, words: &str) {
    let (status, [kmsg, console]) = report_of(child);
    assert!(matches!(status, WaitStatus::Signaled(_, ended, _) if ended == signal), "{status:?}");
    for (line, start, end) in
        [(&kmsg, "<26>lkinit: fault in init: ", "\n"), (&console, "lkinit: fault in init: ", "\r\n")]
    {
        assert!(line.starts_with(start) && line.ends_with(end), "{line:?}");
        assert!(line.contains(words) && line.contains(signal.as_str()), "{line:?}");
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.contains("instruction 0x0"), "{line:?}");
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 512]);
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + frame[0] }
}

#[test]
fn a_bad_address() {
    let read = || {
        let nowhere = black_box(std::ptr::without_provenance::<i32>(0x1230));
        // SAFETY: none: the fault is the test.
        unsafe { nowhere.read_volatile() }
    };
    assert_reported(read, Signal::SIGSEGV, "address 0x1230");
}

#[test]
fn a_stack_that_is_used_up() {
    assert_reported(|| i32::from(recurse(0) == 1), Signal::SIGSEGV, "");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn no_instruction() {
    let undefined = || {
        // SAFETY: none: the fault is the test.
        unsafe { std::arch::asm!("ud2") };
        0
    };
    assert_reported(undefined, Signal::SIGILL, "");
}

#[test]
fn a_page_beyond_its_file() {
    let beyond = || {
        let file = tempfile::tempfile().unwrap();
        use std::os::fd::AsRawFd as _;
        // SAFETY: none: the fault is the test.
        unsafe {
            let page =
                libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
            page.cast::<i32>().read_volatile()
        }
    };
    assert_reported(beyond, Signal::SIGBUS, "");
}

#[test]
fn a_system_call_that_a_filter_traps() {
    let trapped = || {
        let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
        // Load the call's number; if it is getppid's, trap; else allow.
        let number = u32::try_from(libc::SYS_getppid).unwrap();
        let mut filter = [
            step(0x20, 0, 0),
            step(0x15, 1, number),
            step(0x06, 0, libc::SECCOMP_RET_TRAP),
            step(0x06, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: the filter is as long as the program says and outlives the
        // call, which copies it.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
            libc::getppid()
        }
    };
    assert_reported(trapped, Signal::SIGSYS, "");
}

#[test]
fn abort() {
    assert_reported(|| std::process::abort(), Signal::SIGABRT, "");
}

#[test]
fn a_panic() {
    let (status, [kmsg, console]) = report_of(|| panic!("two\nlines of {}", "text"));
    assert!(matches!(status, WaitStatus::Exited(_, 134)), "{status:?}");
    assert!(
        kmsg.starts_with("<26>lkinit: panic in init: panicked at init/src/sys/fault/tests.rs:"),
        "{kmsg:?}"
    );
    assert!(console.ends_with(": two lines of text\r\n"), "{console:?}");
}

#[test]
fn somebody_elses_signal_is_no_fault() {
    let (status, [kmsg, console]) = report_of(|| {
        // SAFETY: getpid(2) has no conditions.
        let own = unsafe { libc::getpid() };
        let sender = fork(|| {
            for fault in FAULTS {
                let _ = kill(Pid::from_raw(own), fault);
            }
            0
        });
        let sender = Pid::from_raw(sender.unwrap());
        while waitpid(sender, None) == Err(nix::errno::Errno::EINTR) {}
        7
    });
    assert!(matches!(status, WaitStatus::Exited(_, 7)), "{status:?}");
    assert_eq!((kmsg.as_str(), console.as_str()), ("", ""));
}
