// SPDX-License-Identifier: Apache-2.0
//! LinuxKit's flags: `-label X`, `--label X`, `-label=X`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use crate::say;

/// What a program is asked to do, as `parse` reads it; `None` where it was
/// asked for help, which is given here.
///
/// # Errors
/// What is wrong, and how the program is used.
pub fn read<W, T>(
    words: W,
    parse: impl FnOnce(W) -> Result<Option<T>, lexopt::Error>,
    usage: &str,
) -> Result<Option<T>, String> {
    let usage = usage.trim_end();
    let arguments = parse(words).map_err(|error| format!("{error}\n{usage}"))?;
    if arguments.is_none() {
        say(usage);
    }
    Ok(arguments)
}

/// A parser that takes one dash for two: none of these programs has a row of
/// one-letter flags.
pub fn parser(words: impl IntoIterator<Item = OsString>) -> lexopt::Parser {
    lexopt::Parser::from_args(words.into_iter().map(with_two_dashes))
}

/// The value of the flag just read, which must be text.
///
/// # Errors
/// When there is none, or other bytes.
pub fn text(parser: &mut lexopt::Parser) -> Result<String, lexopt::Error> {
    parser.value()?.into_string().map_err(lexopt::Error::NonUnicodeValue)
}

fn with_two_dashes(word: OsString) -> OsString {
    match word.as_bytes() {
        [b'-', first, _, ..] if *first != b'-' => {
            let mut long = OsString::from("-");
            long.push(word);
            long
        }
        _ => word,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `parse` makes of these words.
    pub(crate) fn parsed<T>(
        parse: impl FnOnce(Vec<OsString>) -> Result<Option<T>, lexopt::Error>,
        words: &[&str],
    ) -> Result<Option<T>, String> {
        parse(words.iter().map(OsString::from).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn help_is_no_mistake_and_a_mistake_gets_help() {
        let parse = |words: Vec<OsString>| match parser(words).next()? {
            Some(lexopt::Arg::Long("help")) => Ok(None),
            Some(other) => Err(other.unexpected()),
            None => Ok(Some(7)),
        };
        let read = |words: &[&str]| read(words.iter().map(OsString::from).collect(), parse, "usage: x\n");
        assert_eq!(read(&[]), Ok(Some(7)));
        assert_eq!(read(&["-help"]), Ok(None));
        assert_eq!(read(&["-y", "-yes"]).unwrap_err(), "invalid option '-y'\nusage: x");
    }
}
