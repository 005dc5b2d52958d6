// SPDX-License-Identifier: Apache-2.0
//! The command line of modprobe(8), as far as scripts use it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

/// What to do with the names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Task {
    #[default]
    Insert,
    Remove,
    ShowDepends,
    ResolveAlias,
}

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) task: Task,
    pub(super) all: bool,
    pub(super) dry_run: bool,
    pub(super) verbose: bool,
    pub(super) quiet: bool,
    pub(super) syslog: bool,
    pub(super) blacklist_names: bool,
    pub(super) ignore_install: bool,
    pub(super) first_time: bool,
    pub(super) release: Option<String>,
    pub(super) root: Option<PathBuf>,
    pub(super) config: Vec<PathBuf>,
    pub(super) words: Vec<String>,
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Run(Args),
    Help,
    Version,
}

pub(super) const HELP: &str = "\
Usage: modprobe [options] MODULE|ALIAS [OPTION=VALUE...]
       modprobe [options] -a MODULE|ALIAS...
       modprobe [options] -r MODULE|ALIAS...

  -a, --all              every word is a module
  -r, --remove           remove modules, and those they needed and nobody uses
  -b, --use-blacklist    the blacklist is also for modules named outright
  -i, --ignore-install   load what `install NAME /bin/false` forbids
      --first-time       fail if the module is loaded, or removed, already
  -D, --show-depends     show what would be loaded, whether it is loaded or not
  -R, --resolve-alias    show the modules an alias stands for
  -n, --dry-run          change nothing
  -v, --verbose          show what is done
  -q, --quiet            say nothing of what cannot be found
  -s, --syslog           messages go to the kernel's log too
  -S, --set-version V    use /lib/modules/V
  -d, --dirname DIR      look for /lib/modules below DIR
  -C, --config DIR       read this directory instead of /etc/modprobe.d etc.
";

pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, lexopt::Error> {
    let mut args = Args::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('a') | Long("all") => args.all = true,
            Short('r') | Long("remove") => args.task = Task::Remove,
            Short('D') | Long("show-depends") => args.task = Task::ShowDepends,
            Short('R') | Long("resolve-alias") => args.task = Task::ResolveAlias,
            Short('b') | Long("use-blacklist") => args.blacklist_names = true,
            Short('i') | Long("ignore-install" | "ignore-remove") => args.ignore_install = true,
            Long("first-time") => args.first_time = true,
            Short('n') | Long("dry-run" | "show") => args.dry_run = true,
            Short('v') | Long("verbose") => args.verbose = true,
            Short('q') | Long("quiet") => args.quiet = true,
            Short('s') | Long("syslog") => args.syslog = true,
            Short('S') | Long("set-version") => args.release = Some(parser.value()?.string()?),
            Short('d') | Long("dirname") => args.root = Some(parser.value()?.into()),
            Short('C') | Long("config") => args.config.push(parser.value()?.into()),
            Short('V') | Long("version") => return Ok(Parsed::Version),
            Short('h') | Long("help") => return Ok(Parsed::Help),
            Value(word) => args.words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Parsed::Run(args))
}

impl Args {
    /// The names, and the options for the only one there can be then.
    pub(super) fn split(&self) -> (&[String], String) {
        match self.words.split_first() {
            Some((name, options)) if self.task != Task::Remove && !self.all => {
                (std::slice::from_ref(name), join_options(options))
            }
            _ => (&self.words, String::new()),
        }
    }

    /// `path` below the directory of `-d`.
    pub(super) fn below_root(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => Path::new(path).to_owned(),
        }
    }
}

/// A value with blanks came through a shell that took its quotes; the kernel
/// needs them back.
fn join_options(words: &[String]) -> String {
    let quoted = words.iter().map(|word| match word.split_once('=') {
        Some((key, value)) if value.contains(' ') && !value.starts_with('"') => format!("{key}=\"{value}\""),
        _ => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &str) -> Args {
        match parse(words.split(' ').map(OsString::from)) {
            Ok(Parsed::Run(args)) => args,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn as_the_kernel_and_scripts_call_it() {
        let args = run("-q -- net-pf-40");
        assert!(args.quiet && args.task == Task::Insert);
        assert_eq!(args.split(), (&["net-pf-40".to_owned()][..], String::new()));
        let args = run("-qbv virtio_blk a=1 b=2");
        assert!(args.quiet && args.blacklist_names && args.verbose);
        assert_eq!(args.split().1, "a=1 b=2");
        let args = run("-a one two -S 6.1 --dirname=/x");
        assert_eq!(
            (args.split().0.len(), args.split().1.as_str(), args.release.as_deref()),
            (2, "", Some("6.1"))
        );
        assert_eq!(args.below_root("/lib/modules"), Path::new("/x/lib/modules"));
        assert_eq!(run("-r one two").split().0.len(), 2);
        assert!(parse(["--zork".into()]).is_err());
        assert_eq!(join_options(&["a=b c".to_owned(), "d=\"e f\"".to_owned()]), "a=\"b c\" d=\"e f\"");
    }
}
