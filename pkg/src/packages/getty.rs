// SPDX-License-Identifier: Apache-2.0
//! What is in `lkinit/getty`. It is a service's root and may be an `init:`
//! image: then it is laid over `lkinit/init`, and must bring no file of that
//! name that is not the same.
use anyhow::Result;

use super::{Inputs, busybox, init};
use crate::tree::{Content, Tree};

/// Directories and their modes: what programs and mounts need in a container.
const DIRS: [(&str, u32); 8] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
];

/// Programs of the root that a shell in the container has, too.
const IN_ROOT: [&str; 6] = ["containerd", "crun", "ctr", "rc.init", "runc", "service"];

macro_rules! files {
    ($($path:literal: $mode:literal,)*) => {
        [$(($path, $mode, include_str!(concat!("../../getty/root/", $path)))),*]
    };
}

/// Files of the folder `pkg/getty/root`.
const FILES: [(&str, u32, &str); 8] = files! {
    "etc/init.d/001-getty": 0o755,
    "etc/profile": 0o644,
    "etc/profile.d/namespace.sh": 0o644,
    "etc/securetty": 0o644,
    "etc/shadow": 0o600,
    "usr/bin/rungetty.sh": 0o755,
    "usr/libexec/getty/autologin": 0o755,
    "usr/libexec/getty/in-root": 0o755,
};

/// The whole root.
pub(super) fn tree(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tree = Tree::new();
    for (path, mode) in DIRS {
        tree.dir(path, mode)?;
    }
    for (path, mode, text) in FILES {
        tree.file(path, mode, text)?;
    }
    for (path, text) in init::FILES.into_iter().filter(|(path, _)| *path != "etc/os-release") {
        tree.file(path, 0o644, text)?;
    }
    for name in IN_ROOT {
        tree.symlink(&format!("usr/libexec/getty/root/{name}"), "../in-root")?;
    }
    tree.file(busybox::BUSYBOX, 0o755, Content::from_path(inputs.busybox)?)?;
    for path in busybox::applets(inputs.busybox)? {
        if !init::is_ours(&path) && tree.get(&path).is_none() {
            tree.symlink(&path, &format!("/{}", busybox::BUSYBOX))?;
        }
    }
    Ok(tree)
}
