// SPDX-License-Identifier: Apache-2.0
//! What the lines of a file say.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use crate::key::{Key, KeyError};

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: Rc<Path>,
    /// Its line, from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A line that sets or excludes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub origin: Origin,
    /// A key, or a pattern of keys.
    pub key: Key,
    /// What to write; `None` excludes the key from patterns: `-KEY`.
    pub value: Option<String>,
    /// Failure is no news: `-KEY = VALUE`.
    pub quiet: bool,
}

/// A line that cannot be read. The others count all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Neither an assignment nor an exclusion.
    #[error("{0}: ignored: neither KEY = VALUE nor -KEY: {1:?}")]
    NoAssignment(Origin, String),
    /// No key.
    #[error("{0}: ignored: {1:?}")]
    Key(Origin, String, #[source] KeyError),
    /// Bytes that are no text.
    #[error("{0}: ignored: not UTF-8")]
    Encoding(Origin),
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a file's text: sysctl.d(5). Blank lines and lines that begin with `#`
/// or `;` say nothing. The first `=` ends the key: values may hold more.
pub fn read(file: &Path, text: &[u8]) -> (Vec<Entry>, Vec<Unreadable>) {
    let file: Rc<Path> = file.into();
    let (mut entries, mut failures) = (Vec::new(), Vec::new());
    // What some editors put before a text says nothing of the first line.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let origin = Origin { file: Rc::clone(&file), line: index + 1 };
        match read_line(origin, line) {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => {}
            Err(failure) => failures.push(failure),
        }
    }
    (entries, failures)
}

fn read_line(origin: Origin, line: &[u8]) -> Result<Option<Entry>, Unreadable> {
    let Ok(line) = std::str::from_utf8(line) else { return Err(Unreadable::Encoding(origin)) };
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    let (dash, rest) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
    let (key, value) = match rest.split_once('=') {
        Some((key, value)) => (key, Some(value.trim().to_owned())),
        None if dash => (rest, None),
        None => return Err(Unreadable::NoAssignment(origin, line.to_owned())),
    };
    match Key::parse(key.trim()) {
        Ok(key) => Ok(Some(Entry { origin, key, value, quiet: dash })),
        Err(error) => Err(Unreadable::Key(origin, line.to_owned(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<String>, Vec<String>) {
        let (entries, failures) = read(Path::new("f"), text.as_bytes());
        let entries = entries.iter().map(|Entry { origin, key, value, quiet }| {
            format!("{} {key} {value:?}{}", origin.line, if *quiet { " quiet" } else { "" })
        });
        (entries.collect(), failures.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_of_every_kind() {
        let text = "\n# comment\n  ; comment\nkernel.a=1\r\n kernel/b = x = y # z \n-kernel.c = 2\n- kernel.d.*\nkernel.e =\n";
        let (entries, failures) = read_text(text);
        assert_eq!(
            entries,
            [
                "4 kernel.a Some(\"1\")",
                "5 kernel.b Some(\"x = y # z\")",
                "6 kernel.c Some(\"2\") quiet",
                "7 kernel.d.* None quiet",
                "8 kernel.e Some(\"\")",
            ]
        );
        assert!(failures.is_empty());
    }

    #[test]
    fn a_mark_before_the_text_is_no_part_of_its_first_line() {
        assert_eq!(read_text("\u{feff}kernel.a = 1\r\n").0, ["1 kernel.a Some(\"1\")"]);
        assert_eq!(read_text("\u{feff}# comment\n"), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_counts() {
        let (entries, failures) = read_text("nonsense\n= 1\n-\na/../../b = 1\nkernel.a = 1");
        assert_eq!(entries, ["5 kernel.a Some(\"1\")"]);
        assert_eq!(
            failures,
            [
                "f:1: ignored: neither KEY = VALUE nor -KEY: \"nonsense\"",
                "f:2: ignored: \"= 1\"",
                "f:3: ignored: \"-\"",
                "f:4: ignored: \"a/../../b = 1\"",
            ]
        );
        let (entries, failures) = read(Path::new("f"), b"a = \xff\nkernel.a = 1");
        assert_eq!((entries.len(), failures.len()), (1, 1));
        assert_eq!(failures[0].to_string(), "f:1: ignored: not UTF-8");
    }
}
