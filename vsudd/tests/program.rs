// SPDX-License-Identifier: Apache-2.0
//! The program itself: its flags, what it prints, and what it can no longer do
//! once it forwards. No vsock is needed: a listening unix socket binds none.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::process::{Command, Output};

use init::inject::Held;
use nix::libc;

fn vsudd(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsudd"));
    command.args(flags);
    command
}

fn text(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn run(flags: &[&str]) -> (i32, String, String) {
    text(&vsudd(flags).output().unwrap())
}

#[test]
fn the_plan_is_printed_and_nothing_done() {
    let (status, out, err) = run(&[
        "-plan",
        "-inport",
        "00000946-facb-11e6-bd58-64006a7986d3:unix:/run/containerd/containerd.sock",
        "--outport=/run/host.sock:80",
        "-inport=7:udp:/x",
        "-syslog",
        "514:/dev/log",
        "-ready=9000",
        "-allow-cid=any",
    ]);
    assert_eq!(status, 0);
    assert_eq!(
        err,
        "vsudd: -inport 7:udp:/x: not done: \"udp\" is no kind of target: there are unix, unixgram and tcp\n"
    );
    assert!(
        out.starts_with(
            "forward vsock::2374 to unix:/run/containerd/containerd.sock\n\
             forward unix:/run/host.sock to vsock:2:80\n\
             send messages from unixgram:/dev/log to vsock:2:514\n\
             tell vsock:2:9000 when everything is in place\n\
             connections from CID: any\n\
             connections from user: 0\n\
             connections of one rule: at most 4096\n\
             keep capabilities: none\n"
        ),
        "{out}"
    );
    assert!(!std::path::Path::new("/run/host.sock").exists());
}

#[test]
fn mistakes_have_their_own_status() {
    let (status, out, err) = run(&["-inports", "1:unix:/a"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.starts_with("vsudd: invalid option '--inports'\nusage: vsudd"), "{err}");
    let (status, _, err) = run(&["-outport", "/nowhere/s:1"]);
    assert_eq!(status, 1);
    assert!(
        err.starts_with("vsudd: forward unix:/nowhere/s to vsock:2:1: No such file or directory"),
        "{err}"
    );
    assert!(err.contains("nothing to do"), "{err}");
    let (status, out, err) = run(&["-help"]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("-inport PORT:unix:PATH"));
}

#[test]
fn a_program_that_forwards_can_do_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let rule = format!("{}:1", socket.display());
    let mut held = Held::after_seccomp(&vsudd(&["-outport", &rule])).unwrap();

    let status = held.status().unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()));

    let refused = -i64::from(libc::EPERM);
    let zero = [0; 6];
    for (name, number, arguments) in [
        ("openat", libc::SYS_openat, zero),
        ("execve", libc::SYS_execve, zero),
        ("execveat", libc::SYS_execveat, zero),
        ("fork", libc::SYS_fork, zero),
        ("clone", libc::SYS_clone, zero),
        ("bind", libc::SYS_bind, zero),
        ("listen", libc::SYS_listen, zero),
        ("sendmsg", libc::SYS_sendmsg, zero),
        ("unlink", libc::SYS_unlink, zero),
        ("mount", libc::SYS_mount, zero),
        ("ptrace", libc::SYS_ptrace, zero),
        ("kill", libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, zero),
        ("init_module", libc::SYS_init_module, zero),
        ("bpf", libc::SYS_bpf, zero),
        ("io_uring_setup", libc::SYS_io_uring_setup, zero),
        ("executable memory", libc::SYS_mmap, [0, 4096, 7, 0x22, u64::MAX, 0]),
        ("an IPv4 socket", libc::SYS_socket, [2, 1, 0, 0, 0, 0]),
        ("a raw packet socket", libc::SYS_socket, [17, 3, 0, 0, 0, 0]),
        ("a netlink socket", libc::SYS_socket, [16, 3, 0, 0, 0, 0]),
    ] {
        assert_eq!(held.call(number, arguments).unwrap(), refused, "{name}");
    }
    // What forwarding takes still works.
    for family in [1, 40] {
        assert!(held.call(libc::SYS_socket, [family, 1, 0, 0, 0, 0]).unwrap() >= 0, "family {family}");
    }
}

#[test]
fn a_tcp_target_opens_tcp_and_a_datagram_target_bind_and_nothing_more() {
    let (_, plan, _) = run(&["-plan", "-inport", "1:tcp:127.0.0.1:80", "-inport", "2:unixgram:/a"]);
    assert!(plan.contains("\nallow TCP connect to ports: 80\n"), "{plan}");
    assert!(plan.contains(" socket(argument 0 one of 0x2 0xa)"), "{plan}");
    assert!(plan.trim_end().ends_with(" bind"), "{plan}");
}
