// SPDX-License-Identifier: Apache-2.0
//! Debian's static busybox, and its names.
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tree::{Content, Tree};

/// Where busybox lies in an image.
pub(super) const BUSYBOX: &str = "bin/busybox";

/// Adds busybox to `tree`, and a link to `target` under every name of its
/// programs that nothing has yet.
pub(super) fn add(tree: &mut Tree, busybox: &Path, target: &str) -> Result<()> {
    tree.file(BUSYBOX, 0o755, Content::from_path(busybox)?)?;
    for path in applets(busybox)? {
        if tree.get(&path).is_none() {
            tree.symlink(&path, target)?;
        }
    }
    Ok(())
}

/// The paths busybox says its applets belong at. `linuxrc` is its old name as
/// the first program of a ramdisk, which is not what it is here.
pub(super) fn applets(busybox: &Path) -> Result<Vec<String>> {
    let command = || format!("{} --list-full", busybox.display());
    let out = Command::new(busybox)
        .arg("--list-full")
        .output()
        .with_context(|| format!("cannot run {}", command()))?;
    ensure!(out.status.success(), "{} failed: {}", command(), out.status);
    let list = String::from_utf8(out.stdout).with_context(command)?;
    let applets: Vec<_> = list.lines().filter(|path| *path != "linuxrc").map(String::from).collect();
    ensure!(!applets.is_empty(), "{} printed nothing", command());
    Ok(applets)
}
