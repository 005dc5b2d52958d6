// SPDX-License-Identifier: Apache-2.0
//! Confinement: what a program that faces hostile input may still do, stated
//! once as a [`Policy`] and given up for good by [`Policy::apply`].
//!
//! Four layers, each useful without the others, because no kernel is sure to
//! have all of them:
//!
//! - capabilities(7): every set is cut down to those the policy keeps;
//! - `no_new_privs`: no later execve(2) can gain anything back;
//! - Landlock (landlock(7), Linux 5.13 on, where it is switched on): files
//!   beneath the granted paths and no others, the granted TCP ports and no
//!   others, no signals to and no abstract sockets of other processes;
//! - seccomp(2): the listed system calls; any other fails with EPERM.
//!
//! A refused call fails, it does not kill. The programs confined here keep a
//! machine reachable, and an unforeseen path of a library, answered with an
//! errno, is handled like any other failure; the attacker gains nothing by
//! the difference. A call of a foreign architecture's table does kill.
//!
//! Confine a process while it has one thread: capabilities and Landlock
//! belong to threads, so [`Policy::apply`] refuses a process that has more.
//! Threads started afterwards inherit everything.

mod capabilities;
mod error;
mod filter;
mod paths;
mod report;
mod syscalls;

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::sched::CloneFlags;

pub use caps::Capability;
#[doc(hidden)]
pub use libc;

pub use error::Error;
pub use report::{Confined, Landlock, Seccomp};
pub use syscalls::{Argument, BASE, READ_FILES, Syscall, THREADS};

/// What may be done to files at and beneath a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read files, list directories.
    Read,
    /// As `Read`, and write over or cut files that exist.
    Write,
    /// As `Write`, and make, rename and remove files, directories, links, sockets.
    Manage,
    /// As `Write`, and ioctl(2): device nodes.
    Device,
}

/// One grant: what, beneath which path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub access: Access,
    /// A file, or a directory with everything beneath it. One that does not
    /// exist when the policy is applied grants nothing, later either.
    pub path: PathBuf,
}

impl Grant {
    /// A grant.
    pub fn new(access: Access, path: impl Into<PathBuf>) -> Self {
        Self { access, path: path.into() }
    }
}

/// Everything a process keeps; what is not named here it loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Capabilities to keep, as far as the process has them.
    pub capabilities: &'static [Capability],
    /// System calls that stay allowed, as a list of lists: usually [`BASE`]
    /// and what the program itself needs, made with [`crate::syscalls!`].
    pub syscalls: &'static [&'static [Syscall]],
    /// Files that stay within reach (where the kernel has Landlock).
    /// Descriptors opened before keep working.
    pub grants: Vec<Grant>,
    /// TCP ports that connect(2) may name (Landlock from Linux 6.7 on).
    pub connect: &'static [u16],
    /// TCP ports that bind(2) may name (likewise).
    pub bind: &'static [u16],
}

impl Policy {
    /// Gives up everything the policy does not keep. There is no way back.
    ///
    /// What the running kernel does not have is left out, and the report says so.
    ///
    /// # Errors
    /// When the process has several threads (nothing has changed then), or when
    /// the kernel refuses a layer it does have. Layers applied before that one
    /// stay; the caller must treat the process as not confined.
    pub fn apply(&self) -> Result<Confined, Error> {
        // Asking for an address space of one's own is a no-op for a process
        // with one thread and EINVAL for any other: the test, in one call.
        nix::sched::unshare(CloneFlags::CLONE_VM).map_err(|_| Error::Threads)?;
        nix::sys::prctl::set_no_new_privs().map_err(|errno| Error::NoNewPrivs(io::Error::from(errno)))?;
        // Landlock first: its rules open the granted paths, which may need a
        // capability that goes next. The filter last: it forbids the calls
        // that the other layers are made with.
        let (landlock, missing) = paths::apply(self)?;
        let bounded = capabilities::apply(self.capabilities)?;
        let seccomp = filter::apply(self.syscalls)?;
        Ok(Confined { capabilities: self.capabilities, bounded, seccomp, landlock, missing })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep capabilities:")?;
        list(f, self.capabilities)?;
        for Grant { access, path } in &self.grants {
            let access = match access {
                Access::Read => "read",
                Access::Write => "write",
                Access::Manage => "manage",
                Access::Device => "device",
            };
            write!(f, "\nallow {access}: {}", path.display())?;
        }
        write!(f, "\nallow TCP connect to ports:")?;
        list(f, self.connect)?;
        write!(f, "\nallow TCP bind to ports:")?;
        list(f, self.bind)?;
        write!(f, "\nallow system calls:")?;
        for call in self.syscalls.iter().copied().flatten() {
            write!(f, " {call}")?;
        }
        Ok(())
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    if items.is_empty() {
        return f.write_str(" none");
    }
    items.iter().try_for_each(|item| write!(f, " {item}"))
}
