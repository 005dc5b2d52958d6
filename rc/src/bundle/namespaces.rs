// SPDX-License-Identifier: Apache-2.0
//! `bindNS`: namespaces of a container bound to a path, where they outlive it
//! and others can join them.

use std::fmt;
use std::path::{Path, PathBuf};

use init::action::{Action, Kernel};
use init::mount::{Mount, MsFlags};
use init::mountinfo::MountTable;
use init::sys::namespace;

use super::apply::{act, find, make_target};
use super::plan::Place;
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
        let source = PathBuf::from("/proc/PID/ns").join(self.name);
        let calls: Vec<_> = calls(self.name, &source, &self.path).iter().map(ToString::to_string).collect();
        f.write_str(&calls.join("; "))
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
        let container = self.label();
        for NamespaceBind { name, path } in self.namespace_binds() {
            let step = format!("bindNS.{name}");
            let source = namespace::path(pid, name);
            let target = find(&container, &step, &Place { root: "/".into(), path })?;
            make_target(&container, &step, &target, true, kernel)?;
            let under = mounts.shown_under(&target);
            for mount in mounts.on(&target).into_iter().rev() {
                let on_itself =
                    under.as_ref().is_some_and(|it| (it.0, &it.1) == (&mount.device, &mount.root));
                if mount.fstype == "nsfs" || on_itself {
                    let unmount = Action::Unmount { path: target.clone(), lazy: true };
                    act(&container, &step, &target, &unmount, kernel)?;
                }
            }
            for call in calls(name, &source, &target) {
                act(&container, &step, &target, &Action::Mount(call), kernel)?;
            }
        }
        Ok(())
    }
}

impl Bundle {
    /// Takes the binds of [`Bundle::bind_namespaces`] away, and with them
    /// namespaces that nothing else holds, when the container cannot be
    /// started after all. What will not go is left.
    pub fn unbind_namespaces(&self, kernel: &dyn Kernel, mounts: &MountTable) {
        for NamespaceBind { name, path } in self.namespace_binds() {
            let step = format!("bindNS.{name}");
            let Ok(target) = find(&self.label(), &step, &Place { root: "/".into(), path }) else { continue };
            for mount in mounts.on(&target).into_iter().rev() {
                // A mount namespace is bound on a bind of the file to itself.
                if mount.fstype == "nsfs" || name == "mnt" {
                    let unmount = Action::Unmount { path: target.clone(), lazy: true };
                    // There is a failure to be told already, and it came first.
                    let _ = kernel.apply(&unmount);
                }
            }
        }
    }
}

/// The mounts that bind the namespace file `source` to `target`.
///
/// The kernel lets no mount namespace be mounted where the mount would spread
/// to other namespaces, which in an image is everywhere: `/` is shared. So
/// its file is first bound to itself, and that mount made private.
fn calls(name: &str, source: &Path, target: &Path) -> Vec<Mount> {
    let mut calls = Vec::new();
    if name == "mnt" {
        calls.push(Mount::bind(target, target));
        calls.push(Mount::propagation(target, MsFlags::MS_PRIVATE));
    }
    calls.push(Mount::bind(source, target));
    calls
}
