// SPDX-License-Identifier: Apache-2.0
//! A small tree of modules for tests.

use std::path::Path;

use init::cmdline::Cmdline;
use tempfile::TempDir;

use super::tables::{Place, Tables};

/// Directories like those of a machine, gone when dropped.
pub(crate) struct Tree {
    root: TempDir,
    cmdline: String,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let tree = Self { root: TempDir::new().unwrap(), cmdline: String::new() };
        tree.write("modules/modules.dep", "");
        tree.write("modules/modules.alias", "");
        tree
    }

    /// A tree with these modules, `"name: need need"` each.
    pub(crate) fn of(modules: &[&str]) -> Self {
        let tree = Self::new();
        let mut text = String::new();
        for module in modules {
            let (name, needs) = module.split_once(':').unwrap_or((module, ""));
            let needs: String = needs.split_whitespace().map(|need| format!(" kernel/{need}.ko")).collect();
            text += &format!("kernel/{name}.ko:{needs}\n");
        }
        tree.write("modules/modules.dep", &text);
        tree
    }

    pub(crate) fn aliases(self, aliases: &[&str]) -> Self {
        let text: String = aliases.iter().map(|alias| format!("alias {alias}\n")).collect();
        self.write("modules/modules.alias", &text);
        self
    }

    pub(crate) fn config(self, text: &str) -> Self {
        self.write("etc/test.conf", text);
        self
    }

    pub(crate) fn cmdline(mut self, text: &str) -> Self {
        self.cmdline = text.to_owned();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            modules: self.path().join("modules"),
            config: vec![self.path().join("etc")],
            cmdline: Cmdline::parse(&self.cmdline),
            sys: self.path().join("sys"),
        }
    }

    pub(crate) fn tables(&self) -> Tables {
        Tables::read(&self.place())
    }
}
