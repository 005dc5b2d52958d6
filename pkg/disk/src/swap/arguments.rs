// SPDX-License-Identifier: Apache-2.0
//! The command line of `swap.sh`.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use lexopt::Arg;

use crate::flags;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: swap.sh --path PATH --size SIZE [--condition CONDITION]... [--encrypt] [--debug]

Makes the file PATH, which is below /var, and swaps on it.

  --size SIZE            bytes, or a number with K, M or G
  --condition part:DIR[:true]
                         only if something is mounted on DIR
  --condition partsize:DIR:SIZE[:true]
                         only if the filesystem of DIR has SIZE
                         a condition that does not hold is no failure, but with
                         true it is
  --encrypt              by dm-crypt, with a key that nobody knows
  --debug                show the programs run and what they say
";

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// All of these must hold.
    pub conditions: Vec<Condition>,
    /// Encrypted.
    pub encrypt: bool,
    /// Say more.
    pub debug: bool,
}

/// Something that must hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    /// What.
    pub test: Test,
    /// It is a failure when it does not.
    pub required: bool,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Test {
    /// Something is mounted here.
    Mounted(PathBuf),
    /// The filesystem here has at least so many bytes.
    Size(PathBuf, u64),
}

impl Arguments {
    /// Reads the command line, without the program's name; `None` asks for help.
    ///
    /// # Errors
    /// On an unknown flag, on a value that cannot be read and on one missing.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, lexopt::Error> {
        let (mut path, mut bytes, mut conditions) = (None, None, Vec::new());
        let (mut encrypt, mut debug) = (false, false);
        let mut parser = flags::parser(words);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("path") if path.is_none() => path = Some(PathBuf::from(flags::text(&mut parser)?)),
                Arg::Long("path") => return Err(custom("--path: more than one".into())),
                Arg::Long("size") => {
                    let given = flags::text(&mut parser)?;
                    let read = size(&given).filter(|&bytes| bytes >= LEAST);
                    bytes =
                        Some(read.ok_or_else(|| custom(format!("--size {given}: no size for a swap file")))?);
                }
                Arg::Long("condition") => {
                    let given = flags::text(&mut parser)?;
                    let read = condition(&given);
                    conditions
                        .push(read.ok_or_else(|| custom(format!("--condition {given}: not understood")))?);
                }
                Arg::Long("encrypt") => encrypt = true,
                Arg::Long("debug") => debug = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        let path = path.ok_or_else(|| custom("--path is missing".into()))?;
        if !is_below_var(&path) {
            return Err(custom(format!("--path {}: not below /var", path.display())));
        }
        let size = bytes.ok_or_else(|| custom("--size is missing".into()))?;
        Ok(Some(Self { path, size, conditions, encrypt, debug }))
    }
}

/// The header and one page to swap on.
const LEAST: u64 = 2 * 4096;

/// Everything else in an image cannot be written or is memory.
fn is_below_var(path: &Path) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && path.starts_with("/var") && path != Path::new("/var")
}

fn custom(message: String) -> lexopt::Error {
    lexopt::Error::Custom(message.into())
}

/// Reads `2G`, `100M`, `5670K` or a number of bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = match text.as_bytes().last()? {
        b'K' => (text.strip_suffix('K')?, 1 << 10),
        b'M' => (text.strip_suffix('M')?, 1 << 20),
        b'G' => (text.strip_suffix('G')?, 1 << 30),
        _ => (text, 1),
    };
    // Not parse alone: it takes a sign.
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(unit)
}

fn condition(text: &str) -> Option<Condition> {
    let mut words = text.split(':');
    let test = match words.next()? {
        "part" => Test::Mounted(words.next().filter(|path| path.starts_with('/'))?.into()),
        "partsize" => {
            let path = words.next().filter(|path| path.starts_with('/'))?;
            Test::Size(path.into(), size(words.next()?)?)
        }
        _ => return None,
    };
    let required = match words.next() {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Condition { test, required })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::tests::parsed;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Ok(parsed(Arguments::parse, words)?.unwrap())
    }

    #[test]
    fn linuxkits_words() {
        let words = [
            "--path",
            "/var/external/swap",
            "--size",
            "1G",
            "--encrypt",
            "--condition",
            "part:/var/external:true",
            "--condition",
            "partsize:/var/external:2M",
        ];
        let arguments = parse(&words).unwrap();
        assert_eq!((arguments.size, arguments.encrypt, arguments.debug), (1 << 30, true, false));
        assert_eq!(
            arguments.conditions,
            [
                Condition { test: Test::Mounted("/var/external".into()), required: true },
                Condition { test: Test::Size("/var/external".into(), 2 << 20), required: false },
            ]
        );
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("8765432", 8_765_432), ("5670K", 5670 << 10), ("100M", 100 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(size(text), Some(bytes));
        }
        for text in ["", "G", "-1", "+1", "1T", "1.5G", "99999999999G"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn mistakes() {
        let with = |more: &[&str]| parse(&[&["--path", "/var/s", "--size", "1M"], more].concat());
        assert!(with(&[]).is_ok());
        for (words, message) in [
            (&["--path", "/var/t"][..], "--path: more than one"),
            (&["--condition", "part"], "--condition part: not understood"),
            (&["--condition", "partsize:/var:x"], "--condition partsize:/var:x: not understood"),
            (&["--condition", "part:/var:yes"], "--condition part:/var:yes: not understood"),
            (&["--size", "1"], "--size 1: no size for a swap file"),
        ] {
            assert_eq!(with(words).unwrap_err(), message);
        }
        for path in ["/tmp/swap", "/var", "var/swap", "/var/../etc/swap"] {
            assert_eq!(
                parse(&["--path", path, "--size", "1M"]).unwrap_err(),
                format!("--path {path}: not below /var")
            );
        }
        assert_eq!(parse(&["--path", "/var/s"]).unwrap_err(), "--size is missing");
    }
}
