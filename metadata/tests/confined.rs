// SPDX-License-Identifier: Apache-2.0
//! What the program can still do when it begins to ask. The program itself is
//! made to try, by ptrace(2), in the state it has put itself in; the kernel
//! answers. No copy of its rules is involved.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use init::confine::Capability;
use init::inject::Held;
use support::program::{Machine, expected};
use support::server::{Reply, Server};

const EPERM: i64 = -(libc::EPERM as i64);
const EACCES: i64 = -(libc::EACCES as i64);

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("LEFT OUT: what is given up by whom has nothing to give up: only root has");
    }
    root
}

/// Runs the program up to the point where it is confined and has asked nobody yet.
fn held(command: &Command) -> Held {
    Held::after_seccomp(command).unwrap()
}

fn status(held: &Held) -> BTreeMap<String, String> {
    let text = held.status().unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(":\t"));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn capabilities(held: &Held, set: &str) -> u64 {
    u64::from_str_radix(&status(held)[set], 16).unwrap()
}

/// Those that this user has of these.
fn of(list: &[Capability]) -> u64 {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let own = u64::from_str_radix(own, 16).unwrap();
    list.iter().map(Capability::bitmask).sum::<u64>() & own
}

/// Puts text into the program's memory, at the lower end of its stack, and
/// returns where.
fn place(held: &Held, text: &str) -> io::Result<u64> {
    let pid = &status(held)["Pid"];
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
    let start = u64::from_str_radix(stack.split('-').next().unwrap(), 16).unwrap();
    let memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"))?;
    memory.write_all_at(text.as_bytes(), start)?;
    memory.write_all_at(&[0], start + text.len() as u64)?;
    Ok(start)
}

fn open(held: &mut Held, path: &str, flags: i32) -> i64 {
    let at = place(held, path).unwrap();
    let here = (libc::AT_FDCWD as i64).cast_unsigned();
    held.call(libc::SYS_openat, [here, at, flags as u64, 0o600, 0, 0]).unwrap()
}

/// A service that says enough for a run to succeed.
fn gcp() -> Server {
    Server::start(|_| {
        Reply::json(r#"{"instance": {"id": 1, "hostname": "h"}}"#).field("Metadata-Flavor", "Google")
    })
}

fn asking_gcp(machine: &Machine, server: &Server) -> Command {
    machine.command(&["gcp", &format!("--metadata-url=gcp={}", server.base())])
}

#[test]
fn system_calls_it_does_not_need_are_refused() {
    if !root() {
        return;
    }
    let (machine, server) = (Machine::new(), gcp());
    let mut held = held(&asking_gcp(&machine, &server));
    let fields = status(&held);
    assert_eq!((fields["NoNewPrivs"].as_str(), fields["Seccomp"].as_str()), ("1", "2"));
    let inet = libc::AF_INET as u64;
    let refused: &[(&str, i64, [u64; 6])] = &[
        ("execve", libc::SYS_execve, [0; 6]),
        ("execveat", libc::SYS_execveat, [0; 6]),
        ("fork", libc::SYS_fork, [0; 6]),
        ("clone without a thread", libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [0; 6]),
        ("mount", libc::SYS_mount, [0; 6]),
        ("umount2", libc::SYS_umount2, [0; 6]),
        ("pivot_root", libc::SYS_pivot_root, [0; 6]),
        ("unshare", libc::SYS_unshare, [0; 6]),
        ("setns", libc::SYS_setns, [0; 6]),
        ("init_module", libc::SYS_init_module, [0; 6]),
        ("finit_module", libc::SYS_finit_module, [0; 6]),
        ("bpf", libc::SYS_bpf, [0; 6]),
        ("reboot", libc::SYS_reboot, [0; 6]),
        ("sethostname", libc::SYS_sethostname, [0; 6]),
        ("kill", libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, [0; 6]),
        ("chmod", libc::SYS_chmod, [0; 6]),
        ("mknod", libc::SYS_mknod, [0; 6]),
        ("symlink", libc::SYS_symlink, [0; 6]),
        ("iopl", libc::SYS_iopl, [0; 6]),
        ("ioperm", libc::SYS_ioperm, [0x5658, 4, 1, 0, 0, 0]),
        ("listen", libc::SYS_listen, [0; 6]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        ("a packet socket", libc::SYS_socket, [libc::AF_PACKET as u64, libc::SOCK_RAW as u64, 0, 0, 0, 0]),
        ("a unix socket", libc::SYS_socket, [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0]),
        ("a vsock socket", libc::SYS_socket, [libc::AF_VSOCK as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0]),
        ("another ioctl", libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0]),
        ("executable memory", libc::SYS_mmap, [0, 4096, libc::PROT_EXEC as u64, 0x22, u64::MAX, 0]),
    ];
    for (what, number, arguments) in refused {
        assert_eq!(held.call(*number, *arguments).unwrap(), EPERM, "{what}");
    }
    // What it needs still works, so a refusal above says something.
    assert!(held.call(libc::SYS_socket, [inet, libc::SOCK_STREAM as u64, 0, 0, 0, 0]).unwrap() > 2);
    assert!(held.call(libc::SYS_getpid, [0; 6]).unwrap() > 1);
    // A raw socket of an allowed family takes a capability that is gone.
    assert_eq!(held.call(libc::SYS_socket, [inet, libc::SOCK_RAW as u64, 1, 0, 0, 0]).unwrap(), EPERM);
    assert!(held.finish().unwrap().success());
    assert_eq!(machine.files(), expected(&[("provider", "GCP"), ("hostname", "h")]));
}

#[test]
fn files_outside_the_base_are_out_of_reach() {
    if !root() {
        return;
    }
    let (machine, server) = (Machine::new(), gcp());
    let mut held = held(&asking_gcp(&machine, &server));
    if !landlock() {
        eprintln!("LEFT OUT: files out of reach: this kernel has no Landlock");
        return;
    }
    let outside = machine.path("outside").display().to_string();
    std::fs::write(&outside, "x").unwrap();
    for path in ["/etc/shadow", "/proc/self/environ", "/", "/root", outside.as_str()] {
        assert_eq!(open(&mut held, path, libc::O_RDONLY), EACCES, "{path}");
    }
    let new = machine.path("new").display().to_string();
    assert_eq!(open(&mut held, &new, libc::O_CREAT | libc::O_WRONLY), EACCES);
    let device = machine.path("dev/sda").display().to_string();
    std::fs::write(&device, "disk").unwrap();
    assert_eq!(open(&mut held, &device, libc::O_WRONLY), EACCES, "disks are read only");
    assert!(open(&mut held, &device, libc::O_RDONLY) > 2);
    let inside = machine.config().join("new").display().to_string();
    assert!(open(&mut held, &inside, libc::O_CREAT | libc::O_WRONLY) > 2);
    assert!(held.finish().unwrap().success());
}

/// Whether the running kernel enforces Landlock: it tells its version.
fn landlock() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lsm").map_or(true, |list| list.contains("landlock"))
}

#[test]
fn capabilities_are_those_of_the_plan() {
    use Capability::{CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN};
    if !root() {
        return;
    }
    let server = Server::start(|_| Reply::status(404));
    let check = |provider: &str, more: &[Capability]| {
        let machine = Machine::new();
        let url = format!("--metadata-url={provider}={}", server.base());
        let held = held(&machine.command(&[provider, &url]));
        let kept = of(&[&[CAP_DAC_OVERRIDE, CAP_FOWNER], more].concat());
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(capabilities(&held, set), kept, "{provider} {set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(capabilities(&held, set), 0, "{provider} {set}");
        }
    };
    check("aws", &[]);
    check("scaleway", &[CAP_NET_BIND_SERVICE]);
    check("packet", &[CAP_NET_ADMIN]);

    // The right to set the host name is kept where that is to be done, and
    // with it the one call that it is for.
    let machine = Machine::new();
    let base = machine.path("").display().to_string();
    let mut command = Command::new(support::program::program());
    command.args(["--config-dir", &format!("{base}config"), "--cmdline", &format!("{base}cmdline")]);
    command.args(["--sysfs", &format!("{base}sys"), "file=/nonexistent"]);
    let mut held = held(&command);
    assert_eq!(capabilities(&held, "CapEff"), of(&[CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_ADMIN]));
    // A length that the kernel refuses: the call gets through and changes nothing.
    assert_eq!(
        held.call(libc::SYS_sethostname, [0, u64::MAX, 0, 0, 0, 0]).unwrap(),
        -i64::from(libc::EINVAL)
    );
    assert_eq!(held.call(libc::SYS_mount, [0; 6]).unwrap(), EPERM);
}

#[test]
fn tcp_goes_to_the_ports_of_the_plan_alone() {
    if !root() {
        return;
    }
    let (machine, server, other) = (Machine::new(), gcp(), Server::start(|_| Reply::status(404)));
    let mut held = held(&asking_gcp(&machine, &server));
    let mut connect = |port: u16| {
        let socket = held
            .call(libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0])
            .unwrap();
        let pid = status(&held)["Pid"].clone();
        let at = place(&held, "x").unwrap();
        // struct sockaddr_in for 127.0.0.1.
        let [high, low] = port.to_be_bytes();
        let address = [2, 0, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).unwrap();
        memory.write_all_at(&address, at).unwrap();
        held.call(libc::SYS_connect, [socket.unsigned_abs(), at, 16, 0, 0, 0]).unwrap()
    };
    assert_eq!(connect(server.address().port()), 0);
    match connect(other.address().port()) {
        0 => eprintln!("LEFT OUT: TCP ports: this kernel's Landlock does not govern them"),
        answer => assert_eq!(answer, EACCES),
    }
    assert!(held.finish().unwrap().success());
}
