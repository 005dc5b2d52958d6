// SPDX-License-Identifier: Apache-2.0
//! The command line: LinuxKit's flags, with one dash or two.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use lexopt::Arg;

use crate::files::DIRECTORIES;

/// What `-help` prints.
pub const USAGE: &str = "\
usage: sysctl [-configDir DIR]... [-sysctlDir DIR] [--dry-run | --explain]

Applies kernel settings from configuration files: sysctl.d(5).

  -configDir DIR  read DIR/*.conf instead of /etc/sysctl.d, /run/sysctl.d,
                  /usr/local/lib/sysctl.d and /usr/lib/sysctl.d; may be given
                  more than once, the directory that counts most first
  -sysctlDir DIR  the tree to write to (/proc/sys)
  --dry-run       print what would be set and the line it comes from; set nothing
  --explain       as --dry-run, with the lines and files that do not count, and
                  how the program is confined
";

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Where configuration files are, the directory that counts most first.
    pub directories: Vec<PathBuf>,
    /// The tree of settings.
    pub tree: PathBuf,
    /// What to do with them.
    pub mode: Mode,
}

/// What to do with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Write them.
    Apply,
    /// Print what would be written.
    DryRun,
    /// Print also why.
    Explain,
    /// Print how the program is used.
    Help,
}

impl Arguments {
    /// Reads the command line, without the program's name.
    ///
    /// # Errors
    /// On an unknown flag or a missing value.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut directories = Vec::new();
        let mut tree = PathBuf::from("/proc/sys");
        let mut mode = Mode::Apply;
        let mut parser = lexopt::Parser::from_args(arguments.into_iter().map(with_two_dashes));
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("configDir") => directories.push(parser.value()?.into()),
                Arg::Long("sysctlDir") => tree = parser.value()?.into(),
                Arg::Long("dry-run") => mode = Mode::DryRun,
                Arg::Long("explain") => mode = Mode::Explain,
                Arg::Long("help") | Arg::Short('h') => mode = Mode::Help,
                other => return Err(other.unexpected()),
            }
        }
        if directories.is_empty() {
            directories = DIRECTORIES.map(PathBuf::from).to_vec();
        }
        Ok(Self { directories, tree, mode })
    }
}

/// `-configDir` is not a row of one-letter flags: none has more than one letter.
fn with_two_dashes(argument: OsString) -> OsString {
    match argument.as_bytes() {
        [b'-', first, _, ..] if *first != b'-' => {
            let mut long = OsString::from("-");
            long.push(argument);
            long
        }
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn linuxkit_flags_with_one_dash_or_two() {
        let expected = |directory: &str, tree: &str| Arguments {
            directories: vec![directory.into()],
            tree: tree.into(),
            mode: Mode::Apply,
        };
        assert_eq!(parse(&["-configDir", "/c", "-sysctlDir=/s"]), Ok(expected("/c", "/s")));
        assert_eq!(parse(&["--configDir=/c", "--sysctlDir", "/s"]), Ok(expected("/c", "/s")));
        let default = parse(&[]).unwrap();
        assert_eq!(default.directories[0], PathBuf::from("/etc/sysctl.d"));
        assert_eq!(default.tree, PathBuf::from("/proc/sys"));
    }

    #[test]
    fn modes_and_mistakes() {
        assert_eq!(parse(&["-dry-run"]).unwrap().mode, Mode::DryRun);
        assert_eq!(parse(&["--explain"]).unwrap().mode, Mode::Explain);
        assert_eq!(parse(&["-h"]).unwrap().mode, Mode::Help);
        assert_eq!(parse(&["-configDir", "/a", "-configDir", "/b"]).unwrap().directories.len(), 2);
        assert!(parse(&["-w"]).is_err());
        assert!(parse(&["kernel.a=1"]).is_err());
        assert!(parse(&["-configDir"]).is_err());
    }
}
