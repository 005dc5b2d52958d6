// SPDX-License-Identifier: Apache-2.0
//! The command line of `service`.
//!
//! Flags have one dash or two, values behind a blank or `=`, and stand
//! anywhere, as Go's flag package lets users of LinuxKit's `service` write
//! them: `service start -sock S NAME`. (lexopt and its like take `-sock` for
//! `-s -o -c -k`.)

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::bundle::Stage;
use crate::engine::containerd::SOCKET;
use crate::paths;

/// One command: how it is called, what it does in a word, and its own flags.
pub(super) struct Command {
    pub(super) name: &'static str,
    usage: &'static str,
    summary: &'static str,
    /// Flags that other commands do not have.
    flags: &'static [(&'static str, &'static str)],
    /// What else is to be said.
    more: &'static str,
}

const JSON: (&str, &str) = ("json", "print JSON");
const FOLLOW: (&str, &str) = ("f", "go on with what comes, until interrupted");
const LINES: (&str, &str) = ("n N", "the last N only");

/// Every command, in the order of the help text.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "status",
        usage: "[NAME...]",
        summary: "how services are doing",
        flags: &[JSON],
        more: "Exit status with NAME: 0 it is up, 3 it is not, 4 there is none of that name.\n",
    },
    Command {
        name: "list",
        usage: "",
        summary: "every container of the image, and what became of it",
        flags: &[JSON, ("names", "print the names of services only")],
        more: "",
    },
    Command {
        name: "start",
        usage: "NAME...",
        summary: "start services, and wait until they are up",
        flags: &[],
        more: "",
    },
    Command {
        name: "stop",
        usage: "NAME...",
        summary: "stop services, and wait until they are down",
        flags: &[],
        more: "",
    },
    Command {
        name: "restart",
        usage: "NAME...",
        summary: "stop services if they are up, and start them",
        flags: &[],
        more: "A service that has crashed, or was given up, is started as well.\n",
    },
    Command {
        name: "logs",
        usage: "NAME",
        summary: "what a service has printed",
        flags: &[FOLLOW, LINES],
        more: "The name of an onboot container (000-sysctl, or sysctl) will do, too.\n",
    },
    Command {
        name: "exec",
        usage: "NAME COMMAND [ARGUMENT...]",
        summary: "run a command in a service's container",
        flags: &[
            ("t", "with a terminal (as by itself where input and output are one)"),
            ("T", "without a terminal"),
        ],
        more: "Exit status: the command's; 125 if it could not be tried.\n",
    },
    Command {
        name: "events",
        usage: "[NAME...]",
        summary: "what has happened to services",
        flags: &[FOLLOW, LINES, JSON],
        more: "",
    },
    Command {
        name: "boot",
        usage: "",
        summary: "where the boot's time went",
        flags: &[JSON, ("svg", "print a chart as SVG")],
        more: "For example: service boot -svg >boot.svg\n",
    },
    Command {
        name: "completion",
        usage: "bash",
        summary: "print what bash needs to complete this command",
        flags: &[],
        more: "The image has it in /usr/share/bash-completion/completions/service.\n",
    },
    Command {
        name: "system-init",
        usage: "",
        summary: "start every service that is not up",
        flags: &[],
        more: "",
    },
];

const COMMON: &str = "\
  -q             say nothing but errors
  -v             say more
  -path DIR      the folder of the services' bundles (/containers/services)
  -sock PATH     containerd's socket, where no supervisor answers
  -containerd-namespace NS
                 containerd's namespace, where no supervisor answers
  -dump-spec FILE
                 start: write the service's OCI configuration to FILE
";

const STATUSES: &str = "\
Exit status: 0 done, 1 failed, 2 wrong usage, 3 not running, 4 no such service.
";

/// What bash needs to complete this command.
pub(super) const COMPLETION: &str = include_str!("completion.bash");

/// The command of this name.
pub(super) fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// How `service` is called.
pub(super) fn usage() -> String {
    let mut text = "usage: service [OPTIONS] COMMAND\n\n".to_owned();
    for command in COMMANDS {
        let call = format!("{} {}", command.name, command.usage);
        text += &match call.len() > 16 {
            true => format!("  {call}\n  {:<16} {}\n", "", command.summary),
            false => format!("  {call:<16} {}\n", command.summary),
        };
    }
    format!(
        "{text}\noptions (with one dash or two):\n{COMMON}\n{STATUSES}`service help COMMAND` tells more.\n"
    )
}

/// How one command is called.
pub(super) fn help(command: &Command) -> String {
    let mut text =
        format!("usage: service {} {}\n\n{}\n", command.name, command.usage, capitalised(command.summary));
    if !command.flags.is_empty() {
        text.push('\n');
        for (flag, what) in command.flags {
            text += &format!("  {:<14} {what}\n", format!("-{flag}"));
        }
    }
    if !command.more.is_empty() {
        text = format!("{text}\n{}", command.more);
    }
    format!("{text}\nOptions of every command are in `service help`.\n")
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    pub(super) namespace: Option<String>,
    pub(super) socket: PathBuf,
    pub(super) path: PathBuf,
    pub(super) dump_spec: Option<PathBuf>,
    pub(super) help: bool,
    pub(super) json: bool,
    pub(super) svg: bool,
    pub(super) names_only: bool,
    pub(super) follow: bool,
    pub(super) lines: Option<usize>,
    pub(super) terminal: Option<bool>,
    /// The command.
    pub(super) verb: String,
    /// What it is to be done to.
    pub(super) words: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            quiet: false,
            verbose: false,
            namespace: None,
            socket: SOCKET.into(),
            path: Path::new(paths::CONTAINERS).join(Stage::Services.folder()),
            dump_spec: None,
            help: false,
            json: false,
            svg: false,
            names_only: false,
            follow: false,
            lines: None,
            terminal: None,
            verb: String::new(),
            words: Vec::new(),
        }
    }
}

/// Reads flags and words. What stands behind `exec NAME` is the command's own.
pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut used: Vec<String> = Vec::new();
    let mut arguments = arguments.map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = arguments.next() {
        let flag = word.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag));
        let Some(flag) = flag.filter(|_| word != "-") else {
            match options.verb.is_empty() {
                true => options.verb = word,
                false => options.words.push(word),
            }
            if options.verb == "exec" && !options.words.is_empty() {
                options.words.extend(arguments.by_ref());
            }
            continue;
        };
        let (flag, inline) = match flag.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (flag, None),
        };
        // `-n5`, as tail(1) is called.
        let (flag, inline) = match flag.strip_prefix('n').filter(|count| count.parse::<usize>().is_ok()) {
            Some(count) => ("n", Some(count.to_owned())),
            None => (flag, inline),
        };
        let mut value = || {
            let value = inline.clone().or_else(|| arguments.next());
            value.ok_or_else(|| format!("-{flag} wants a value"))
        };
        match flag {
            "q" => options.quiet = true,
            "v" => options.verbose = true,
            "containerd-namespace" => options.namespace = Some(value()?),
            "sock" => options.socket = value()?.into(),
            "path" => options.path = value()?.into(),
            "dump-spec" => options.dump_spec = Some(value()?.into()),
            "h" | "help" => options.help = true,
            "json" => options.json = true,
            "svg" => options.svg = true,
            "names" => options.names_only = true,
            "f" | "follow" => options.follow = true,
            "n" | "lines" => {
                let text = value()?;
                let count = text.parse().map_err(|_| format!("-n: {text:?} is no number"))?;
                options.lines = Some(count);
            }
            "t" => options.terminal = Some(true),
            "T" => options.terminal = Some(false),
            // The end of the flags, as elsewhere.
            "" => {
                let rest: Vec<String> = arguments.by_ref().collect();
                options.words.extend(rest);
            }
            _ => return Err(format!("unknown flag {word:?}")),
        }
        used.push(flag.to_owned());
    }
    let own = |flag: &str| match flag {
        "follow" => "f".to_owned(),
        "lines" => "n".to_owned(),
        flag => flag.to_owned(),
    };
    let takes = |command: &Command, flag: &str| {
        command.flags.iter().any(|(known, _)| known.split(' ').next() == Some(flag))
    };
    for flag in used.iter().map(|flag| own(flag)) {
        let special = COMMANDS.iter().any(|command| takes(command, &flag));
        if let Some(command) = command(&options.verb)
            && special
            && !takes(command, &flag)
        {
            return Err(format!("{}: unknown flag \"-{flag}\"", command.name));
        }
    }
    Ok(options)
}

/// The name among `names` that `name` is most likely meant to be.
pub(super) fn near<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    let scored = names.into_iter().map(|known| (distance(name, known), known));
    scored
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many characters have to be added, left out, changed or swapped with
/// their neighbour (the optimal string alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    let cell = |rows: &[Vec<usize>], i: usize, j: usize| {
        rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(usize::MAX / 2)
    };
    for i in 1..=a.len() {
        rows.push(vec![i]);
        for j in 1..=b.len() {
            let same = a.get(i - 1) == b.get(j - 1);
            let mut least = (cell(&rows, i - 1, j) + 1)
                .min(cell(&rows, i, j - 1) + 1)
                .min(cell(&rows, i - 1, j - 1) + usize::from(!same));
            if i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1) {
                least = least.min(cell(&rows, i - 2, j - 2) + 1);
            }
            if let Some(row) = rows.get_mut(i) {
                row.push(least);
            }
        }
    }
    cell(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_stand_anywhere_with_one_dash_or_two() {
        let options = words("-q start --sock /s -path=/p getty").unwrap();
        assert!(options.quiet);
        assert_eq!((options.verb.as_str(), options.words.as_slice()), ("start", &["getty".to_owned()][..]));
        assert_eq!((options.socket, options.path), ("/s".into(), "/p".into()));
        assert_eq!(words("-containerd-namespace x stop y").unwrap().namespace.as_deref(), Some("x"));
        assert_eq!(words("logs -n5 -f x").unwrap().lines, Some(5));
        assert_eq!(words("logs x --lines=7").unwrap().lines, Some(7));
    }

    #[test]
    fn every_spelling_of_the_contract() {
        for line in [
            "start NAME",
            "-q stop NAME",
            "-v restart NAME",
            "system-init",
            "-containerd-namespace NS start -sock P -path P -dump-spec F NAME",
            "--containerd-namespace NS system-init --sock P --path P",
            "-q --v -containerd-namespace=NS start --sock=P -path=P -dump-spec=F NAME",
        ] {
            let options = words(line).unwrap();
            assert!(command(&options.verb).is_some(), "{line}");
            assert!(options.verb == "system-init" || options.words == ["NAME"], "{line}");
        }
    }

    #[test]
    fn what_stands_behind_a_container_belongs_to_the_command() {
        let options = words("-v exec -T getty ls -l --json -f").unwrap();
        assert_eq!(options.words, ["getty", "ls", "-l", "--json", "-f"]);
        assert_eq!((options.terminal, options.json, options.follow), (Some(false), false, false));
        let options = words("exec -- getty -x").unwrap();
        assert_eq!(options.words, ["getty", "-x"]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert_eq!(words("start -sock").unwrap_err(), "-sock wants a value");
        assert_eq!(words("--fast start x").unwrap_err(), "unknown flag \"--fast\"");
        assert_eq!(words("start -json x").unwrap_err(), "start: unknown flag \"-json\"");
        assert_eq!(words("logs -n many x").unwrap_err(), "-n: \"many\" is no number");
    }

    #[test]
    fn a_name_with_a_slip_is_recognised() {
        let names = ["getty", "sshd", "node-exporter"];
        assert_eq!(near("gtty", names), Some("getty"));
        assert_eq!(near("gteyt", names), None);
        assert_eq!(near("sshdd", names), Some("sshd"));
        assert_eq!(near("nodeexporter", names), Some("node-exporter"));
        assert_eq!(near("web", names), None);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn bash_knows_every_command_and_flag() {
        let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        assert!(COMPLETION.contains(&format!("local commands='{}'\n", names.join(" "))));
        for command in COMMANDS.iter().filter(|command| !command.flags.is_empty()) {
            let own = command.flags.iter().map(|(flag, _)| flag.split(' ').next().unwrap());
            let own: String = own.map(|flag| format!(" -{flag}")).collect();
            let line = format!("\t\t{}) flags+='{own}' ;;\n", command.name);
            assert!(COMPLETION.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_help_fits_a_terminal() {
        for text in COMMANDS.iter().map(help).chain([usage()]) {
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
}
