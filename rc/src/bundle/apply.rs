// SPDX-License-Identifier: Apache-2.0
//! Carries preparations out, once or again, and takes them back.
//!
//! A step that finds its mount in place leaves it alone. So a container that
//! is started again keeps its writable layer, and nothing is stacked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use init::action::{Action, Kernel};
use init::mount::{Mount, MsFlags};
use init::mountinfo::MountTable;

use super::plan::{Place, make_dir};
use super::{Bundle, Error, Hierarchy, MountEntry, Step};

impl Bundle {
    /// Does what the container needs before it is made: mounts, directories,
    /// control groups. `mounts` is what is mounted now
    /// ([`MountTable::read`]).
    ///
    /// Again is as good as once: see docs/bundles.md for what is kept.
    ///
    /// # Errors
    /// The first step that fails. The mounts made by this call are taken back.
    pub fn prepare(&self, kernel: &dyn Kernel, mounts: &MountTable) -> Result<Prepared, Error> {
        apply(&self.label(), &self.plan(&Hierarchy::read(mounts)), kernel, mounts)
    }

    /// Takes [`Bundle::prepare`]'s mounts back, newest first. What is
    /// written in a tmpfs among them is lost; directories and control groups
    /// stay.
    ///
    /// # Errors
    /// The first mount that could not be taken back; the rest is tried all the same.
    pub fn unprepare(&self, kernel: &dyn Kernel, mounts: &MountTable) -> Result<(), Error> {
        let hierarchy = Hierarchy::Legacy { roots: Vec::new() };
        withdraw(&self.label(), &self.plan(&hierarchy), kernel, mounts)
    }
}

/// What one call of [`Bundle::prepare`] has made, mounts and control groups:
/// all of it at the first start of a container, nothing when it is started
/// again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    mounts: Vec<PathBuf>,
    groups: Vec<PathBuf>,
}

impl Prepared {
    /// Takes it back, newest first, when the container cannot be started
    /// after all. Mounts of an earlier start stay, and with them what the
    /// container has written. What will not go is left.
    pub fn undo(&self, kernel: &dyn Kernel) {
        // There is a failure to be told already, and it came first.
        for group in self.groups.iter().rev() {
            let _ = kernel.apply(&Action::RemoveDir(group.clone()));
        }
        for target in self.mounts.iter().rev() {
            let _ = unmount(target, kernel);
        }
    }
}

/// Carries `steps` out for `container`.
pub(super) fn apply(
    container: &str,
    steps: &[Step],
    kernel: &dyn Kernel,
    mounts: &MountTable,
) -> Result<Prepared, Error> {
    // Where this call has mounted the table is out of date.
    let mut made = Prepared::default();
    for step in steps {
        if let Err(error) = apply_step(container, step, kernel, mounts, &mut made) {
            made.undo(kernel);
            return Err(error);
        }
    }
    Ok(made)
}

fn apply_step(
    container: &str,
    step: &Step,
    kernel: &dyn Kernel,
    mounts: &MountTable,
    made: &mut Prepared,
) -> Result<(), Error> {
    match step {
        Step::Mount { at, entry } => {
            let target = find(container, "mounts", at)?;
            if entry.is_new() {
                let current = !made.mounts.iter().any(|path| target.starts_with(path));
                if current && is_mounted(entry, &target, mounts) {
                    return Ok(());
                }
                for path in entry.layers().map(Path::new) {
                    act(container, "mounts", path, &make_dir(path), kernel)?;
                }
                let file = entry.is_bind() && fs::metadata(&entry.source).is_ok_and(|it| !it.is_dir());
                make_target(container, "mounts", &target, file, kernel)?;
            }
            for (index, call) in entry.calls(&target).into_iter().enumerate() {
                act(container, "mounts", &target, &Action::Mount(call), kernel)?;
                if index == 0 && entry.is_new() {
                    made.mounts.push(target.clone());
                }
            }
            Ok(())
        }
        Step::MakeDir(at) => {
            let path = find(container, "mkdir", at)?;
            act(container, "mkdir", &path, &make_dir(&path), kernel)
        }
        Step::ControlGroup { actions, .. } => actions.iter().try_for_each(|action| match action {
            Action::MakeDir { path, .. } => {
                let new = !path.exists();
                act(container, "cgroups", path, action, kernel)?;
                if new {
                    made.groups.push(path.clone());
                }
                Ok(())
            }
            _ => {
                // See Step::ControlGroup: a refusal is no failure.
                let _ = kernel.apply(action);
                Ok(())
            }
        }),
    }
}

/// Takes the mounts of `steps` back, newest first.
pub(super) fn withdraw(
    container: &str,
    steps: &[Step],
    kernel: &dyn Kernel,
    mounts: &MountTable,
) -> Result<(), Error> {
    let mut first = Ok(());
    for step in steps.iter().rev() {
        let Step::Mount { at, entry } = step else { continue };
        let Ok(target) = resolve(at) else { continue };
        if entry.is_new() && is_mounted(entry, &target, mounts) {
            let tried = format!("umount {}", target.display());
            let result = unmount(&target, kernel);
            first = first.and(result.map_err(|source| failed(container, "mounts", &tried, &target, source)));
        }
    }
    first
}

/// Unmounts `target` and all that is mounted below it.
///
/// The tree is made private first. Without that, taking away a recursive bind
/// of, say, `/dev` would spread to the real `/dev` and take away `/dev/pts` too.
fn unmount(target: &Path, kernel: &dyn Kernel) -> io::Result<()> {
    let private = Mount::propagation(target, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
    kernel.apply(&Action::Mount(private))?;
    let unmount = |lazy| kernel.apply(&Action::Unmount { path: target.to_owned(), lazy });
    match unmount(false) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => unmount(true),
        result => result,
    }
}

/// Whether `entry` is mounted on `target` already, perhaps with something else
/// on top.
fn is_mounted(entry: &MountEntry, target: &Path, mounts: &MountTable) -> bool {
    let stack = mounts.on(target);
    if entry.is_bind() {
        let Ok(source) = fs::canonicalize(&entry.source) else { return false };
        // A bind on itself shows what is under the mounts on it.
        let shown = if source == target { mounts.shown_under(&source) } else { mounts.shown(&source) };
        return shown
            .is_some_and(|(device, root)| stack.iter().any(|it| it.device == device && it.root == root));
    }
    stack.iter().any(|mount| {
        let same = |name| entry.option(name) == mount.super_option(name).as_deref();
        mount.fstype == entry.fstype
            && mount.source == entry.source
            && mount.root == Path::new("/")
            && (entry.fstype != "overlay" || ["lowerdir", "upperdir", "workdir"].into_iter().all(same))
    })
}

/// Makes what a mount on `target` needs to be there: a directory, or a file
/// under a file.
pub(super) fn make_target(
    container: &str,
    step: &str,
    target: &Path,
    file: bool,
    kernel: &dyn Kernel,
) -> Result<(), Error> {
    if !file {
        return act(container, step, target, &make_dir(target), kernel);
    }
    if let Some(parent) = target.parent() {
        act(container, step, parent, &make_dir(parent), kernel)?;
    }
    act(container, step, target, &Action::Touch { path: target.to_owned() }, kernel)
}

/// Carries one action out, which belongs to the key `step` of `runtime.json`.
pub(super) fn act(
    container: &str,
    step: &str,
    path: &Path,
    action: &Action,
    kernel: &dyn Kernel,
) -> Result<(), Error> {
    kernel.apply(action).map_err(|source| failed(container, step, &action.to_string(), path, source))
}

pub(super) fn failed(container: &str, step: &str, tried: &str, path: &Path, source: io::Error) -> Error {
    Error::Step {
        container: container.to_owned(),
        step: step.to_owned(),
        tried: tried.to_owned(),
        path: path.to_owned(),
        source,
    }
}

/// [`resolve`], for the key `step`.
pub(super) fn find(container: &str, step: &str, at: &Place) -> Result<PathBuf, Error> {
    let tried = || format!("resolve {}", at.path.display());
    resolve(at).map_err(|source| failed(container, step, &tried(), &at.path, source))
}

/// Follows a path's symbolic links without leaving `at.root`, as if that were
/// the root directory: an image may link `/var/run` to `/run`, and means its
/// own. What does not exist yet is taken as it is written.
///
/// # Errors
/// More than 40 links, the kernel's limit.
pub(super) fn resolve(at: &Place) -> io::Result<PathBuf> {
    let root = fs::canonicalize(&at.root).unwrap_or_else(|_| at.root.clone());
    let path = at.path.strip_prefix(&at.root).unwrap_or(&at.path);
    let mut rest: Vec<_> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    let mut done = root.clone();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            if done != root {
                done.pop();
            }
            continue;
        }
        if part == "." || part == "/" {
            continue;
        }
        let next = done.join(&part);
        let Ok(target) = fs::read_link(&next) else {
            done = next;
            continue;
        };
        links += 1;
        if links > 40 {
            return Err(nix::errno::Errno::ELOOP.into());
        }
        if target.is_absolute() {
            done.clone_from(&root);
        }
        rest.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
    }
    Ok(done)
}
