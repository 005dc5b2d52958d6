// SPDX-License-Identifier: Apache-2.0
//! Dynamically linked programs in an image that has no C library, or another
//! one: all `init:` images share one root, and containerd, runc and crun may
//! come from different releases.
//!
//! Each image brings the loader and the libraries its programs need in a
//! folder of its own, and the programs name that folder: the loader by its
//! path (PT_INTERP), the libraries by DT_RPATH, which, other than DT_RUNPATH,
//! holds for the libraries' own libraries too (ld.so(8)).
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::debian::run;
use crate::tree::{Content, Tree};

/// Where a Debian package has libraries.
const LIBRARIES: &[&str] = &["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Programs of one image and the folder they keep their libraries in.
pub(super) struct Private<'a> {
    root: &'a Path,
    work: &'a Path,
    folder: String,
    libraries: BTreeSet<String>,
}

impl<'a> Private<'a> {
    /// Programs from the packages unpacked in `root`, with their libraries in
    /// `/usr/lib/NAME`.
    pub(super) fn new(root: &'a Path, work: &'a Path, name: &str) -> Self {
        Self { root, work, folder: format!("usr/lib/{name}"), libraries: BTreeSet::new() }
    }

    /// Puts the program `from` at `to`.
    pub(super) fn program(&mut self, tree: &mut Tree, from: &str, to: &str) -> Result<()> {
        let program = self.root.join(from);
        let loader = patchelf("--print-interpreter", &program)?;
        let loader = loader.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let patched = self.work.join(to.replace('/', "-"));
        run(Command::new("patchelf")
            .arg("--set-interpreter")
            .arg(format!("/{}/{loader}", self.folder))
            .arg("--force-rpath")
            .arg("--set-rpath")
            .arg(format!("/{}", self.folder))
            .arg("--output")
            .arg(&patched)
            .arg(&program))?;
        tree.file(to, 0o755, Content::from_path(&patched)?)?;
        self.library(tree, &loader)?;
        self.needed(tree, &program)
    }

    fn needed(&mut self, tree: &mut Tree, file: &Path) -> Result<()> {
        for name in patchelf("--print-needed", file)?.split_whitespace() {
            self.library(tree, name)?;
        }
        Ok(())
    }

    fn library(&mut self, tree: &mut Tree, name: &str) -> Result<()> {
        if !self.libraries.insert(name.to_owned()) {
            return Ok(());
        }
        let file = find(self.root, name)?;
        tree.file(&format!("{}/{name}", self.folder), 0o755, Content::from_path(&file)?)?;
        self.needed(tree, &file)
    }
}

pub(crate) fn find(root: &Path, name: &str) -> Result<PathBuf> {
    let found = LIBRARIES.iter().map(|folder| root.join(folder).join(name)).find(|p| p.exists());
    let found =
        found.with_context(|| format!("{} has no library {name}: a package is missing", root.display()))?;
    Ok(fs::canonicalize(found)?)
}

pub(crate) fn patchelf(question: &str, file: &Path) -> Result<String> {
    run(Command::new("patchelf").arg(question).arg(file))
}
