// SPDX-License-Identifier: Apache-2.0
//! The command line of `format`: LinuxKit's, and `--dry-run`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;

use crate::{flags, wait};

/// What `-help` prints.
pub const USAGE: &str = "\
usage: format [-label LABEL] [-type TYPE] [-partition TABLE] [-force] [-timeout SECONDS]
              [-verbose] [--dry-run] [DEVICE]

Makes one partition and a filesystem on DEVICE or, without it, on the first
disk with nothing on it. What has anything on it is left alone.

  -label LABEL      the filesystem's label, of at most 16 bytes (xfs: 12, btrfs:
                    255); without DEVICE, a label that is on some disk already
                    means that nothing is left to do
  -type TYPE        ext4 (if nothing is said), ext3, ext2, xfs or btrfs
  -partition TABLE  dos (if nothing is said) or gpt
  -force            format DEVICE whatever is on it
  -timeout SECONDS  wait that long for DEVICE or, without it, for a first disk (10)
  -verbose          show the programs run and what they say
  --dry-run         show what would be run, and run nothing
";

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The disk, where one is named.
    pub device: Option<PathBuf>,
    /// The filesystem's label.
    pub label: Option<String>,
    /// The filesystem.
    pub kind: Kind,
    /// The partition table.
    pub table: Table,
    /// Whatever is on the device.
    pub force: bool,
    /// How long to wait for a disk.
    pub timeout: Duration,
    /// Say more.
    pub verbose: bool,
    /// Run nothing.
    pub dry_run: bool,
}

/// A filesystem that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
}

/// A kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The one of DOS, up to 2 TiB.
    Dos,
    /// GUID partition table.
    Gpt,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Ext2, Self::Ext3, Self::Ext4, Self::Xfs, Self::Btrfs];

    /// As mkfs(8) calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// How many bytes a label has at most: ext4(5), mkfs.xfs(8), mkfs.btrfs(8).
    fn longest_label(self) -> usize {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => 16,
            Self::Xfs => 12,
            Self::Btrfs => 255,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Arguments {
    /// Reads the command line, without the program's name; `None` asks for help.
    ///
    /// # Errors
    /// On an unknown flag or value, and on two devices.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, lexopt::Error> {
        let mut arguments = Self {
            device: None,
            label: None,
            kind: Kind::Ext4,
            table: Table::Dos,
            force: false,
            timeout: wait::PATIENCE,
            verbose: false,
            dry_run: false,
        };
        let mut parser = flags::parser(words);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("label") => {
                    arguments.label = Some(flags::text(&mut parser)?).filter(|l| !l.is_empty())
                }
                Arg::Long("type") => {
                    let name = flags::text(&mut parser)?;
                    arguments.kind =
                        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                            let known = Kind::ALL.map(Kind::name).join(", ");
                            lexopt::Error::Custom(format!("-type {name}: not one of {known}").into())
                        })?;
                }
                Arg::Long("partition") => {
                    arguments.table = match flags::text(&mut parser)?.as_str() {
                        "dos" | "mbr" => Table::Dos,
                        "gpt" => Table::Gpt,
                        other => {
                            let message = format!("-partition {other}: neither dos nor gpt");
                            return Err(lexopt::Error::Custom(message.into()));
                        }
                    }
                }
                Arg::Long("force") => arguments.force = true,
                Arg::Long("timeout") => arguments.timeout = wait::seconds(&flags::text(&mut parser)?)?,
                Arg::Long("verbose") => arguments.verbose = true,
                Arg::Long("dry-run") => arguments.dry_run = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Value(device) if arguments.device.is_none() => arguments.device = Some(device.into()),
                other => return Err(other.unexpected()),
            }
        }
        if arguments.force && arguments.device.is_none() {
            return Err(lexopt::Error::Custom("-force needs the disk's name".into()));
        }
        // mkfs.ext4 cuts a longer one off and says so to nobody: no boot would
        // find the label, and each would format another disk.
        let longest = arguments.kind.longest_label();
        if let Some(label) = arguments.label.as_ref().filter(|label| label.len() > longest) {
            let kind = arguments.kind;
            let message = format!("-label {label}: longer than the {longest} bytes that {kind} has for it");
            return Err(lexopt::Error::Custom(message.into()));
        }
        Ok(Some(arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::tests::parsed;

    fn parse(words: &[&str]) -> Result<Option<Arguments>, String> {
        parsed(Arguments::parse, words)
    }

    #[test]
    fn linuxkits_flags() {
        let arguments =
            parse(&["-verbose", "-force", "-type", "xfs", "--label=x", "/dev/sda"]).unwrap().unwrap();
        assert_eq!(arguments.device, Some("/dev/sda".into()));
        assert_eq!((arguments.kind, arguments.table), (Kind::Xfs, Table::Dos));
        assert_eq!(arguments.label.as_deref(), Some("x"));
        assert!(arguments.force && arguments.verbose && !arguments.dry_run);
        let arguments = parse(&["-partition", "gpt"]).unwrap().unwrap();
        assert_eq!((arguments.table, arguments.kind, arguments.device), (Table::Gpt, Kind::Ext4, None));
        assert_eq!(parse(&["-help"]), Ok(None));
    }

    #[test]
    fn mistakes() {
        for words in [
            &["/dev/sda", "/dev/sdb"][..],
            &["-type", "ntfs"],
            &["-partition", "bsd"],
            &["-force"],
            &["-label"],
            &["-timeout", "soon"],
            &["-x"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        // The last that fits, and one more.
        for (kind, longest) in [("ext4", 16), ("ext2", 16), ("xfs", 12), ("btrfs", 255)] {
            let with = |length: usize| parse(&["-label", &"l".repeat(length), "-type", kind]);
            assert!(with(longest).is_ok(), "{kind}");
            assert!(with(longest + 1).unwrap_err().contains(&format!("than the {longest} bytes")), "{kind}");
        }
        assert_eq!(
            parse(&["-type", "ntfs"]).unwrap_err(),
            "-type ntfs: not one of ext2, ext3, ext4, xfs, btrfs"
        );
    }
}
