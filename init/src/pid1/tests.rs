// SPDX-License-Identifier: Apache-2.0
//! The loop as PID 1 of a namespace of its own. What it does to programs is
//! tested with the binary, in `tests/pid1.rs`.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;
use crate::sys::heap;
use crate::sys::mount;

/// A file of a test's folder, for as long as the process lives.
fn fixed(path: PathBuf) -> &'static CStr {
    Box::leak(CString::new(path.into_os_string().into_encoded_bytes()).unwrap().into_boxed_c_str())
}

/// Runs `first` as PID 1 of new namespaces, with a `/proc` of its own. Gives how it ended.
fn as_pid_1(first: impl FnOnce() -> i32) -> WaitStatus {
    let outer = process::fork(|| {
        // A user namespace also for root: the last step makes filesystems
        // read-only, and those of the machine that runs the test are not its.
        let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER;
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let Ok(()) = unshare(flags) else { return 90 };
        let map = |file: &str, text: String| std::fs::write(format!("/proc/self/{file}"), text);
        let mapped = map("uid_map", format!("0 {user} 1"))
            .and_then(|()| map("setgroups", "deny".to_owned()))
            .and_then(|()| map("gid_map", format!("0 {group} 1")));
        let Ok(()) = mapped else { return 95 };
        let private = crate::mount::Mount::propagation("/", MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        let Ok(()) = mount(&private) else { return 91 };
        let inner = process::fork(|| {
            let proc = crate::mount::Mount::new("proc", "/proc", "nosuid,nodev,noexec");
            // Signals and reboot(2) must not get out of the namespace.
            // Nor may lines get to the consoles of the machine that runs the test.
            let dev = crate::mount::Mount::new("tmpfs", "/dev", "");
            let null = || std::fs::write("/dev/null", "");
            if mount(&proc).and(mount(&dev)).and_then(|()| null()).is_err() || std::process::id() != 1 {
                return 92;
            }
            first()
        });
        match inner.map(|pid| waitpid(Pid::from_raw(pid), None)) {
            Ok(Ok(WaitStatus::Exited(_, status))) => status,
            Ok(Ok(WaitStatus::Signaled(_, signal, _))) => 128 + signal as i32,
            _ => 93,
        }
    });
    waitpid(Pid::from_raw(outer.unwrap()), None).unwrap()
}

#[test]
fn a_forbidden_heap_is_noticed() {
    let status = as_pid_1(|| {
        heap::forbid();
        let text = String::from("heap");
        i32::from(text.len() == 3)
    });
    assert!(matches!(status, WaitStatus::Exited(_, heap::USED)), "{status:?}");
}

/// A whole life: rc.init ends in several ways and is started again, orphans of
/// all kinds are reaped and recorded, a signal asks for poweroff, rc.shutdown
/// fails, and the machine (the namespace) goes down by PID 1's own last step.
#[test]
fn the_loop_never_uses_the_heap() {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        fixed(path)
    };
    let state = folder.path().display();
    let rc = program(
        "rc.init",
        &format!(
            "test -e {state}/second && {{ test -e {state}/third && kill -USR1 1; touch {state}/third; kill -9 $$; }}
             touch {state}/second; kill -HUP 1
             (sleep 0 & true) ; (sh -c 'kill -9 $$' & true); (sh -c 'kill -40 $$' & true)
             sleep 0.7; exit 3\n"
        ),
    );
    let shutdown =
        program("rc.shutdown", &format!("echo $1 >{state}/action; kill -TERM 1; sleep 0.1; exit 1\n"));
    let console = folder.path().join("console");
    std::fs::write(&console, "").unwrap();
    let reaped = folder.path().join("reaped");
    let paths = Paths {
        rc,
        shutdown,
        console: fixed(console),
        marker: fixed(folder.path().join("shutdown")),
        reaped: Box::leak(reaped.to_str().unwrap().into()),
        watchdog: fixed(folder.path().join("watchdog")),
    };
    let cmdline = folder.path().join("cmdline");
    std::fs::write(&cmdline, "lkinit.watchdog=1").unwrap();
    let watchdog = folder.path().join("watchdog");
    std::fs::write(&watchdog, "").unwrap();
    let status = as_pid_1(|| {
        let over = crate::mount::Mount::bind(&cmdline, "/proc/cmdline");
        let Ok(()) = mount(&over) else { return 96 };
        let Ok(mut init) = Init::new(paths) else { return 94 };
        heap::forbid();
        loop {
            init.turn();
        }
    });
    // poweroff in a namespace is SIGINT for its PID 1 (reboot(2)).
    assert!(matches!(status, WaitStatus::Exited(_, 130)), "{status:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("action")).unwrap(), "poweroff\n");
    assert!(std::fs::read(&watchdog).unwrap().len() >= 2, "the watchdog was not fed");
    let records = reaped::records(&reaped).unwrap();
    // The last step, too, ended the machine and not itself.
    assert!(records.iter().all(|record| record.status.code() != Some(heap::USED)), "{records:?}");
    assert!(records.len() >= 7, "{records:?}");
    assert!(records.iter().all(|record| record.start_time > 0), "{records:?}");
    let signals: Vec<_> = records
        .iter()
        .filter_map(|record| std::os::unix::process::ExitStatusExt::signal(&record.status))
        .collect();
    assert!(signals.contains(&9) && signals.contains(&40), "{records:?}");
    assert!(records.iter().any(|record| record.status.code() == Some(3)), "{records:?}");
}
