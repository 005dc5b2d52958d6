// SPDX-License-Identifier: Apache-2.0
//! What is in force after a policy was applied.

use std::fmt;
use std::path::PathBuf;

use caps::Capability;

/// What is in force. Printed, it is one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "says whether a layer is missing on this kernel"]
pub struct Confined {
    /// Capabilities the policy kept, as far as the process had them.
    pub capabilities: &'static [Capability],
    /// Whether the bounding set was cut down too. It takes `CAP_SETPCAP`;
    /// without it `no_new_privs` still stops execve(2) from gaining any.
    pub bounded: bool,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// The file and network rules.
    pub landlock: Landlock,
    /// Granted paths that do not exist and so grant nothing.
    pub missing: Vec<PathBuf>,
}

/// The system call filter's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// In force.
    Enforced {
        /// How many system calls stay allowed.
        allowed: usize,
    },
    /// The kernel was built without `CONFIG_SECCOMP_FILTER`.
    Absent,
}

/// Landlock's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landlock {
    /// All that was asked for is in force.
    Enforced {
        /// The kernel's Landlock version.
        abi: i32,
    },
    /// The kernel's Landlock is older than some of what was asked for: below
    /// 3 it does not govern truncate(2), below 4 TCP, below 5 ioctl(2) on
    /// devices, below 6 signals and abstract sockets. The rest is in force.
    Partial {
        /// The kernel's Landlock version.
        abi: i32,
    },
    /// The kernel has it, and it was not switched on (`lsm=`, `CONFIG_LSM`).
    NotEnabled,
    /// The kernel was built without it.
    Absent,
}

impl Confined {
    /// True when no layer is missing or partial on this kernel.
    pub fn is_complete(&self) -> bool {
        matches!(self.seccomp, Seccomp::Enforced { .. }) && matches!(self.landlock, Landlock::Enforced { .. })
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "confined: capabilities")?;
        super::list(f, self.capabilities)?;
        if !self.bounded {
            write!(f, " (bounding set untouched: no CAP_SETPCAP)")?;
        }
        match self.seccomp {
            Seccomp::Enforced { allowed } => write!(f, "; seccomp allows {allowed} system calls")?,
            Seccomp::Absent => write!(f, "; no seccomp in this kernel")?,
        }
        match self.landlock {
            Landlock::Enforced { abi } => write!(f, "; Landlock {abi}")?,
            Landlock::Partial { abi } => write!(f, "; Landlock {abi}, too old for some rules")?,
            Landlock::NotEnabled => write!(f, "; Landlock not switched on in this kernel")?,
            Landlock::Absent => write!(f, "; no Landlock in this kernel")?,
        }
        for path in &self.missing {
            write!(f, "; {} does not exist and stays out of reach", path.display())?;
        }
        Ok(())
    }
}
