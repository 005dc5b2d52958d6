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

/// Makes a shell script of a test's folder.
fn program(folder: &Path, name: &str, text: &str) -> &'static CStr {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    fixed(path)
}

/// The files of a PID 1 with these programs; its watchdog is a file that grows
/// by a byte each time it is fed, and is asked for by the command line `cmdline`.
fn paths(folder: &Path, rc: &'static CStr, shutdown: &'static CStr) -> Paths {
    for (name, text) in [("console", ""), ("watchdog", ""), ("cmdline", "lkinit.watchdog=1")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    Paths {
        rc,
        shutdown,
        console: fixed(folder.join("console")),
        marker: fixed(folder.join("shutdown")),
        reaped: Box::leak(folder.join("reaped").to_str().unwrap().into()),
        watchdog: fixed(folder.join("watchdog")),
    }
}

/// Is PID 1 until its namespace ends.
fn live(folder: &Path, paths: Paths, change: impl FnOnce(&mut Init)) -> i32 {
    let over = crate::mount::Mount::bind(folder.join("cmdline"), "/proc/cmdline");
    let Ok(()) = mount(&over) else { return 96 };
    let Ok(mut init) = Init::new(paths) else { return 94 };
    change(&mut init);
    heap::forbid();
    loop {
        init.turn();
    }
}

/// rc.shutdown touches its file for a while and hangs then: the watchdog is
/// fed as long as the former, and not much longer.
#[test]
fn a_shutdown_that_goes_on_is_left_alone_and_one_that_hangs_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let state = folder.display();
    let rc = program(folder, "rc.init", "kill -HUP 1; sleep 0.2; kill -USR1 1; sleep 100\n");
    let text = format!(
        "fed() {{ wc -c <{state}/watchdog >>{state}/fed; }}
         for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
             touch {state}/shutdown; sleep 0.5
             test $i = 8 && fed
         done
         fed; sleep 5; fed; sleep 1.5; fed
         exit 1\n"
    );
    let shutdown = program(folder, "rc.shutdown", &text);
    let paths = paths(folder, rc, shutdown);
    let status = as_pid_1(|| live(folder, paths, |init| init.policy.patience = Duration::from_secs(3)));
    assert!(matches!(status, WaitStatus::Exited(_, 130)), "{status:?}");
    let fed = std::fs::read_to_string(folder.join("fed")).unwrap();
    let fed: Vec<u32> = fed.lines().map(|line| line.trim().parse().unwrap()).collect();
    let [at_4, at_6, at_11, at_12] = fed[..] else { panic!("{fed:?}") };
    assert!(at_6 > at_4, "not fed though the way down went on: {fed:?}");
    assert!(at_11 > at_6 && at_12 == at_11, "fed though it hung: {fed:?}");
}

/// A whole life: rc.init ends in several ways and is started again, orphans of
/// all kinds are reaped and recorded, a signal asks for poweroff, rc.shutdown
/// fails, and the machine (the namespace) goes down by PID 1's own last step.
#[test]
fn the_loop_never_uses_the_heap() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let state = folder.display();
    // It ends when it is one: a shell may reap a child that ends before it does.
    let orphan = format!(
        "until grep -q '^PPid:.1$' /proc/$$/status; do sleep 0.01; done\n\
         echo $$ >>{state}/orphans\nkill -$1 $$\n"
    );
    let orphan = program(folder, "orphan", &orphan);
    let orphan = orphan.to_str().unwrap();
    let rc = program(
        folder,
        "rc.init",
        &format!(
            "test -e {state}/second && {{ test -e {state}/third && kill -USR1 1; touch {state}/third; kill -9 $$; }}
             touch {state}/second; kill -HUP 1
             for number in 0 9 40; do ({orphan} $number & true); done
             until [ \"$(wc -l <{state}/orphans)\" = 3 ]; do sleep 0.05; done 2>/dev/null
             for orphan in $(cat {state}/orphans); do while [ -e /proc/$orphan ]; do sleep 0.05; done; done
             sleep 0.7; exit 3\n"
        ),
    );
    let text = format!("echo $1 >{state}/action; kill -TERM 1; sleep 0.1; exit 1\n");
    let shutdown = program(folder, "rc.shutdown", &text);
    let paths = paths(folder, rc, shutdown);
    let status = as_pid_1(|| live(folder, paths, |_| ()));
    // poweroff in a namespace is SIGINT for its PID 1 (reboot(2)).
    assert!(matches!(status, WaitStatus::Exited(_, 130)), "{status:?}");
    assert_eq!(std::fs::read_to_string(folder.join("action")).unwrap(), "poweroff\n");
    assert!(std::fs::read(folder.join("watchdog")).unwrap().len() >= 2, "the watchdog was not fed");
    let records = reaped::records(&folder.join("reaped")).unwrap();
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
