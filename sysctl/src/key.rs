// SPDX-License-Identifier: Apache-2.0
//! Names of settings: `net.ipv4.ip_forward`, `net/ipv4/conf/eth0.100/rp_filter`.

use std::fmt::{self, Write as _};
use std::path::{Component, Path};

/// A setting's name, or a pattern of names, as a path beneath `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text names no setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing is left of it.
    #[error("the name is empty")]
    Empty,
    /// It has a `..`.
    #[error("the name leaves the tree of settings")]
    Outside,
}

impl Key {
    /// Reads a name as sysctl.d(5) has it. The first separator decides: after
    /// a slash, dots are part of names; after a dot, dots separate and a slash
    /// stands for a dot that is part of a name, `net.ipv4.conf.eth0/100`.
    ///
    /// # Errors
    /// When nothing remains, or when the path would not stay in the tree.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let first = text.chars().find(|character| matches!(character, '.' | '/'));
        let path = if first == Some('.') { exchange(text) } else { text.to_owned() };
        // LinuxKit forgives separators at either end or doubled.
        let mut components = Vec::new();
        for component in Path::new(&path).components() {
            match component {
                Component::Normal(name) => components.push(name.to_string_lossy()),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(KeyError::Outside),
            }
        }
        if components.is_empty() { Err(KeyError::Empty) } else { Ok(Self(components.join("/"))) }
    }

    /// A key from its path beneath the tree.
    pub(crate) fn from_path(path: String) -> Self {
        Self(path)
    }

    /// Where it is beneath the tree.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// Whether it is a glob(7) pattern rather than one name.
    pub fn is_pattern(&self) -> bool {
        self.0.contains(['*', '?', '['])
    }
}

/// The form with dots, as most people write it. What a terminal would act on
/// is escaped.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in exchange(&self.0).chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

fn exchange(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides() {
        for (text, path) in [
            ("kernel.domainname", "kernel/domainname"),
            ("kernel/domainname", "kernel/domainname"),
            ("net.ipv4.conf.enp3s0/200.forwarding", "net/ipv4/conf/enp3s0.200/forwarding"),
            ("net/ipv4/conf/enp3s0.200/forwarding", "net/ipv4/conf/enp3s0.200/forwarding"),
            ("/net//ipv4/./ip_forward/", "net/ipv4/ip_forward"),
            ("net..ipv4.ip_forward.", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.*.rp_filter", "net/ipv4/conf/*/rp_filter"),
            ("vm", "vm"),
        ] {
            assert_eq!(Key::parse(text).unwrap().path(), path, "{text}");
        }
    }

    #[test]
    fn a_name_stays_in_the_tree() {
        assert_eq!(Key::parse("net/../../../etc/passwd"), Err(KeyError::Outside));
        assert_eq!(Key::parse("net.//.//.etc"), Err(KeyError::Outside));
        assert_eq!(Key::parse(""), Err(KeyError::Empty));
        assert_eq!(Key::parse("..."), Err(KeyError::Empty));
    }

    #[test]
    fn printing_and_reading_agree() {
        for text in ["net.ipv4.conf.eth0/100.rp_filter", "kernel.core_pattern", "vm"] {
            let key = Key::parse(text).unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(Key::parse(&key.to_string()).unwrap(), key);
        }
        assert_eq!(Key::parse("kernel.\x1b[2J").unwrap().to_string(), "kernel.\\u{1b}[2J");
    }
}
