// SPDX-License-Identifier: Apache-2.0
//! The command line: LinuxKit's flags and ours, with one dash or two.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt as _};
use thiserror::Error;

use crate::endpoint::Cid;
use crate::gate::{Allow, Gate};
use crate::rule::{self, Rule};

/// What `-help` prints.
pub const USAGE: &str = "\
usage: vsudd [FLAG]...

Joins vsock ports with unix sockets, both ways.

  -inport PORT:unix:PATH          accept on a vsock port, connect to a unix socket
  -inport PORT:unixgram:PATH      the same, to a datagram socket; messages have their length before them
  -inport PORT:tcp:HOST:PORT      the same, to a TCP port
  -outport PATH:PORT[:CID]        accept on a unix socket, connect to a vsock port (of the host)
  -syslog PORT:PATH               send messages from a datagram socket to a vsock port of the host
  -ready PORT[:CID]               say READY=1 to a vsock port (of the host) when all targets answer
  -allow-cid CID,...|any          machines that may connect (host,local)
  -allow-uid UID,...|any          users that may connect to -outport sockets (root and our own)
  -max-connections N              at one time, for each -inport and -outport (4096)
  -retry TIME                     how long a connection waits for a target that is not there (3s)
  -detach                         go to the background once everything is bound (not as PID 1); log to /dev/kmsg
  -pidfile FILE                   write the process number there
  -plan                           print what would be done and how it is confined; do nothing
  -v                              say more: each connection

A PORT may be written as the Hyper-V service GUID XXXXXXXX-facb-11e6-bd58-64006a7986d3.
";

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// What to forward, in the order given.
    pub rules: Vec<Rule>,
    /// What was asked for and cannot be read. The rest is done all the same.
    pub mistakes: Vec<Mistake>,
    /// Who may connect.
    pub gate: Gate,
    /// How many connections each rule has at one time, at most.
    pub limit: usize,
    /// How long a connection waits for a target that is not there.
    pub patience: Duration,
    /// Go to the background.
    pub detach: bool,
    /// Where to write the process number.
    pub pidfile: Option<PathBuf>,
    /// What to do with the rules.
    pub mode: Mode,
    /// Say more.
    pub verbose: bool,
}

/// What to do with the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carry them out.
    Run,
    /// Print them.
    Plan,
    /// Print how the program is used.
    Help,
}

/// A rule that cannot be read.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("-{flag} {value}: not done: {source}")]
pub struct Mistake {
    flag: &'static str,
    value: String,
    source: rule::Error,
}

/// Why the command line as a whole cannot be read.
#[derive(Debug, Error)]
pub enum Error {
    /// An unknown flag, or a value that is missing or is none.
    #[error(transparent)]
    Flag(#[from] lexopt::Error),
    /// A list of machines that cannot be read; guessing could let in a stranger.
    #[error("-allow-cid {value}: {source}")]
    Cid {
        /// The flag's value.
        value: String,
        /// What is wrong.
        source: rule::Error,
    },
    /// A time that cannot be read.
    #[error("-retry {0}: no time: give a number with ms, s or m after it")]
    Time(String),
}

impl Arguments {
    /// Reads the command line, without the program's name. `uid` is the user
    /// that runs the program.
    ///
    /// # Errors
    /// On an unknown flag or a setting that cannot be read. A rule that cannot
    /// be read is among the mistakes.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>, uid: u32) -> Result<Self, Error> {
        let (mut cids, mut uids) = (None, None);
        let mut this = Self {
            rules: Vec::new(),
            mistakes: Vec::new(),
            gate: Gate { cids: Allow::Any, uids: Allow::Any },
            limit: 4096,
            patience: Duration::from_secs(3),
            detach: false,
            pidfile: None,
            mode: Mode::Run,
            verbose: false,
        };
        let mut parser = Parser::from_args(arguments.into_iter().map(with_two_dashes));
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("inport") => this.add("inport", parser.value()?.string()?, Rule::inport),
                Arg::Long("outport") => this.add("outport", parser.value()?.string()?, Rule::outport),
                Arg::Long("syslog") => this.add("syslog", parser.value()?.string()?, Rule::syslog),
                Arg::Long("ready") => this.add("ready", parser.value()?.string()?, Rule::ready),
                Arg::Long("allow-cid") => {
                    let value = parser.value()?.string()?;
                    extend(&mut cids, &value, rule::cid).map_err(|source| Error::Cid { value, source })?;
                }
                Arg::Long("allow-uid") => {
                    let value = parser.value()?;
                    let text = value.clone().string()?;
                    extend(&mut uids, &text, |text| OsString::from(text).parse())?;
                }
                Arg::Long("max-connections") => this.limit = parser.value()?.parse()?,
                Arg::Long("retry") => {
                    let text = parser.value()?.string()?;
                    this.patience = time(&text).ok_or(Error::Time(text))?;
                }
                Arg::Long("detach") => this.detach = switch(&mut parser)?,
                Arg::Long("pidfile") => this.pidfile = Some(parser.value()?.into()),
                Arg::Long("plan") => this.mode = Mode::Plan,
                Arg::Long("help") | Arg::Short('h') => this.mode = Mode::Help,
                Arg::Short('v') => this.verbose = true,
                other => return Err(other.unexpected().into()),
            }
        }
        this.gate.cids = cids.unwrap_or(Allow::Only(vec![Cid::HOST, Cid::LOCAL]));
        this.gate.uids = uids.unwrap_or(Allow::Only(if uid == 0 { vec![0] } else { vec![0, uid] }));
        Ok(this)
    }

    fn add(&mut self, flag: &'static str, value: String, parse: fn(&str) -> Result<Rule, rule::Error>) {
        match parse(&value) {
            Ok(rule) => self.rules.push(rule),
            Err(source) => self.mistakes.push(Mistake { flag, value, source }),
        }
    }
}

/// Adds a comma-separated list to one; `any` makes it everybody for good.
fn extend<T, E>(
    list: &mut Option<Allow<T>>,
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<(), E> {
    for word in text.split(',') {
        match list.get_or_insert(Allow::Only(Vec::new())) {
            Allow::Any => {}
            any if word == "any" => *any = Allow::Any,
            Allow::Only(items) => items.push(parse(word)?),
        }
    }
    Ok(())
}

/// A flag that is on, unless it says `=false`, as Go's flags do.
fn switch(parser: &mut Parser) -> Result<bool, lexopt::Error> {
    parser.optional_value().map_or(Ok(true), |value| value.parse())
}

fn time(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(unit)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "" if number == 0 => Some(Duration::ZERO),
        _ => None,
    }
}

/// `-inport` is not a row of one-letter flags: none has more than one letter.
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
    use proptest::prelude::*;

    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(OsString::from), 0).map_err(|error| error.to_string())
    }

    #[test]
    fn linuxkit_flags_with_one_dash_or_two() {
        let one = parse(&[
            "-inport",
            "1:unix:/a",
            "-inport=2:unix:/b",
            "-syslog",
            "3:/c",
            "-detach",
            "-pidfile=/p",
        ]);
        let two = parse(&[
            "--inport=1:unix:/a",
            "--inport",
            "2:unix:/b",
            "--syslog=3:/c",
            "--detach=true",
            "--pidfile",
            "/p",
        ]);
        assert_eq!(one, two);
        let one = one.unwrap();
        assert_eq!(one.rules.len(), 3);
        assert!(one.detach && one.mistakes.is_empty() && one.pidfile == Some("/p".into()));
        assert!(!parse(&["-detach=false"]).unwrap().detach);
    }

    #[test]
    fn a_bad_rule_leaves_the_others_alone() {
        let arguments = parse(&["-inport", "x:unix:/a", "-inport", "2:unix:/b"]).unwrap();
        assert_eq!(arguments.rules, [Rule::inport("2:unix:/b").unwrap()]);
        let text = arguments.mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(
            text.first().unwrap().starts_with("-inport x:unix:/a: not done: \"x\" is no vsock port"),
            "{text:?}"
        );
    }

    #[test]
    fn who_may_connect() {
        let gate = |words: &[&str]| {
            let gate = parse(words).unwrap().gate;
            (gate.cids.to_string(), gate.uids.to_string())
        };
        assert_eq!(gate(&[]), ("2,1".into(), "0".into()));
        assert_eq!(gate(&["-allow-cid", "3", "-allow-cid=host,4"]), ("3,2,4".into(), "0".into()));
        assert_eq!(gate(&["-allow-cid", "3,any,4", "-allow-uid", "5"]), ("any".into(), "5".into()));
        assert!(parse(&["-allow-cid", "3,x"]).is_err() && parse(&["-allow-uid", ""]).is_err());
        let own = Arguments::parse([], 1000).unwrap().gate.uids;
        assert_eq!(own, Allow::Only(vec![0, 1000]));
    }

    #[test]
    fn times() {
        for (text, expected) in
            [("0", Some(0)), ("250ms", Some(250)), ("3s", Some(3000)), ("2m", Some(120_000))]
        {
            assert_eq!(time(text), expected.map(Duration::from_millis), "{text}");
        }
        for text in ["", "3", "s", "-1s", "1h", "1.5s", "99999999999999999999s", "999999999999999999m"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn mistakes_that_end_the_program() {
        for words in
            [&["-inports", "1"][..], &["-inport"], &["x"], &["-retry", "soon"], &["-max-connections", "-1"]]
        {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_arguments_or_an_error(words in proptest::collection::vec("-{0,2}(inport|outport|syslog|ready|allow-cid|retry|detach|v|h)?=?\\PC{0,12}", 0..6)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let _ = parse(&words);
        }
    }
}
