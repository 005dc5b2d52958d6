// SPDX-License-Identifier: Apache-2.0
//! The command lines: LinuxKit's flags, with one dash or two.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use lexopt::{Arg, ValueExt as _};

/// Where logs are handed in: CONTRACT 7.
pub const LOG: &str = "/var/run/linuxkit-external-logging.sock";

/// Where they are asked for.
pub const QUERY: &str = "/var/run/memlogdq.sock";

/// What `-help` prints.
pub const USAGE: &str = "\
usage: memlogd [-socket-log PATH | -fd-log FD] [-socket-query PATH | -fd-query FD]
               [-max-lines N] [-max-line-len N] [-daemonize]
       logread [-socket PATH] [-f | -F]
       logwrite [-socket PATH] [-log-dir DIR] [-max-log-size BYTES] [-max-log-files N]
       logwrite [-socket PATH] [-n NAME] COMMAND [ARGUMENT]...

memlogd keeps the last lines of every log that it is handed.
logread prints what memlogd has; -f prints what comes instead, -F both.
logwrite writes what memlogd has and gets to DIR/NAME.log, one file a log; with a
command, it runs that and hands its output to memlogd.

  -socket-log    where logs are handed in (/var/run/linuxkit-external-logging.sock)
  -socket-query  where they are asked for (/var/run/memlogdq.sock)
  -fd-log, -fd-query  the same, as sockets that are open already
  -max-lines     how many lines are kept (5000)
  -max-line-len  bytes of a line; the rest of a longer one is a line of its own (1024)
  -daemonize     return when both sockets are there
  -log-dir       where files are written (/var/log)
  -max-log-size  the most that a file holds, in bytes (1048576)
  -max-log-files how many older files are kept: NAME.log.0, NAME.log.1, ... (10)
  -n             what NAME.stdout and NAME.stderr are called; the command without it
";

/// What the program is called for.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// `memlogd`.
    Daemon(Daemon),
    /// `logread`.
    Read(Read),
    /// `logwrite`.
    Write(Write),
    /// `logwrite` with a command.
    Wrap(Wrap),
    /// How it is used.
    Help,
}

/// Where a socket comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// It is made.
    Path(PathBuf),
    /// It is open already.
    Descriptor(i32),
}

/// The options of `memlogd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Where logs are handed in.
    pub log: Socket,
    /// Where they are asked for.
    pub query: Socket,
    /// How many lines are kept.
    pub max_lines: usize,
    /// The longest line.
    pub max_line_len: usize,
    /// Whether to go on in a process of its own.
    pub daemonize: bool,
}

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What there is.
    Dump = 0,
    /// What comes.
    Follow = 1,
    /// Both.
    DumpAndFollow = 2,
}

/// The options of `logread`.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The query socket.
    pub socket: PathBuf,
    /// What is wanted.
    pub mode: Mode,
}

/// The options of `logwrite`.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// The query socket.
    pub socket: PathBuf,
    /// Where files are written.
    pub folder: PathBuf,
    /// The most that a file holds.
    pub max_size: u64,
    /// How many older files are kept.
    pub max_files: u32,
}

/// The options of `logwrite` with a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrap {
    /// The socket where logs are handed in.
    pub socket: PathBuf,
    /// The log's name.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<OsString>,
}

impl Call {
    /// Reads a command line, the program's name included.
    ///
    /// # Errors
    /// What is wrong, and the name that the program was called by.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, (&'static str, lexopt::Error)> {
        let mut arguments = arguments.into_iter();
        let called = arguments.next().unwrap_or_default();
        let called = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let arguments: Vec<OsString> = arguments.collect();
        match called.as_str() {
            "logread" => Self::read(arguments).map_err(|error| ("logread", error)),
            "logwrite" => Self::write(arguments).map_err(|error| ("logwrite", error)),
            // As the script of init.d that it stands for.
            name if name.ends_with("-logging") => {
                Ok(Self::Daemon(Daemon { daemonize: true, ..Daemon::default() }))
            }
            _ => Self::daemon(arguments).map_err(|error| ("memlogd", error)),
        }
    }

    fn daemon(arguments: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut options = Daemon::default();
        let mut parser = parser(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("socket-log") => options.log = Socket::Path(parser.value()?.into()),
                Arg::Long("socket-query") => options.query = Socket::Path(parser.value()?.into()),
                Arg::Long("fd-log") => options.log = descriptor(parser.value()?.parse()?, options.log),
                Arg::Long("fd-query") => options.query = descriptor(parser.value()?.parse()?, options.query),
                Arg::Long("max-lines") => options.max_lines = at_least_one(parser.value()?)?,
                Arg::Long("max-line-len") => options.max_line_len = at_least_one(parser.value()?)?,
                Arg::Long("daemonize") => options.daemonize = switch(&mut parser)?,
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Help),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Self::Daemon(options))
    }

    fn read(arguments: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut options = Read { socket: QUERY.into(), mode: Mode::Dump };
        let mut parser = parser(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("socket") => options.socket = parser.value()?.into(),
                Arg::Short(flag @ ('f' | 'F')) => {
                    if switch(&mut parser)? {
                        options.mode = if flag == 'f' { Mode::Follow } else { Mode::DumpAndFollow };
                    }
                }
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Help),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Self::Read(options))
    }

    fn write(arguments: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut socket: Option<PathBuf> = None;
        let mut name = None;
        let (mut folder, mut max_size, mut max_files) = (PathBuf::from("/var/log"), 1024 * 1024, 10);
        let words = arguments.clone();
        let mut parser = parser(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("socket") => socket = Some(parser.value()?.into()),
                Arg::Short('n') => name = Some(parser.value()?.string()?),
                Arg::Long("log-dir") => folder = parser.value()?.into(),
                Arg::Long("max-log-size") => max_size = parser.value()?.parse()?,
                Arg::Long("max-log-files") => max_files = parser.value()?.parse()?,
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Help),
                Arg::Value(program) => {
                    let name = name.unwrap_or_else(|| program.to_string_lossy().into_owned());
                    // What follows belongs to the command, whatever it looks
                    // like: taken from the words as they were.
                    let left = parser.raw_args()?.count();
                    let command = words.into_iter().rev().take(left).rev();
                    let command = std::iter::once(program).chain(command).collect();
                    let socket = socket.unwrap_or_else(|| LOG.into());
                    return Ok(Self::Wrap(Wrap { socket, name, command }));
                }
                other => return Err(other.unexpected()),
            }
        }
        let socket = socket.unwrap_or_else(|| QUERY.into());
        Ok(Self::Write(Write { socket, folder, max_size, max_files }))
    }
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            log: Socket::Path(LOG.into()),
            query: Socket::Path(QUERY.into()),
            max_lines: 5000,
            max_line_len: 1024,
            daemonize: false,
        }
    }
}

fn parser(arguments: Vec<OsString>) -> lexopt::Parser {
    lexopt::Parser::from_args(arguments.into_iter().map(with_two_dashes))
}

/// `-max-lines` is not a row of one-letter flags: none has more than one letter.
fn with_two_dashes(argument: OsString) -> OsString {
    match argument.as_bytes() {
        [b'-', first, second, ..] if *first != b'-' && *second != b'=' => {
            let mut long = OsString::from("-");
            long.push(argument);
            long
        }
        _ => argument,
    }
}

/// LinuxKit's default for a descriptor that there is none of is -1.
fn descriptor(number: i32, otherwise: Socket) -> Socket {
    if number < 0 { otherwise } else { Socket::Descriptor(number) }
}

fn at_least_one(value: OsString) -> Result<usize, lexopt::Error> {
    match value.parse()? {
        0 => Err("0 is not enough".into()),
        number => Ok(number),
    }
}

/// Go's flags may say `-f=false`.
fn switch(parser: &mut lexopt::Parser) -> Result<bool, lexopt::Error> {
    match parser.optional_value() {
        None => Ok(true),
        Some(value) => match value.to_str() {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            _ => Err(format!("{value:?} is neither true nor false").into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Call, String> {
        Call::parse(line.split_whitespace().map(OsString::from)).map_err(|(_, error)| error.to_string())
    }

    #[test]
    fn memlogd() {
        assert_eq!(parse("/usr/bin/memlogd"), Ok(Call::Daemon(Daemon::default())));
        let expected = Daemon {
            log: Socket::Descriptor(3),
            query: Socket::Path("/q".into()),
            max_lines: 7,
            max_line_len: 9,
            daemonize: true,
        };
        let line = "memlogd -fd-log=3 --socket-query /q -max-lines 7 -max-line-len=9 -daemonize";
        assert_eq!(parse(line), Ok(Call::Daemon(expected)));
        assert_eq!(parse("memlogd -fd-log -1 -daemonize=false"), Ok(Call::Daemon(Daemon::default())));
        let script = Daemon { daemonize: true, ..Daemon::default() };
        assert_eq!(parse("/etc/init.d/002-logging"), Ok(Call::Daemon(script)));
        for wrong in ["memlogd -max-lines 0", "memlogd -max-lines x", "memlogd x", "memlogd -daemonize=x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn logread() {
        let mode = |line: &str| match parse(line) {
            Ok(Call::Read(options)) => Some((options.socket, options.mode)),
            _ => None,
        };
        assert_eq!(mode("logread"), Some((QUERY.into(), Mode::Dump)));
        assert_eq!(mode("logread -f"), Some((QUERY.into(), Mode::Follow)));
        assert_eq!(mode("logread -F=true -socket /s"), Some(("/s".into(), Mode::DumpAndFollow)));
        assert_eq!(mode("logread -f=false"), Some((QUERY.into(), Mode::Dump)));
    }

    #[test]
    fn logwrite() {
        let Ok(Call::Write(options)) = parse("logwrite -max-log-size=10 -max-log-files 2 -log-dir /l") else {
            panic!("no files");
        };
        assert_eq!((options.max_size, options.max_files, options.folder), (10, 2, "/l".into()));
        let Ok(Call::Wrap(options)) = parse("logwrite -n x /bin/ls -la --color -n") else {
            panic!("no command")
        };
        assert_eq!((options.name.as_str(), options.socket), ("x", LOG.into()));
        assert_eq!(options.command, ["/bin/ls", "-la", "--color", "-n"]);
        let Ok(Call::Wrap(options)) = parse("logwrite /bin/dmesg") else { panic!("no command") };
        assert_eq!(options.name, "/bin/dmesg");
    }
}
