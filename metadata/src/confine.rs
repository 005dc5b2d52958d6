// SPDX-License-Identifier: Apache-2.0
//! What is given up before anything that strangers wrote is read: all but the
//! base directory, the network, and the few rights the plan needs.

use std::path::PathBuf;

use init::confine::{Access, Argument, BASE, Capability, Error, Grant, Policy, READ_FILES, Syscall, THREADS};

use crate::cli::Options;
use crate::debug;
use crate::http::connect::PRIVILEGED;
use crate::plan::{Plan, Step};
use crate::providers::nocloud::Seed;
use crate::providers::session::Surroundings;
use crate::providers::{Class, Row};

/// Sockets of IP and rtnetlink, and files beneath the base.
const OWN: &[Syscall] = init::syscalls![
    SYS_socket: Argument::OneOf(0, &[libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_NETLINK as u32]),
    SYS_bind,
    SYS_connect,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_sendto,
    SYS_recvfrom,
    #[cfg(target_arch = "x86_64")]
    SYS_poll,
    SYS_ppoll,
    // Making a socket blocking, and the number of an interface's name.
    SYS_ioctl: Argument::OneOf(1, &[libc::FIONBIO as u32, libc::SIOCGIFINDEX as u32]),
    SYS_openat2,
    SYS_pread64,
    SYS_mkdirat,
    SYS_fchmod,
    #[cfg(not(target_arch = "riscv64"))]
    SYS_renameat,
    SYS_renameat2,
    SYS_unlinkat,
];
/// The one call of CAP_SYS_ADMIN's.
const HOSTNAME: &[Syscall] = init::syscalls![SYS_sethostname];

/// Files that asking a service takes: names, servers, certificate authorities.
const READ: &[&str] =
    &["/etc/hosts", "/etc/resolv.conf", "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates"];

/// The rows that a plan may ask.
fn rows(plan: &Plan) -> impl Iterator<Item = &'static Row> {
    plan.steps.iter().flat_map(|step| match step {
        Step::Ask(row, _) => vec![*row],
        Step::Race { rows, .. } => rows.clone(),
        Step::File(_) => Vec::new(),
    })
}

/// Does what has to be done before, and gives up the rest.
///
/// # Errors
/// The kernel refuses something that it has: going on would be unwise.
pub fn confine(plan: &Plan, surroundings: &Surroundings, options: &Options) -> Result<(), Error> {
    rows(plan).for_each(|row| (row.prepare)());
    let policy = policy(plan, surroundings, options);
    let confined = policy.apply()?;
    debug!(surroundings.log, "{confined}");
    Ok(())
}

/// What is kept.
pub fn policy(plan: &Plan, surroundings: &Surroundings, options: &Options) -> Policy {
    // Files of the base may belong to anybody, and directories of the user's
    // be closed to their owner.
    let mut capabilities = vec![Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];
    capabilities.extend(rows(plan).flat_map(|row| row.capabilities));
    let mut calls = vec![BASE, READ_FILES, THREADS, OWN];
    if options.hostname {
        capabilities.push(Capability::CAP_SYS_ADMIN);
        calls.push(HOSTNAME);
    }
    let network = rows(plan).any(|row| row.class == Class::Network);
    let seed = Seed::of(&surroundings.facts).and_then(|seed| seed.from);
    let privileged = rows(plan).any(|row| row.capabilities.contains(&Capability::CAP_NET_BIND_SERVICE));
    Policy {
        capabilities: capabilities.leak(),
        syscalls: calls.leak(),
        grants: grants(plan, surroundings, options, network, seed.as_deref()),
        connect: if network || seed.is_some() { ports(surroundings, seed.as_deref()).leak() } else { &[] },
        bind: if privileged { PRIVILEGED.collect::<Vec<u16>>().leak() } else { &[] },
    }
}

fn grants(
    plan: &Plan,
    surroundings: &Surroundings,
    options: &Options,
    network: bool,
    seed: Option<&str>,
) -> Vec<Grant> {
    let mut read: Vec<PathBuf> = vec![surroundings.roots.sysfs.clone(), surroundings.roots.dev.clone()];
    if network || seed.is_some() {
        read.extend(READ.iter().map(PathBuf::from));
        read.extend(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
        read.extend(surroundings.leases.iter().cloned());
    }
    read.extend(
        seed.and_then(|seed| seed.strip_prefix("file://").or(Some(seed)))
            .filter(|path| path.starts_with('/'))
            .map(PathBuf::from),
    );
    for step in &plan.steps {
        if let Step::File(path) = step {
            read.push(path.clone());
        }
    }
    let base = Grant::new(Access::Manage, &options.config_dir);
    std::iter::once(base).chain(read.into_iter().map(|path| Grant::new(Access::Read, path))).collect()
}

/// Ports of services: those of HTTP and DNS, and of the addresses given.
fn ports(surroundings: &Surroundings, seed: Option<&str>) -> Vec<u16> {
    let mut ports = vec![53, 80, 443];
    ports.extend(surroundings.addresses.values().map(|url| url.port));
    let words = surroundings.facts.cmdline.words();
    let on_command_line = words.filter(|(key, _)| key.starts_with("metadata.") && key.ends_with(".url"));
    let urls = on_command_line.filter_map(|(_, value)| value).chain(seed);
    ports.extend(urls.filter_map(|url| url.parse::<crate::http::Url>().ok()).map(|url| url.port));
    ports.sort_unstable();
    ports.dedup();
    ports
}
