// SPDX-License-Identifier: Apache-2.0
//! What the program keeps while it reads the files and writes the settings.

use std::path::Path;

use init::confine::{Access, BASE, Capability, Grant, Policy, READ_FILES};

/// The capabilities that kernel code asks for behind a setting; most settings
/// need none beyond being root. The filter leaves no call but write(2) to use
/// them with, and Landlock no files but the tree.
const CAPABILITIES: &[Capability] = &[
    // Most of what is restricted: kernel.dmesg_restrict, kernel.kptr_restrict,
    // kernel.unprivileged_bpf_disabled, net.core.bpf_jit_*.
    Capability::CAP_SYS_ADMIN,
    // net.*, in the network namespace's own user namespace.
    Capability::CAP_NET_ADMIN,
    // kernel.yama.ptrace_scope
    Capability::CAP_SYS_PTRACE,
    // user.max_*
    Capability::CAP_SYS_RESOURCE,
    // vm.mmap_min_addr
    Capability::CAP_SYS_RAWIO,
    // kernel.usermodehelper.{bset,inheritable} take both.
    Capability::CAP_SYS_MODULE,
    Capability::CAP_SETPCAP,
    // kernel.apparmor_*
    Capability::CAP_MAC_ADMIN,
];

/// Reaches the tree and nothing else; the files have been read before.
/// Without `write` not even the tree can be changed.
pub fn policy(tree: &Path, write: bool) -> Policy {
    Policy {
        capabilities: if write { CAPABILITIES } else { &[] },
        syscalls: &[BASE, READ_FILES],
        grants: vec![Grant::new(if write { Access::Write } else { Access::Read }, tree)],
        ..Policy::default()
    }
}
