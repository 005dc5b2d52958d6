// SPDX-License-Identifier: Apache-2.0
//! What is to be done before a container is made, as data.

use std::fmt;
use std::path::{Path, PathBuf};

use init::action::Action;
use init::mount::{Mount, MsFlags, Options};
use init::mountinfo::MountTable;

use super::{Bundle, MountEntry};

/// Where control groups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2: one tree.
    Unified {
        /// Where it is mounted.
        root: PathBuf,
        /// The controllers it has to give, `cgroup.controllers`.
        controllers: Vec<String>,
    },
    /// Version 1: a tree for each controller (or several), and perhaps a
    /// version 2 tree without controllers beside them.
    Legacy {
        /// Where they are mounted.
        roots: Vec<PathBuf>,
    },
}

impl Hierarchy {
    /// Where `linuxkit.unified_cgroup_hierarchy` has them mounted.
    const ROOT: &str = "/sys/fs/cgroup";

    /// The hierarchy of a system with these mounts. A `/sys/fs/cgroup`
    /// without control groups is a version 1 hierarchy of no controller.
    pub fn new(mounts: &MountTable, controllers: &str) -> Self {
        let root = Path::new(Self::ROOT);
        if mounts.on(root).iter().any(|mount| mount.fstype == "cgroup2") {
            let controllers = controllers.split_whitespace().map(str::to_owned).collect();
            return Self::Unified { root: root.to_owned(), controllers };
        }
        let below = mounts.iter().filter(|mount| mount.point.starts_with(root));
        let groups = below.filter(|mount| mount.fstype == "cgroup" || mount.fstype == "cgroup2");
        Self::Legacy { roots: groups.map(|mount| mount.point.clone()).collect() }
    }

    /// The running system's.
    pub fn read(mounts: &MountTable) -> Self {
        let file = Path::new(Self::ROOT).join("cgroup.controllers");
        Self::new(mounts, &std::fs::read_to_string(file).unwrap_or_default())
    }

    /// How to make the control group `path`: its directories, and before each
    /// the writes that hand its parent's controllers down to it. The group
    /// itself hands nothing down, so that processes can be put into it.
    fn group(&self, path: &Path) -> Step {
        let path = path.strip_prefix("/").unwrap_or(path);
        let mut actions = Vec::new();
        match self {
            Self::Legacy { roots } => actions.extend(roots.iter().map(|root| make_dir(&root.join(path)))),
            Self::Unified { root, controllers } => {
                let mut group = root.clone();
                for part in path {
                    actions.extend(controllers.iter().map(|name| Action::Write {
                        path: group.join("cgroup.subtree_control"),
                        text: format!("+{name}"),
                    }));
                    group.push(part);
                    actions.push(make_dir(&group));
                }
            }
        }
        Step::ControlGroup { path: path.to_owned(), actions }
    }
}

/// A path of `runtime.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory that `path` cannot lead out of: `/`, or the container's
    /// root directory for a path that was written without a leading slash.
    pub root: PathBuf,
    /// The path below it.
    pub path: PathBuf,
}

impl Place {
    fn new(rootfs: &Path, path: &Path) -> Self {
        let root = if path.is_absolute() { Path::new("/") } else { rootfs };
        Self { root: root.to_owned(), path: root.join(path) }
    }
}

/// One step of a preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An element of `mounts`.
    Mount {
        /// Where.
        at: Place,
        /// As written.
        entry: MountEntry,
    },
    /// An element of `mkdir`.
    MakeDir(Place),
    /// An element of `cgroups`.
    ControlGroup {
        /// As written, relative to the hierarchy.
        path: PathBuf,
        /// How to make it. A write that is refused is no failure: the group
        /// is then without one controller (real-time processes in its parent
        /// do that to `cpu`, for instance).
        actions: Vec<Action>,
    },
}

impl Bundle {
    /// Everything to be done before the container is made, in order.
    pub fn plan(&self, hierarchy: &Hierarchy) -> Vec<Step> {
        let place = |path: &Path| Place::new(&self.rootfs, path);
        let mounts = self.runtime.mounts.iter();
        let mounts = mounts.map(|entry| Step::Mount { at: place(&entry.destination), entry: entry.clone() });
        let directories = self.runtime.mkdir.iter().map(|path| Step::MakeDir(place(path)));
        let groups = self.runtime.cgroups.iter().map(|path| hierarchy.group(path));
        mounts.chain(directories).chain(groups).collect()
    }
}

impl MountEntry {
    /// Whether a directory or file is to be made visible elsewhere. `type:
    /// bind` is an OCI habit that mount(2) does not know.
    pub(super) fn is_bind(&self) -> bool {
        let flags = Options::parse(&self.options).flags;
        flags.contains(MsFlags::MS_BIND) && !flags.contains(MsFlags::MS_REMOUNT) || self.fstype == "bind"
    }

    /// Whether this puts a new mount on its destination, rather than change
    /// the one that is there.
    pub(super) fn is_new(&self) -> bool {
        let options = Options::parse(&self.options);
        let changes = options.flags.contains(MsFlags::MS_REMOUNT)
            || self.fstype.is_empty() && self.source.is_empty() && options.propagation.is_some();
        self.is_bind() || !changes
    }

    /// What an option such as `upperdir=` says.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The directories an overlay writes to, which it expects to be there.
    pub(super) fn layers(&self) -> impl Iterator<Item = &str> {
        let names: &[&str] = if self.fstype == "overlay" { &["upperdir", "workdir"] } else { &[] };
        names.iter().filter_map(|name| self.option(name))
    }

    /// The calls of mount(2) for this entry on `target`. More than one where
    /// the kernel looks at only a part of the flags in each: it takes bind
    /// without its other flags, and a change of propagation only by itself
    /// (do_mount in the kernel's fs/namespace.c; mount(8) does the same).
    pub(super) fn calls(&self, target: &Path) -> Vec<Mount> {
        let Options { mut flags, propagation, data } = Options::parse(&self.options);
        let call = |source: &str, fstype: &str, flags, data: &str| Mount {
            source: source.into(),
            target: target.to_owned(),
            fstype: fstype.to_owned(),
            flags,
            data: data.to_owned(),
        };
        let mut calls = Vec::new();
        if self.is_bind() {
            let kind = MsFlags::MS_BIND | flags & MsFlags::MS_REC;
            calls.push(call(&self.source, "", kind, ""));
            flags -= kind;
            if !flags.is_empty() {
                calls.push(call("", "", flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT, ""));
            }
        } else if flags.contains(MsFlags::MS_REMOUNT) {
            calls.push(call("", "", flags, &data));
        } else if self.is_new() {
            calls.push(call(&self.source, &self.fstype, flags, &data));
        }
        calls.extend(propagation.map(|flags| Mount::propagation(target, flags)));
        calls
    }
}

/// As a shell would do it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { at, entry } => {
                let layers = entry.layers().map(|path| make_dir(Path::new(path)).to_string());
                let calls = entry.calls(&at.path);
                let lines = layers.chain(calls.iter().map(ToString::to_string));
                f.write_str(&lines.collect::<Vec<_>>().join("; "))
            }
            Self::MakeDir(at) => make_dir(&at.path).fmt(f),
            Self::ControlGroup { actions, .. } => {
                f.write_str(&actions.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// A directory as this module makes them.
pub(super) fn make_dir(path: &Path) -> Action {
    Action::MakeDir { path: path.to_owned(), mode: 0o755 }
}
