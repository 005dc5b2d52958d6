// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a line of a configuration file: said once, on one line,
//! while the rest of the file counts.

use std::fmt;

/// Where a statement of the configuration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file's path, or what else the statement came from.
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Something in a configuration file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Where.
    pub origin: Origin,
    /// What, and what is done about it.
    pub what: String,
}

impl Complaint {
    /// A complaint about a line.
    pub fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { origin: Origin { file: file.to_owned(), line }, what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.what)
    }
}

/// Keeps the first `most` complaints of a file, those from `first` on, and
/// counts the others in the last: a damaged file is one mistake, and not as
/// many as it has lines.
pub(super) fn fold(complaints: &mut Vec<Complaint>, first: usize, most: usize) {
    let more = complaints.len().saturating_sub(first + most);
    if more == 0 {
        return;
    }
    complaints.truncate(first + most);
    if let Some(last) = complaints.last_mut() {
        last.what += &format!(", and so are {more} more of this file");
    }
}

/// A word of a file as it is shown: not longer than a name may be, and without
/// what a terminal would act upon.
pub(super) fn shown(word: &str) -> String {
    const MOST: usize = 60;
    let mut characters = word.chars();
    let start: String = characters.by_ref().take(MOST).collect();
    let dots = if characters.next().is_some() { "..." } else { "" };
    format!("{}{dots}", start.escape_debug())
}

/// The lines of a table that depmod(8) wrote, with their numbers, without
/// blank ones and comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
