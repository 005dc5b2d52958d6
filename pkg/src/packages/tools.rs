// SPDX-License-Identifier: Apache-2.0
//! Programs of Debian's in an image: as Debian built them, at the paths Debian
//! has them at, with the libraries they need and nothing else.
use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::debian::{Follow, Root, Suite};
use crate::distro::private::{find, patchelf};
use crate::tree::{Content, Tree};

/// Where libraries go: one of the loader's own places.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Programs from packages, for one image.
pub(super) struct Tools {
    root: Root,
    libraries: BTreeSet<String>,
}

impl Tools {
    /// Fetches `packages`, and the libraries they depend on.
    pub(super) fn fetch(suite: Option<&Suite>, name: &str, packages: &[&str]) -> Result<Self> {
        let suite =
            suite.context("this image has programs of Debian's in it: say where to keep its packages")?;
        let root = suite.unpack(&format!("tools-{name}"), packages, Follow::Libraries)?;
        Ok(Self { root, libraries: BTreeSet::new() })
    }

    /// Puts a program where Debian has it.
    pub(super) fn program(&mut self, tree: &mut Tree, path: &str) -> Result<()> {
        let file = self.root.path.join(path);
        tree.file(path, 0o755, Content::from_path(&file)?)?;
        // The loader's path is written in the program, and is not the library's.
        let loader = patchelf("--print-interpreter", &file)?;
        let loader = loader.trim().trim_start_matches('/');
        let name = loader.rsplit('/').next().unwrap_or_default();
        if tree.get(loader).is_none() {
            tree.file(loader, 0o755, Content::from_path(&find(&self.root.path, name)?)?)?;
        }
        self.needed(tree, &file)
    }

    /// Puts a file that is no program where Debian has it.
    pub(super) fn file(&mut self, tree: &mut Tree, path: &str) -> Result<()> {
        tree.file(path, 0o644, Content::from_path(&self.root.path.join(path))?)
    }

    /// Says what is in the image and under which terms: the packages' versions,
    /// and their copyright files.
    pub(super) fn terms(&self, tree: &mut Tree) -> Result<()> {
        let mut list = String::new();
        for (name, version) in &self.root.packages {
            writeln!(list, "{name} {version}")?;
            let path = format!("usr/share/doc/{name}/copyright");
            let file = self.root.path.join(&path);
            if file.is_file() {
                tree.file(&path, 0o644, Content::from_path(&file)?)?;
            }
        }
        tree.file("usr/share/doc/packages", 0o644, list)
    }

    fn needed(&mut self, tree: &mut Tree, file: &std::path::Path) -> Result<()> {
        for name in patchelf("--print-needed", file)?.split_whitespace() {
            if !self.libraries.insert(name.to_owned()) {
                continue;
            }
            let library = find(&self.root.path, name)?;
            tree.file(&format!("{LIBRARIES}/{name}"), 0o755, Content::from_path(&library)?)?;
            self.needed(tree, &library)?;
        }
        Ok(())
    }
}
