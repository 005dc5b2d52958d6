// SPDX-License-Identifier: Apache-2.0
//! The kernel command line.
//!
//! Words are split at white space; double quotes keep white space inside a
//! word and are dropped (Documentation/admin-guide/kernel-parameters.rst,
//! `next_arg()` in lib/cmdline.c). The last of several equal keys counts,
//! except where a key is a list, as `console=` is.

use std::io;
use std::path::Path;

/// A parsed command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    words: Vec<(String, Option<String>)>,
}

impl Cmdline {
    /// The running kernel's, from `/proc/cmdline`.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn current() -> io::Result<Self> {
        Self::read(Path::new("/proc/cmdline"))
    }

    /// The command line in a file. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&String::from_utf8_lossy(&std::fs::read(path)?)))
    }

    /// Splits a command line into words.
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.chars().chain([' ']) {
            match c {
                '"' => quoted = !quoted,
                c if c.is_ascii_whitespace() && !quoted => {
                    if !word.is_empty() {
                        words.push(split(&word));
                        word.clear();
                    }
                }
                c => word.push(c),
            }
        }
        // A quote that is never closed ends with the line.
        if quoted && !word.trim_end().is_empty() {
            words.push(split(word.trim_end()));
        }
        Self { words }
    }

    /// Whether the word stands there, with or without a value.
    pub fn has(&self, key: &str) -> bool {
        self.words.iter().any(|(k, _)| k == key)
    }

    /// The last value of `key=value`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.words.iter().rev().filter(|(k, _)| k == key).find_map(|(_, value)| value.as_deref())
    }

    /// Every value of `key=value`, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.words.iter().filter(move |(k, _)| k == key).filter_map(|(_, value)| value.as_deref())
    }

    /// A switch: `key`, `key=1`, `true`, `yes`, `on` are yes; `0`, `false`,
    /// `no`, `off` are no; anything else is as if it were not there.
    pub fn flag(&self, key: &str) -> Option<bool> {
        let (_, value) = self.words.iter().rev().find(|(k, _)| k == key)?;
        match value.as_deref() {
            None | Some("1" | "true" | "yes" | "on") => Some(true),
            Some("0" | "false" | "no" | "off") => Some(false),
            Some(_) => None,
        }
    }

    /// Every word with its value, in order.
    pub fn words(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.words.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }
}

fn split(word: &str) -> (String, Option<String>) {
    match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_lists_keep_all() {
        let line = Cmdline::parse("console=tty0 quiet console=ttyS0,115200 a=b=c\n");
        assert_eq!(line.get("console"), Some("ttyS0,115200"));
        assert_eq!(line.all("console").collect::<Vec<_>>(), ["tty0", "ttyS0,115200"]);
        assert_eq!(line.get("a"), Some("b=c"));
        assert!(line.has("quiet"));
        assert_eq!(line.get("quiet"), None);
        assert!(!line.has("qui"));
    }

    #[test]
    fn quotes_keep_blanks_together() {
        let line = Cmdline::parse(r#"a="b c" "d=e f" g="h"#);
        assert_eq!(line.get("a"), Some("b c"));
        assert_eq!(line.get("d"), Some("e f"));
        assert_eq!(line.get("g"), Some("h"));
    }

    #[test]
    fn switches() {
        let line = Cmdline::parse("on x=1 y=0 z=maybe w=0 w");
        assert_eq!(line.flag("on"), Some(true));
        assert_eq!(line.flag("x"), Some(true));
        assert_eq!(line.flag("y"), Some(false));
        assert_eq!(line.flag("z"), None);
        assert_eq!(line.flag("w"), Some(true));
        assert_eq!(line.flag("absent"), None);
    }
}
