// SPDX-License-Identifier: Apache-2.0
//! The kernel seam: one place for each system call, and the only place of the
//! project with `unsafe` code.

#![allow(unsafe_code)]

pub mod backdoor;
pub mod clock;
pub mod cpu;
pub mod fault;
#[cfg(test)]
pub mod heap;
pub mod memory;
pub mod module;
pub mod namespace;
pub mod pass;
pub mod pipe;
pub mod power;
pub mod process;
pub mod signal;
pub mod start;
pub mod swap;
pub mod tty;
pub mod uevent;
pub mod vsock;
pub mod watchdog;
pub mod xattr;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::mount::MntFlags;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use crate::action::{Action, Kernel, Limit, Node};
use crate::mount::Mount;

/// The running kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

impl Kernel for Linux {
    fn apply(&self, action: &Action) -> io::Result<()> {
        match action {
            Action::MakeDir { path, mode } => make_dir(path, *mode),
            Action::Symlink { path, target } => accept_existing(std::os::unix::fs::symlink(target, path)),
            Action::MakeNode { path, node, mode } => accept_existing(make_node(path, *node, *mode)),
            Action::Touch { path } => accept_existing(
                OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(drop),
            ),
            Action::Write { path, text } => {
                OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
            }
            Action::Mount(call) => mount(call),
            Action::Unmount { path, lazy } => {
                let flags = if *lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
                Ok(nix::mount::umount2(path, flags | MntFlags::UMOUNT_NOFOLLOW)?)
            }
            Action::RemoveDir(path) => std::fs::remove_dir(path),
            Action::ChangeDir(path) => std::env::set_current_dir(path),
            Action::ChangeRoot(path) => Ok(nix::unistd::chroot(path)?),
            Action::SetHostname(name) => Ok(nix::unistd::sethostname(name)?),
            Action::SetLimit { limit, value } => {
                let resource = match limit {
                    Limit::OpenFiles => Resource::RLIMIT_NOFILE,
                    Limit::Processes => Resource::RLIMIT_NPROC,
                };
                let value = value.unwrap_or(RLIM_INFINITY);
                Ok(setrlimit(resource, value, value)?)
            }
        }
    }
}

/// mount(2).
///
/// # Errors
/// The kernel's.
pub fn mount(call: &Mount) -> io::Result<()> {
    let some = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    nix::mount::mount(
        Some(&call.source).filter(|source| !source.as_os_str().is_empty()),
        &call.target,
        some(&call.fstype).as_deref(),
        call.flags,
        some(&call.data).as_deref(),
    )?;
    Ok(())
}

/// Whether a directory's filesystem lives in memory: ramfs or tmpfs, as the
/// kernel's first root does.
///
/// # Errors
/// statfs(2)'s.
pub fn in_memory(path: &Path) -> io::Result<bool> {
    // RAMFS_MAGIC of <linux/magic.h>, which libc has no name for.
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    let kind = statfs(path)?.filesystem_type();
    Ok(kind == RAMFS_MAGIC || kind == TMPFS_MAGIC)
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // mkdir(2) obeys the umask and ignores the sticky bit's company.
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_node(path: &Path, node: Node, mode: u32) -> io::Result<()> {
    let (kind, device) = match node {
        Node::Char(major, minor) => (SFlag::S_IFCHR, makedev(major, minor)),
        Node::Block(major, minor) => (SFlag::S_IFBLK, makedev(major, minor)),
        Node::Fifo => (SFlag::S_IFIFO, 0),
    };
    mknod(path, kind, Mode::from_bits_truncate(mode), device)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn accept_existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The id of the mount that `path` is on, or its nearest parent that is
/// there: statx(2), Linux 5.8. Changes when something is mounted over it.
pub fn mount_id(path: &Path) -> u64 {
    for path in path.ancestors() {
        let Ok(name) = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()) else { continue };
        let mut data = std::mem::MaybeUninit::<libc::statx>::zeroed();
        // SAFETY: `name` ends with a NUL and `data` is the struct that
        // statx(2) fills in; both live through the call.
        let result =
            unsafe { libc::statx(libc::AT_FDCWD, name.as_ptr(), 0, libc::STATX_MNT_ID, data.as_mut_ptr()) };
        if result == 0 {
            // SAFETY: a struct of plain numbers, zeroed before and filled in since.
            return unsafe { data.assume_init() }.stx_mnt_id;
        }
    }
    0
}
