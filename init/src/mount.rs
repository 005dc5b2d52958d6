// SPDX-License-Identifier: Apache-2.0
//! One mount(2) call as data, and the option words of fstab(5).

use std::fmt;
use std::path::PathBuf;

pub use nix::mount::MsFlags;

/// The option words that are flags of mount(2) rather than text for the
/// filesystem: word, flag, and whether the word sets or clears it.
///
/// Source: mount(8) "FILESYSTEM-INDEPENDENT MOUNT OPTIONS", mount(2).
const WORDS: &[(&str, MsFlags, bool)] = &[
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("atime", MsFlags::MS_NOATIME, false),
    ("bind", MsFlags::MS_BIND, true),
    ("defaults", MsFlags::empty(), true),
    ("dev", MsFlags::MS_NODEV, false),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("iversion", MsFlags::MS_I_VERSION, true),
    ("lazytime", MsFlags::MS_LAZYTIME, true),
    ("loud", MsFlags::MS_SILENT, false),
    ("mand", MsFlags::MS_MANDLOCK, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("nodev", MsFlags::MS_NODEV, true),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("noiversion", MsFlags::MS_I_VERSION, false),
    ("nomand", MsFlags::MS_MANDLOCK, false),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), true),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("remount", MsFlags::MS_REMOUNT, true),
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("silent", MsFlags::MS_SILENT, true),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
];

/// Propagation words. mount(2) wants them in a call of their own.
const PROPAGATION: &[(&str, MsFlags)] = &[
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// Mount options, sorted into what mount(2) takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Flags of the mount itself.
    pub flags: MsFlags,
    /// How mount events spread, for a second call; `None` leaves it as it is.
    pub propagation: Option<MsFlags>,
    /// What is left, joined by commas: the filesystem's own options.
    pub data: String,
}

impl Options {
    /// Reads option words. A word that is none of mount(8)'s goes to the
    /// filesystem, which knows whether it means anything.
    pub fn parse<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut options = Self { flags: MsFlags::empty(), propagation: None, data: String::new() };
        for word in words {
            let word = word.as_ref();
            if let Some((_, flag, set)) = WORDS.iter().find(|(name, ..)| *name == word) {
                options.flags.set(*flag, *set);
            } else if let Some((_, flag)) = PROPAGATION.iter().find(|(name, _)| *name == word) {
                options.propagation = Some(*flag);
            } else if !word.is_empty() {
                if !options.data.is_empty() {
                    options.data.push(',');
                }
                options.data.push_str(word);
            }
        }
        options
    }
}

/// One mount(2) call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: a device, a directory (bind), or a name for the
    /// filesystems that have no source. Empty for a change of propagation.
    pub source: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Filesystem type; empty for bind, move, remount and propagation.
    pub fstype: String,
    /// Flags of mount(2).
    pub flags: MsFlags,
    /// The filesystem's own options.
    pub data: String,
}

impl Mount {
    /// A new filesystem of type `fstype` on `target`, with fstab option words.
    pub fn new(fstype: &str, target: impl Into<PathBuf>, options: &str) -> Self {
        let Options { flags, data, .. } = Options::parse(options.split(','));
        Self { source: PathBuf::from(fstype), target: target.into(), fstype: fstype.to_owned(), flags, data }
    }

    /// `source` made visible at `target` too.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::flagged(source, target, MsFlags::MS_BIND)
    }

    /// The mount at `source` moved to `target`.
    pub fn relocate(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::flagged(source, target, MsFlags::MS_MOVE)
    }

    /// New flags (and nothing else) for the mount at `target`.
    pub fn remount(target: impl Into<PathBuf>, flags: MsFlags) -> Self {
        Self::flagged("", target, flags | MsFlags::MS_REMOUNT)
    }

    /// A change of how mount events spread from and to `target`.
    pub fn propagation(target: impl Into<PathBuf>, flags: MsFlags) -> Self {
        Self::flagged("", target, flags)
    }

    fn flagged(source: impl Into<PathBuf>, target: impl Into<PathBuf>, flags: MsFlags) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            fstype: String::new(),
            flags,
            data: String::new(),
        }
    }
}

/// As mount(8) would be called.
impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mount")?;
        if !self.fstype.is_empty() {
            write!(f, " -t {}", self.fstype)?;
        }
        let mut words: Vec<&str> = Vec::new();
        let mut shown = MsFlags::empty();
        let propagation = PROPAGATION.iter().map(|(word, flag)| (*word, *flag));
        let plain = WORDS.iter().filter(|(.., set)| *set).map(|(word, flag, _)| (*word, *flag));
        // Two-flag words (rbind, rshared) first, so that they win over their halves.
        let mut known: Vec<_> = plain.chain(propagation).filter(|(_, flag)| !flag.is_empty()).collect();
        known.push(("move", MsFlags::MS_MOVE));
        known.sort_by_key(|(_, flag)| std::cmp::Reverse(flag.bits().count_ones()));
        for (word, flag) in known {
            if self.flags.contains(flag) && !shown.contains(flag) {
                words.push(word);
                shown |= flag;
            }
        }
        words.sort_unstable();
        if !self.data.is_empty() {
            words.push(&self.data);
        }
        if !words.is_empty() {
            write!(f, " -o {}", words.join(","))?;
        }
        if !self.source.as_os_str().is_empty() {
            write!(f, " {}", self.source.display())?;
        }
        write!(f, " {}", self.target.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted_into_flags_propagation_and_data() {
        let options = Options::parse(["rw", "rbind", "rshared", "size=10%", "mode=755"]);
        assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(options.propagation, Some(MsFlags::MS_SHARED | MsFlags::MS_REC));
        assert_eq!(options.data, "size=10%,mode=755");
    }

    #[test]
    fn a_later_word_undoes_an_earlier_one() {
        assert_eq!(Options::parse(["ro", "noexec", "rw"]).flags, MsFlags::MS_NOEXEC);
        assert_eq!(Options::parse(["", "defaults"]).flags, MsFlags::empty());
    }

    #[test]
    fn a_mount_reads_as_the_command_would() {
        let run = Mount::new("tmpfs", "/run", "nodev,nosuid,size=10%,mode=755");
        assert_eq!(run.to_string(), "mount -t tmpfs -o nodev,nosuid,size=10%,mode=755 tmpfs /run");
        let bind = Mount::flagged("/a", "/b", MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(bind.to_string(), "mount -o rbind /a /b");
        let share = Mount::propagation("/", MsFlags::MS_SHARED | MsFlags::MS_REC);
        assert_eq!(share.to_string(), "mount -o rshared /");
        assert_eq!(Mount::relocate("/mnt", "/").to_string(), "mount -o move /mnt /");
    }
}
