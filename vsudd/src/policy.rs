// SPDX-License-Identifier: Apache-2.0
//! What the program keeps once everything is bound: no capability, no file,
//! the sockets it needs.

use init::confine::{Argument, BASE, Policy, Syscall};
use nix::libc;

use crate::endpoint::Endpoint;
use crate::rule::Rule;

/// Moving bytes and waiting. Sockets can be made of the families that every
/// rule may need; nothing can be bound or opened.
const FORWARD: &[Syscall] = init::syscalls![
    SYS_sched_yield,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    SYS_epoll_wait,
    SYS_inotify_init1,
    SYS_inotify_add_watch,
    SYS_accept4,
    SYS_socket: Argument::OneOf(0, &[libc::AF_UNIX as u32, libc::AF_VSOCK as u32]),
    SYS_connect,
    SYS_recvfrom,
    SYS_sendto,
    SYS_shutdown,
    SYS_getsockopt,
    SYS_setsockopt,
];

/// For TCP targets.
const TCP: &[Syscall] = init::syscalls![
    SYS_socket: Argument::OneOf(0, &[libc::AF_INET as u32, libc::AF_INET6 as u32]),
];

/// For datagram targets: a socket of ours needs an address to be answered at.
const DATAGRAM: &[Syscall] = init::syscalls![SYS_bind];

/// What these rules need.
pub fn policy(rules: &[Rule]) -> Policy {
    let targets = || {
        rules.iter().filter_map(|rule| match rule {
            Rule::Forward { target, .. } => Some(target),
            Rule::Syslog { .. } | Rule::Ready { .. } => None,
        })
    };
    let ports: Vec<u16> = targets()
        .filter_map(|target| match target {
            Endpoint::Tcp(address) => Some(address.port()),
            Endpoint::Vsock(..) | Endpoint::Unix(_) | Endpoint::Datagram(_) => None,
        })
        .collect();
    let mut syscalls = vec![BASE, FORWARD];
    if !ports.is_empty() {
        syscalls.push(TCP);
    }
    if targets().any(|target| matches!(target, Endpoint::Datagram(_))) {
        syscalls.push(DATAGRAM);
    }
    // Once, for as long as the program runs.
    Policy { syscalls: syscalls.leak(), connect: ports.leak(), ..Policy::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_of(rules: &[&str]) -> Policy {
        policy(&rules.iter().map(|rule| Rule::inport(rule).unwrap()).collect::<Vec<_>>())
    }

    fn allows(policy: &Policy, name: &str) -> usize {
        policy.syscalls.iter().copied().flatten().filter(|call| call.name() == name).count()
    }

    #[test]
    fn no_more_than_the_rules_need() {
        let unix = policy_of(&["1:unix:/a"]);
        assert!(unix.capabilities.is_empty() && unix.grants.is_empty() && unix.connect.is_empty());
        for call in ["bind", "listen", "openat", "execve", "clone", "kill", "ptrace", "sendmsg"] {
            assert_eq!(allows(&unix, call), 0, "{call}");
        }
        assert_eq!(allows(&unix, "socket"), 1);
        let more = policy_of(&["1:unix:/a", "2:tcp:127.0.0.1:80", "3:unixgram:/b"]);
        assert_eq!((allows(&more, "socket"), allows(&more, "bind"), more.connect), (2, 1, &[80][..]));
    }
}
