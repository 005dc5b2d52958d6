// SPDX-License-Identifier: Apache-2.0
//! modules.dep: where each module's file is, and what it needs.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::complaint::{Complaint, fold, lines};
use super::name::ModuleName;

/// A modules.dep file.
#[derive(Debug, Default)]
pub(super) struct DepTable {
    text: String,
    lines: HashMap<ModuleName, std::ops::Range<usize>>,
}

/// What modules.dep says of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dep<'a> {
    /// The file, relative to the modules' directory, or absolute.
    pub file: &'a str,
    needs: &'a str,
}

impl<'a> Dep<'a> {
    /// The modules this one needs, direct and indirect, in an order in which
    /// they can be loaded. (The file has them the other way round.)
    pub(super) fn needs(&self) -> impl Iterator<Item = ModuleName> + use<'a> {
        self.needs.split_ascii_whitespace().rev().filter_map(ModuleName::of_file)
    }

    /// The file's path under the modules' directory.
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.file)
    }
}

impl DepTable {
    /// Reads lines `FILE: FILE...`; `file` is what complaints name.
    pub(super) fn parse(file: &str, text: String, complaints: &mut Vec<Complaint>) -> Self {
        let mut table = HashMap::with_capacity(text.len() / 64);
        let base = text.as_ptr().addr();
        let first = complaints.len();
        for (number, line) in lines(&text) {
            let name = line.split_once(':').and_then(|(path, _)| ModuleName::of_file(path));
            match name {
                Some(name) => {
                    let start = line.as_ptr().addr() - base;
                    table.insert(name, start..start + line.len());
                }
                None => complaints.push(Complaint::new(
                    file,
                    number,
                    "is not `FILE.ko: FILE.ko ...`; the line is left out",
                )),
            }
        }
        fold(complaints, first, 1);
        Self { text, lines: table }
    }

    /// What the file says of a module.
    pub(super) fn get(&self, name: &str) -> Option<Dep<'_>> {
        let line = self.text.get(self.lines.get(name)?.clone())?;
        let (file, needs) = line.split_once(':')?;
        Some(Dep { file, needs })
    }
}

/// modules.builtin: the modules that are part of the kernel.
pub(super) fn parse_builtin(text: &str) -> HashSet<ModuleName> {
    text.lines().filter_map(|line| ModuleName::of_file(line.trim())).collect()
}

/// Whether an alias is one of a built-in module's, by modules.builtin.modinfo:
/// entries `MODULE.KEY=VALUE`, each ended by a zero byte.
pub(super) fn builtin_has_alias(modinfo: &[u8], wanted: &str) -> bool {
    let wanted = super::name::normalise_alias(wanted);
    modinfo.split(|byte| *byte == 0).any(|entry| {
        std::str::from_utf8(entry)
            .ok()
            .and_then(|entry| entry.split_once(".alias="))
            .is_some_and(|(_, alias)| super::glob::matches(&super::name::normalise_alias(alias), &wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_come_in_the_order_of_loading() {
        let mut complaints = Vec::new();
        let table = DepTable::parse(
            "modules.dep",
            "kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio-ring.ko.xz\n\
             rubbish\n\
             \n\
             kernel/net/a: kernel/b.ko\n\
             /opt/extra/odd.ko:\n"
                .to_owned(),
            &mut complaints,
        );
        let dep = table.get("virtio_blk").unwrap();
        assert_eq!(dep.needs().map(|name| name.to_string()).collect::<Vec<_>>(), ["virtio_ring", "virtio"]);
        let path = |name: &str| table.get(name).unwrap().path(Path::new("/lib/modules/6.1"));
        assert_eq!(path("virtio_blk"), Path::new("/lib/modules/6.1/kernel/drivers/block/virtio_blk.ko.xz"));
        assert_eq!(path("odd"), Path::new("/opt/extra/odd.ko"));
        assert_eq!(table.get("odd").unwrap().needs().count(), 0);
        assert_eq!(table.get("a"), None);
        let complaints: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(
            complaints,
            [
                "modules.dep:2: is not `FILE.ko: FILE.ko ...`; the line is left out, and so are 1 more of this file"
            ]
        );
    }

    #[test]
    fn builtins() {
        let set = parse_builtin("kernel/fs/ext4/ext4.ko\nkernel/lib/crc-t10dif.ko\nrubbish\n");
        assert_eq!(set.len(), 2);
        assert!(set.contains("crc_t10dif"));
        let modinfo = b"unix.license=GPL\0unix.alias=net-pf-1\0x.alias=pci:v00001AF4*\0\xff\0";
        assert!(builtin_has_alias(modinfo, "net_pf_1") && builtin_has_alias(modinfo, "pci:v00001AF4d1"));
        assert!(!builtin_has_alias(modinfo, "net-pf-2"));
    }
}
