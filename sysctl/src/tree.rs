// SPDX-License-Identifier: Apache-2.0
//! The tree of settings, `/proc/sys` or one that looks like it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern, PatternError};

use crate::entry::{Entry, Origin};
use crate::key::Key;
use crate::plan::Decision;

/// As glob(7) has it: a star stays within one component and takes no leading dot.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A tree of settings.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// Its root.
    pub root: &'a Path,
}

/// A line the kernel refused, for one key or for some of its pattern's.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {key}: not set to {value:?}{}", among(.refused, *.tried))]
pub struct Refused {
    /// The line.
    pub origin: Origin,
    /// What it names.
    pub key: Key,
    /// What it would set.
    pub value: String,
    /// The keys that were refused.
    pub refused: Vec<Key>,
    /// How many keys it was to set.
    pub tried: usize,
    /// The kernel's reason, for the first of them.
    pub source: io::Error,
}

impl Tree<'_> {
    /// The keys that exist for a pattern, in the order of their names.
    ///
    /// # Errors
    /// When it is no pattern: an unclosed bracket.
    pub fn expand(self, pattern: &Key) -> Result<Vec<Key>, PatternError> {
        let mut paths = vec![PathBuf::new()];
        for component in pattern.path().split('/') {
            let matcher = Pattern::new(component)?;
            paths = paths.iter().flat_map(|path| self.children(path, component, &matcher)).collect();
        }
        let keys = paths.into_iter().filter(|path| self.root.join(path).is_file());
        // A name that is not UTF-8 cannot have matched.
        Ok(keys.filter_map(|path| path.to_str().map(|path| Key::from_path(path.to_owned()))).collect())
    }

    fn children(self, parent: &Path, component: &str, matcher: &Pattern) -> Vec<PathBuf> {
        if matcher.as_str() == Pattern::escape(component) {
            return vec![parent.join(component)];
        }
        // A directory that cannot be listed has no match: it is not there, or
        // it is a file, or not for us.
        let entries = fs::read_dir(self.root.join(parent)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| matcher.matches_with(name, OPTIONS));
        names.sort_unstable();
        names.into_iter().map(|name| parent.join(name)).collect()
    }

    /// Carries the decisions out, one after the other. A refusal stops nothing;
    /// those of one line come as one.
    pub fn apply(self, decisions: &[Decision]) -> Vec<Refused> {
        let mut refusals = Vec::new();
        for line in decisions.chunk_by(|one, next| one.winner.origin == next.winner.origin) {
            refusals.extend(self.apply_line(line));
        }
        refusals
    }

    fn apply_line(self, decisions: &[Decision]) -> Option<Refused> {
        let Entry { origin, key, value: Some(value), quiet } = &decisions.first()?.winner else {
            return None;
        };
        let (mut refused, mut reason) = (Vec::new(), None);
        for decision in decisions {
            if let Err(error) = self.write(&decision.key, value) {
                refused.push(decision.key.clone());
                reason.get_or_insert(error);
            }
        }
        if *quiet {
            return None;
        }
        let (origin, key, value) = (origin.clone(), key.clone(), value.clone());
        Some(Refused { origin, key, value, refused, tried: decisions.len(), source: reason? })
    }

    /// Writes a value in one write(2), as the kernel wants it; the newline lets
    /// an empty value be written at all. The file is cut off first, which says
    /// nothing to the kernel and is right for a tree of plain files.
    fn write(self, key: &Key, value: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(self.root.join(key.path()))?;
        let text = format!("{value}\n");
        if file.write(text.as_bytes())? == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// ` for 2 of 3 keys (A, B)`; nothing for a line that names one key.
fn among(refused: &[Key], tried: usize) -> String {
    if tried == 1 {
        return String::new();
    }
    let names: Vec<_> = refused.iter().map(ToString::to_string).collect();
    format!(" for {} of {tried} keys ({})", refused.len(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry;
    use crate::plan::Plan;

    fn tree(keys: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for key in keys {
            let path = root.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1024\n").unwrap();
        }
        root
    }

    #[test]
    fn patterns_match_as_in_glob_7() {
        let root = tree(&[
            "net/conf/all/f",
            "net/conf/eth0/f",
            "net/conf/eth0.100/f",
            "net/conf/.hidden/f",
            "net/conf/eth1/g",
            "net/conf/stray",
        ]);
        let expand = |pattern: &str| -> Vec<String> {
            let keys = Tree { root: root.path() }.expand(&Key::parse(pattern).unwrap()).unwrap();
            keys.iter().map(ToString::to_string).collect()
        };
        assert_eq!(expand("net.conf.*.f"), ["net.conf.all.f", "net.conf.eth0.f", "net.conf.eth0/100.f"]);
        assert_eq!(expand("net.conf.eth?.*"), ["net.conf.eth0.f", "net.conf.eth1.g"]);
        assert_eq!(expand("net/conf/eth0.*/f"), ["net.conf.eth0/100.f"]);
        assert_eq!(expand("*.conf.[!e]*.f"), ["net.conf.all.f"]);
        assert_eq!(expand("net.*.f"), [""; 0]);
        assert_eq!(expand("net.conf.*"), ["net.conf.stray"]);
    }

    #[test]
    fn values_are_written_whole_and_one_line_is_one_warning() {
        let root = tree(&["kernel/a", "net/conf/all/f", "net/conf/lo/f"]);
        // Not writable by anyone: a directory where a key should be.
        fs::create_dir(root.path().join("kernel/directory")).unwrap();
        let text =
            "kernel.a = 1\nkernel.none = 1\n-kernel.none2 = 1\nkernel.directory = 1\nnet.conf.*.f = 2\n";
        let (entries, _) = entry::read(Path::new("f"), text.as_bytes());
        let tree = Tree { root: root.path() };
        let plan = Plan::new(&entries, |pattern| tree.expand(pattern));
        fs::remove_file(root.path().join("net/conf/lo/f")).unwrap();
        let refusals = tree.apply(&plan.decisions);
        let text: Vec<_> = refusals.iter().map(|refused| format!("{refused}: {}", refused.source)).collect();
        assert_eq!(
            text,
            [
                "f:2: kernel.none: not set to \"1\": No such file or directory (os error 2)",
                "f:4: kernel.directory: not set to \"1\": Is a directory (os error 21)",
                "f:5: net.conf.*.f: not set to \"2\" for 1 of 2 keys (net.conf.lo.f): \
                 No such file or directory (os error 2)",
            ]
        );
        assert_eq!(fs::read_to_string(root.path().join("kernel/a")).unwrap(), "1\n");
        assert_eq!(fs::read_to_string(root.path().join("net/conf/all/f")).unwrap(), "2\n");
    }
}
