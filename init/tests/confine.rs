// SPDX-License-Identifier: Apache-2.0
//! Confinement tried on a real process: this program starts itself again for
//! each case, confines itself there and tries what must fail and what must
//! still work. Without libtest, which runs tests in threads: a process must be
//! confined while it has one.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use init::confine::{
    Access, Argument, BASE, Capability, Confined, Error, Grant, Landlock, Policy, READ_FILES, Seccomp,
    Syscall, THREADS,
};
use init::inject::Held;
use nix::libc;

/// What the test program itself needs to try things out.
const PROBE: &[Syscall] = init::syscalls![
    SYS_ftruncate,
    SYS_unlink,
    SYS_unlinkat,
    SYS_mkdir,
    SYS_bind,
    SYS_listen,
    SYS_connect,
    SYS_setsockopt,
    SYS_getsockname,
    SYS_kill,
    SYS_ioctl,
    SYS_socket: Argument::OneOf(0, &[libc::AF_INET as u32]),
];

type Case = (&'static str, fn(&Path));
/// A case has a part that runs confined, in a child; it panics on failure.
const CASES: &[Case] = &[
    ("forbidden_calls_fail_and_the_program_lives", forbidden_calls),
    ("every_capability_set_is_cut_down", capability_sets),
    ("threads_can_be_started_and_processes_cannot", threads),
    ("a_process_with_threads_is_refused_untouched", refuses_threads),
    ("files_outside_the_grants_are_out_of_reach", files),
    ("tcp_ports_and_signals_are_out_of_reach", network_and_signals),
    ("a_missing_grant_is_reported", missing_grant),
    ("injected_calls_are_refused_by_the_kernel", |_| {}),
    ("a_policy_can_be_printed", printed),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some([_, name, directory]) = arguments.windows(3).find(|words| words[0] == "--case") {
        let (_, case) = CASES.iter().find(|(case, _)| case == name).expect("the name of a case");
        case(Path::new(directory));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, _) in CASES {
        let directory = tempfile::tempdir().unwrap();
        let command = child(name, directory.path());
        let passed = if name.starts_with("injected") { inject(directory.path()) } else { run(command) };
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    println!("{} passed, {failed} failed", CASES.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn child(case: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--case", case]).arg(directory);
    command
}

fn run(mut command: Command) -> bool {
    command.status().unwrap().success()
}

fn apply(policy: &Policy) -> Confined {
    let confined = policy.apply().unwrap();
    assert!(matches!(confined.seccomp, Seccomp::Enforced { .. }), "no seccomp here: nothing is tested");
    confined
}

/// True when the running kernel enforces version `abi` of Landlock; says so loudly when not.
fn landlock(confined: &Confined, abi: i32, left_out: &str) -> bool {
    let (Landlock::Enforced { abi: has } | Landlock::Partial { abi: has }) = confined.landlock else {
        eprintln!("LEFT OUT: {left_out}: this kernel has no Landlock");
        return false;
    };
    if has < abi {
        eprintln!("LEFT OUT: {left_out}: this kernel has Landlock {has}, it takes {abi}");
    }
    has >= abi
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

/// The lines of `/proc/self/status`, read beforehand or by a policy that grants it.
fn status(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(":\t")).collect()
}

fn forbidden_calls(_: &Path) {
    let policy = Policy {
        syscalls: &[BASE, READ_FILES],
        grants: vec![Grant::new(Access::Read, "/proc/self/status")],
        ..Policy::default()
    };
    let confined = apply(&policy);
    assert_eq!(nix::unistd::sethostname("refused"), Err(nix::Error::EPERM));
    assert_eq!(nix::unistd::chdir("/"), Err(nix::Error::EPERM));
    assert_eq!(errno(TcpListener::bind("127.0.0.1:0")), libc::EPERM);
    assert_eq!(errno(fs::write("/proc/self/status", "")), libc::EACCES);
    let text = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(status(&text)["Seccomp"], "2");
    assert_eq!(status(&text)["NoNewPrivs"], "1");
    let Seccomp::Enforced { allowed } = confined.seccomp else { unreachable!() };
    assert_eq!(allowed, BASE.len() + READ_FILES.len());
}

fn capability_sets(_: &Path) {
    let mine = caps::read(None, caps::CapSet::Permitted).unwrap();
    let keep = &[Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN];
    let policy = Policy {
        capabilities: keep,
        syscalls: &[BASE, READ_FILES],
        grants: vec![Grant::new(Access::Read, "/proc/self/status")],
        ..Policy::default()
    };
    let confined = apply(&policy);
    let kept = keep.iter().filter(|capability| mine.contains(capability));
    let kept: u64 = kept.map(Capability::bitmask).sum();
    if kept == 0 {
        eprintln!("LEFT OUT: keeping capabilities: this user has none");
    }
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let set = |name| u64::from_str_radix(status(&text)[name], 16).unwrap();
    assert_eq!((set("CapPrm"), set("CapEff"), set("CapInh"), set("CapAmb")), (kept, kept, 0, 0));
    assert_eq!(confined.bounded, mine.contains(&Capability::CAP_SETPCAP));
    if confined.bounded {
        assert_eq!(set("CapBnd"), kept);
    }
}

fn threads(_: &Path) {
    let _ = apply(&Policy { syscalls: &[BASE, THREADS], ..Policy::default() });
    assert_eq!(std::thread::spawn(|| errno(fs::read("/"))).join().unwrap(), libc::EPERM);
    assert_eq!(errno(Command::new("/bin/true").spawn()), libc::EPERM);
}

fn refuses_threads(_: &Path) {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv().is_err());
    assert!(matches!(Policy::default().apply(), Err(Error::Threads)));
    drop(stop);
    assert!(thread.join().unwrap());
    let text = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!((status(&text)["Seccomp"], status(&text)["NoNewPrivs"]), ("0", "0"));
}

fn files(directory: &Path) {
    let path = |name: &str| -> PathBuf { directory.join(name) };
    for name in ["read", "write", "manage"] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("file"), "text").unwrap();
    }
    fs::write(path("alone"), "text").unwrap();
    fs::write(path("outside"), "text").unwrap();
    let policy = Policy {
        syscalls: &[BASE, READ_FILES, PROBE],
        grants: vec![
            Grant::new(Access::Read, path("read")),
            Grant::new(Access::Write, path("write")),
            Grant::new(Access::Manage, path("manage")),
            // A file takes no directory's rights: these are left out of the rule.
            Grant::new(Access::Manage, path("alone")),
        ],
        ..Policy::default()
    };
    let confined = apply(&policy);
    if !landlock(&confined, 1, "files out of reach") {
        return;
    }
    let kind = |result: io::Result<()>| result.err().map(|error| error.kind());
    let denied = Some(ErrorKind::PermissionDenied);
    let write = |path: PathBuf| fs::OpenOptions::new().write(true).open(path).map(drop);
    assert_eq!(kind(fs::read(path("read/file")).map(drop)), None);
    assert_eq!(kind(write(path("read/file"))), denied);
    assert_eq!(kind(write(path("write/file"))), None);
    assert_eq!(kind(fs::write(path("write/new"), "")), denied);
    assert_eq!(kind(fs::remove_file(path("write/file"))), denied);
    assert_eq!(kind(fs::write(path("manage/new"), "text")), None);
    assert_eq!(kind(fs::create_dir(path("manage/directory"))), None);
    assert_eq!(kind(fs::remove_file(path("manage/new"))), None);
    assert_eq!(kind(write(path("alone"))), None);
    assert_eq!(kind(fs::read(path("outside")).map(drop)), denied);
    assert_eq!(kind(fs::read_dir(directory).map(drop)), denied);
    assert_eq!(kind(fs::read("/etc/passwd").map(drop)), denied);
    if landlock(&confined, 3, "truncation out of reach") {
        assert_eq!(kind(fs::write(path("write/file"), "")), None);
        assert_eq!(kind(fs::OpenOptions::new().append(true).open(path("read/file")).map(drop)), denied);
    }
}

fn network_and_signals(_: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Asked before: the filter will refuse getppid(2).
    let parent = nix::unistd::Pid::parent();
    let policy = Policy {
        syscalls: &[BASE, READ_FILES, PROBE],
        // Nothing listens there, and being told so takes the right to ask.
        connect: &[1],
        ..Policy::default()
    };
    let confined = apply(&policy);
    if landlock(&confined, 4, "TCP ports out of reach") {
        // Or no loopback interface, in a bare machine: not for Landlock to say.
        let allowed = errno(TcpStream::connect(("127.0.0.1", 1)));
        assert!([libc::ECONNREFUSED, libc::ENETUNREACH].contains(&allowed), "{allowed}");
        assert_eq!(errno(TcpStream::connect(("127.0.0.1", port))), libc::EACCES);
        assert_eq!(errno(TcpListener::bind("127.0.0.1:0")), libc::EACCES);
    }
    if landlock(&confined, 6, "signals out of reach") {
        assert_eq!(nix::sys::signal::kill(parent, None), Err(nix::Error::EPERM));
    }
}

fn missing_grant(directory: &Path) {
    let absent = directory.join("absent");
    let policy =
        Policy { syscalls: &[BASE], grants: vec![Grant::new(Access::Read, &absent)], ..Policy::default() };
    let confined = apply(&policy);
    assert_eq!(confined.missing, [absent]);
    assert!(confined.to_string().contains("absent does not exist"), "{confined}");
}

fn printed(_: &Path) {
    let policy = Policy {
        capabilities: &[Capability::CAP_SYS_ADMIN],
        syscalls: &[THREADS],
        grants: vec![Grant::new(Access::Write, "/proc/sys")],
        connect: &[80],
        ..Policy::default()
    };
    let text = policy.to_string();
    for line in ["keep capabilities: CAP_SYS_ADMIN", "allow write: /proc/sys", "connect to ports: 80"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("bind to ports: none"), "{text}");
    assert!(text.contains("clone(argument 0 with 0x10000) clone3"), "{text}");
}

/// The injector on a program whose answers are known: the case that starts threads.
fn inject(directory: &Path) -> bool {
    let mut held =
        Held::after_seccomp(&child("threads_can_be_started_and_processes_cannot", directory)).unwrap();
    let refused = -i64::from(libc::EPERM);
    let text = held.status().unwrap();
    assert_eq!(status(&text)["Seccomp"], "2");
    // Calls without side effects, should they be let through.
    assert_eq!(held.call(libc::SYS_getppid, [0; 6]).unwrap(), refused);
    assert_eq!(held.call(libc::SYS_umask, [0o22, 0, 0, 0, 0, 0]).unwrap(), refused);
    let (read, execute, private) = (libc::PROT_READ as u64, libc::PROT_EXEC as u64, 0x22);
    let none = u64::MAX;
    assert_eq!(held.call(libc::SYS_mmap, [0, 4096, read | execute, private, none, 0]).unwrap(), refused);
    assert!(held.call(libc::SYS_mmap, [0, 4096, read, private, none, 0]).unwrap() > 0);
    assert_eq!(held.call(libc::SYS_clone3, [0; 6]).unwrap(), -i64::from(libc::ENOSYS));
    assert_eq!(held.call(libc::SYS_clone, [0x11, 0, 0, 0, 0, 0]).unwrap(), refused);
    // The x32 table's numbers are not the 64-bit table's.
    assert_eq!(held.call(libc::SYS_getpid | 0x4000_0000, [0; 6]).unwrap(), refused);
    assert!(held.call(libc::SYS_getpid, [0; 6]).unwrap() > 1);
    // And the program goes on where it was, undisturbed.
    held.finish().unwrap().success()
}
