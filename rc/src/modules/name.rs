// SPDX-License-Identifier: Apache-2.0
//! Names of modules: the kernel has no `-` in them, file names and
//! configuration may (modprobe(8): "automatic underscore conversion").

use std::borrow::Borrow;
use std::fmt;

/// A module's name as the kernel spells it, with `_` for every `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleName(Box<str>);

impl ModuleName {
    /// The name in the kernel's spelling.
    pub fn new(name: &str) -> Self {
        Self(name.replace('-', "_").into())
    }

    /// The name of the module in a file: `kernel/drivers/block/virtio_blk.ko.xz`
    /// is `virtio_blk`. None if the path is not a module's.
    pub fn of_file(path: &str) -> Option<Self> {
        let file = path.rsplit('/').next().unwrap_or_default();
        let (stem, _) =
            file.split_once(".ko").filter(|(_, packing)| matches!(*packing, "" | ".gz" | ".xz" | ".zst"))?;
        (!stem.is_empty()).then(|| Self::new(stem))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ModuleName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An alias, or a pattern for aliases, with `_` for every `-` outside of
/// brackets, where a `-` makes a range.
pub(super) fn normalise_alias(alias: &str) -> String {
    let mut inside = false;
    alias
        .chars()
        .map(|c| {
            inside = (inside || c == '[') && c != ']';
            if c == '-' && !inside { '_' } else { c }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let name = |path| ModuleName::of_file(path).map(|name| name.to_string());
        assert_eq!(name("kernel/lib/crc-t10dif.ko"), Some("crc_t10dif".to_owned()));
        assert_eq!(name("virtio_blk.ko.zst"), Some("virtio_blk".to_owned()));
        assert_eq!(name("kernel/x.ko.bz2"), None);
        assert_eq!(name("kernel/.ko"), None);
        assert_eq!(name("kernel/x"), None);
    }

    #[test]
    fn ranges_keep_their_dash() {
        assert_eq!(normalise_alias("net-pf-[0-9]-x"), "net_pf_[0-9]_x");
        assert_eq!(normalise_alias("a-[b-"), "a_[b-");
    }
}
