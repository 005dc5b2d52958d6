// SPDX-License-Identifier: Apache-2.0
//! modules.alias: which modules drive a device with a given modalias.
//!
//! A distribution's file has thousands of patterns, a machine a hundred
//! modaliases. The patterns are sorted by what stands before their first
//! wildcard, and a look-up narrows the sorted list byte by byte of the
//! modalias: what is left at each step shares so much of it, and the patterns
//! whose literal part ends there are the ones to try.

use std::ops::Range;

use super::complaint::{Complaint, fold, lines};
use super::glob;
use super::name::{ModuleName, normalise_alias};

/// The patterns of a modules.alias file, ready for look-ups.
#[derive(Debug, Default)]
pub(super) struct AliasTable {
    text: String,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    pattern: Range<usize>,
    literal: usize,
    module: Range<usize>,
}

impl AliasTable {
    /// Reads lines `alias PATTERN MODULE`; `file` is what complaints name.
    pub(super) fn parse(file: &str, text: &str, complaints: &mut Vec<Complaint>) -> Self {
        let mut table = Self { text: String::with_capacity(text.len()), entries: Vec::new() };
        let first = complaints.len();
        for (number, line) in lines(text) {
            // A pattern may hold blanks, a module's name may not.
            let parts = line.strip_prefix("alias ").and_then(|rest| rest.trim().rsplit_once(' '));
            match parts.map(|(pattern, module)| (pattern.trim_end(), module)) {
                Some((pattern, module)) if !pattern.is_empty() => table.push(pattern, module),
                _ => complaints.push(Complaint::new(
                    file,
                    number,
                    "is not `alias PATTERN MODULE`; the line is left out",
                )),
            }
        }
        fold(complaints, first, 1);
        let text = &table.text;
        table.entries.sort_by(|a, b| literal_of(text, a).cmp(literal_of(text, b)));
        table
    }

    fn push(&mut self, pattern: &str, module: &str) {
        let start = self.text.len();
        self.text.push_str(&normalise_alias(pattern));
        let middle = self.text.len();
        let literal = self.text.get(start..).map_or(0, glob::literal_length);
        self.text.push_str(module);
        self.entries.push(Entry { pattern: start..middle, literal, module: middle..self.text.len() });
    }

    /// The modules with a pattern that matches, each once, in the file's order.
    pub(super) fn lookup(&self, modalias: &str) -> Vec<ModuleName> {
        let modalias = normalise_alias(modalias);
        let mut hits: Vec<&Entry> = Vec::new();
        let mut range = self.entries.as_slice();
        for depth in 0..=modalias.len() {
            let ends_here = range.partition_point(|entry| entry.literal <= depth);
            let (tried, longer) = range.split_at_checked(ends_here).unwrap_or((range, &[]));
            hits.extend(tried.iter().filter(|entry| self.matches(entry, &modalias)));
            let Some(byte) = modalias.as_bytes().get(depth) else { break };
            let from = longer.partition_point(|entry| self.byte(entry, depth) < Some(*byte));
            let to = longer.partition_point(|entry| self.byte(entry, depth) <= Some(*byte));
            range = longer.get(from..to).unwrap_or_default();
            if range.is_empty() {
                break;
            }
        }
        hits.sort_by_key(|entry| entry.pattern.start);
        let mut modules: Vec<ModuleName> = Vec::new();
        for entry in hits {
            let name = ModuleName::new(self.text.get(entry.module.clone()).unwrap_or_default());
            if !modules.contains(&name) {
                modules.push(name);
            }
        }
        modules
    }

    fn matches(&self, entry: &Entry, modalias: &str) -> bool {
        let wild = self.text.get(entry.pattern.start + entry.literal..entry.pattern.end);
        wild.zip(modalias.get(entry.literal..)).is_some_and(|(wild, rest)| glob::matches(wild, rest))
    }

    fn byte(&self, entry: &Entry, depth: usize) -> Option<u8> {
        self.text.as_bytes().get(entry.pattern.start + depth).copied()
    }
}

fn literal_of<'a>(text: &'a str, entry: &Entry) -> &'a [u8] {
    let start = entry.pattern.start;
    text.as_bytes().get(start..start + entry.literal).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(text: &str) -> (AliasTable, Vec<String>) {
        let mut complaints = Vec::new();
        let table = AliasTable::parse("modules.alias", text, &mut complaints);
        (table, complaints.iter().map(ToString::to_string).collect())
    }

    fn names(table: &AliasTable, modalias: &str) -> Vec<String> {
        table.lookup(modalias).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_matching_pattern_counts_once_in_the_order_of_the_file() {
        let (table, complaints) = table(
            "# Aliases extracted from modules themselves.\n\
             alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
             alias pci:v*d*sv*sd*bc02sc00i00* any-net\n\
             alias * everything\n\
             alias pci:v00001AF4d00001000sv* virtio-pci\n\
             alias pci:v00001AF4d00001000 never\n\
             alias net-pf-40 vsock\n\
             alias dmi*:svnA B:* with blanks\n",
        );
        assert!(complaints.is_empty(), "{complaints:?}");
        let modalias = "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00";
        assert_eq!(names(&table, modalias), ["virtio_pci", "any_net", "everything"]);
        assert_eq!(names(&table, "net_pf-40"), ["everything", "vsock"]);
        assert_eq!(names(&table, "pci:v00001AF4d00001000"), ["everything", "never"]);
        assert_eq!(names(&table, ""), ["everything"]);
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_counts() {
        let (table, complaints) = table("alias a\n\nalias b m\nalis c m\nalias  x\n");
        assert_eq!(names(&table, "b"), ["m"]);
        assert_eq!(table.entries.len(), 1);
        assert_eq!(
            complaints,
            [
                "modules.alias:1: is not `alias PATTERN MODULE`; the line is left out, and so are 2 more of this file"
            ]
        );
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_plain_search_finds(
            patterns in proptest::collection::vec("[ab*?]{1,6}", 0..40),
            modalias in "[ab]{0,8}",
        ) {
            let text: String = patterns.iter().enumerate().map(|(i, p)| format!("alias {p} m{i}\n")).collect();
            let plain: Vec<String> = patterns.iter().enumerate()
                .filter(|(_, p)| glob::matches(p, &modalias)).map(|(i, _)| format!("m{i}")).collect();
            prop_assert_eq!(names(&table(&text).0, &modalias), plain);
        }
    }
}
