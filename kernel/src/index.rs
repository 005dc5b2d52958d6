// SPDX-License-Identifier: Apache-2.0
//! What `depmod` writes about a tree of modules (modules.dep(5),
//! modprobe.d(5) for soft dependencies), and which modules a list of names
//! stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The tables of one `/lib/modules/VERSION`.
#[derive(Debug, Default)]
pub struct Index {
    /// Name to file and the files it needs, from `modules.dep`.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// Exact aliases to names (patterns stand for devices, not for modules).
    aliases: BTreeMap<String, Vec<String>>,
    soft: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

/// What a list of names came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// Files, relative to `/lib/modules/VERSION`, sorted.
    pub files: BTreeSet<String>,
    /// Names this kernel has neither as a module nor built in.
    pub absent: Vec<String>,
}

impl Index {
    /// Reads the tables `depmod` wrote into `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        Ok(Self::parse(
            &text("modules.dep")?,
            &text("modules.alias")?,
            &text("modules.softdep")?,
            &text("modules.builtin")?,
        ))
    }

    fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for line in dep.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                index.files.insert(module_name(file), (file.to_owned(), needs));
            }
        }
        for line in alias.lines() {
            if let ["alias", alias, module] = line.split_whitespace().collect::<Vec<_>>()[..]
                && !alias.contains(['*', '?', '['])
            {
                let of = index.aliases.entry(alias.replace('-', "_")).or_default();
                of.push(module.replace('-', "_"));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(module)) = (words.next(), words.next()) {
                let others = words.filter(|w| !w.ends_with(':')).map(|w| w.replace('-', "_"));
                index.soft.entry(module.replace('-', "_")).or_default().extend(others);
            }
        }
        index.builtin = builtin.lines().map(module_name).collect();
        index
    }

    /// The files of `names`, with everything they need, hard or soft.
    pub fn select<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Selection {
        let mut selection = Selection { files: BTreeSet::new(), absent: Vec::new() };
        let mut queue = Vec::new();
        for name in names {
            let found = self.resolve(name);
            if found.is_empty() && !self.builtin.contains(name) {
                selection.absent.push(name.to_owned());
            }
            queue.extend(found);
        }
        while let Some(name) = queue.pop() {
            let Some((file, needs)) = self.files.get(&name) else {
                continue;
            };
            if !selection.files.insert(file.clone()) {
                continue;
            }
            queue.extend(needs.iter().map(|file| module_name(file)));
            // A soft dependency may be an alias, and may be absent.
            for soft in self.soft.get(&name).into_iter().flatten() {
                queue.extend(self.resolve(soft));
            }
        }
        selection
    }

    /// The modules a name or an exact alias stands for.
    fn resolve(&self, name: &str) -> Vec<String> {
        if self.files.contains_key(name) {
            return vec![name.to_owned()];
        }
        self.aliases.get(name).cloned().unwrap_or_default()
    }
}

/// `virtio_rng` of `kernel/drivers/char/hw_random/virtio-rng.ko.xz`: in the
/// kernel's own names a dash is an underscore.
pub(crate) fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index::parse(
            "kernel/fs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\n\
             kernel/lib/libcrc32c.ko.xz:\n\
             kernel/crypto/crc32c-intel.ko.xz: kernel/crypto/a.ko.xz\n\
             kernel/crypto/a.ko.xz:\n\
             kernel/other.ko.xz:\n",
            "alias pci:v0000* other\nalias crc32c crc32c_intel\nalias crc32c crc32c_generic\n",
            "# a comment\nsoftdep libcrc32c pre: crc32c\nsoftdep xfs post: nothing-there\n",
            "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c_generic.ko\n",
        )
    }

    #[test]
    fn hard_and_soft_dependencies_come_along() {
        let selection = index().select(["xfs"]);
        let files: Vec<_> = selection.files.iter().map(|f| module_name(f)).collect();
        assert_eq!(files, ["a", "crc32c_intel", "xfs", "libcrc32c"]);
        assert_eq!(selection.absent, Vec::<String>::new());
    }

    #[test]
    fn a_built_in_module_is_not_absent_and_an_unknown_one_is() {
        let selection = index().select(["ext4", "i6300esb"]);
        assert!(selection.files.is_empty());
        assert_eq!(selection.absent, ["i6300esb"]);
    }

    #[test]
    fn names_have_underscores_and_no_suffix() {
        assert_eq!(module_name("kernel/a/virtio-rng.ko.zst"), "virtio_rng");
        assert_eq!(module_name("8021q.ko"), "8021q");
    }
}
