// SPDX-License-Identifier: Apache-2.0
//! LinuxKit's flags: `-label X`, `--label X`, `-label=X`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

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
