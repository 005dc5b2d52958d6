// SPDX-License-Identifier: Apache-2.0
//! Which line wins for each key.

use std::collections::BTreeMap;
use std::fmt;

use crate::entry::{Entry, Origin};
use crate::key::Key;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// One for each key, in the order of the winning lines: settings such as
    /// `net.ipv4.conf.all.*` change others, so order matters to the kernel.
    pub decisions: Vec<Decision>,
    /// Patterns that lead to nothing.
    pub failures: Vec<Failure>,
}

/// What happens to one key.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// The key.
    pub key: Key,
    /// The line that won.
    pub winner: Entry,
    /// The lines that would have set it otherwise, in the order they were read.
    pub losers: Vec<Entry>,
}

/// A pattern that leads to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No key matches.
    #[error("{0}: {1}: matches no key")]
    NoMatch(Origin, Key),
    /// It is no pattern.
    #[error("{0}: {1}: ignored")]
    Pattern(Origin, Key, #[source] glob::PatternError),
}

/// The key's place among the entries.
struct Winner {
    index: usize,
    losers: Vec<usize>,
    /// Named by a pattern only.
    by_pattern: bool,
}

impl Plan {
    /// Weighs the entries of all files, in the order they were read.
    ///
    /// Of lines that name a key the last wins, `-KEY` included. A line that
    /// names a key wins over patterns, wherever it stands; of patterns that
    /// match a key the last wins, unless one is an exclusion.
    /// `expand` finds the keys that exist for a pattern.
    pub fn new(entries: &[Entry], expand: impl Fn(&Key) -> Result<Vec<Key>, glob::PatternError>) -> Self {
        let mut winners: BTreeMap<Key, Winner> = BTreeMap::new();
        let mut failures = Vec::new();
        let named = |entry: &Entry| !entry.key.is_pattern();
        let excludes = |entry: &Entry| entry.value.is_none();
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| named(entry)) {
            let winner = winners.entry(entry.key.clone()).or_insert_with(|| Winner::new(index, false));
            winner.yield_to(index);
        }
        // Patterns that exclude come first, and no other takes a key from them.
        let patterns = || entries.iter().enumerate().filter(|(_, entry)| !named(entry));
        let exclusions = patterns().filter(|(_, entry)| excludes(entry));
        for (index, entry) in exclusions.chain(patterns().filter(|(_, entry)| !excludes(entry))) {
            let keys = match expand(&entry.key) {
                Ok(keys) => keys,
                Err(error) => {
                    failures.push(Failure::Pattern(entry.origin.clone(), entry.key.clone(), error));
                    continue;
                }
            };
            if keys.is_empty() && !entry.quiet {
                failures.push(Failure::NoMatch(entry.origin.clone(), entry.key.clone()));
            }
            for key in keys {
                let winner = winners.entry(key).or_insert_with(|| Winner::new(index, true));
                if winner.by_pattern && !entries.get(winner.index).is_some_and(excludes) {
                    winner.yield_to(index);
                } else if winner.index != index {
                    winner.losers.push(index);
                }
            }
        }
        Self { decisions: decide(entries, winners), failures }
    }
}

impl Winner {
    fn new(index: usize, by_pattern: bool) -> Self {
        Self { index, losers: Vec::new(), by_pattern }
    }

    fn yield_to(&mut self, index: usize) {
        if self.index != index {
            self.losers.push(self.index);
            self.index = index;
        }
    }
}

fn decide(entries: &[Entry], winners: BTreeMap<Key, Winner>) -> Vec<Decision> {
    let mut decided: Vec<(Key, Winner)> = winners.into_iter().collect();
    // Stable: the keys of one pattern stay in the order of their names.
    decided.sort_by_key(|(_, winner)| winner.index);
    decided
        .into_iter()
        .filter_map(|(key, mut winner)| {
            winner.losers.sort_unstable();
            let losers = winner.losers.iter().filter_map(|index| entries.get(*index).cloned()).collect();
            Some(Decision { key, winner: entries.get(winner.index)?.clone(), losers })
        })
        .collect()
}

/// One line for what is done, with the line that won: `FILE:LINE: KEY = VALUE`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, winner: Entry { origin, value, .. }, .. } = self;
        match value {
            Some(value) => write!(f, "{origin}: {key} = {value}"),
            None => write!(f, "{origin}: {key} is left alone"),
        }
    }
}

impl Decision {
    /// The lines that lost, each as [`Decision`] prints the winner, indented.
    pub fn explanation(&self) -> String {
        let line = |loser: &Entry| {
            let value =
                loser.value.as_ref().map_or_else(|| "left alone".to_owned(), |value| format!("= {value}"));
            let pattern = if loser.key == self.key { String::new() } else { format!(" by {}", loser.key) };
            format!("\n    not {}: {value}{pattern}", loser.origin)
        };
        self.losers.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry;
    use std::path::Path;

    const KEYS: [&str; 5] =
        ["kernel.a", "net.conf.all.f", "net.conf.default.f", "net.conf.eth0.f", "net.conf.hub0.f"];

    fn plan(text: &str) -> Plan {
        let (entries, failures) = entry::read(Path::new("f"), text.as_bytes());
        assert!(failures.is_empty());
        Plan::new(&entries, |pattern| {
            let pattern = glob::Pattern::new(pattern.path())?;
            let keys = KEYS.iter().map(|key| Key::parse(key).unwrap());
            Ok(keys.filter(|key| pattern.matches(key.path())).collect())
        })
    }

    fn lines(text: &str) -> Vec<String> {
        let plan = plan(text);
        plan.decisions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_last_line_that_names_a_key_wins_and_keeps_its_place() {
        assert_eq!(
            lines("kernel.a = 1\nkernel.b = 1\nkernel/a = 2"),
            ["f:2: kernel.b = 1", "f:3: kernel.a = 2"]
        );
        assert_eq!(lines("kernel.a = 1\n-kernel.a"), ["f:2: kernel.a is left alone"]);
        assert_eq!(lines("-kernel.a\nkernel.a = 1"), ["f:2: kernel.a = 1"]);
    }

    /// The fourth example of sysctl.d(5).
    #[test]
    fn names_win_over_patterns() {
        let text = "net.conf.default.f = 2\nnet.conf.*.f = 2\n-net.conf.all.f\nnet.conf.hub0.f = 1";
        assert_eq!(
            lines(text),
            [
                "f:1: net.conf.default.f = 2",
                "f:2: net.conf.eth0.f = 2",
                "f:3: net.conf.all.f is left alone",
                "f:4: net.conf.hub0.f = 1",
            ]
        );
        let decisions = plan(text).decisions;
        assert_eq!(decisions[3].explanation(), "\n    not f:2: = 2 by net.conf.*.f");
        assert_eq!(decisions[1].explanation(), "");
    }

    #[test]
    fn the_last_pattern_wins_and_exclusions_can_be_patterns() {
        assert_eq!(
            lines(
                "net.conf.*.f = 1\nnet.conf.[eh]*.f = 2\n-net.conf.h*.f\nnet.conf.hub0.f = 3\n-net.conf.a*.f"
            ),
            [
                "f:1: net.conf.default.f = 1",
                "f:2: net.conf.eth0.f = 2",
                "f:4: net.conf.hub0.f = 3",
                "f:5: net.conf.all.f is left alone",
            ]
        );
        let decisions = plan("net.conf.*.f = 1\nnet.conf.e*.f = 2\nnet.conf.eth?.f = 3").decisions;
        assert_eq!(decisions[3].key.to_string(), "net.conf.eth0.f");
        assert_eq!(
            decisions[3].explanation(),
            "\n    not f:1: = 1 by net.conf.*.f\n    not f:2: = 2 by net.conf.e*.f"
        );
    }

    #[test]
    fn a_pattern_without_a_key_is_said_unless_it_is_quiet() {
        let failures = |text| plan(text).failures.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(failures("net.none.* = 1"), ["f:1: net.none.*: matches no key"]);
        assert!(failures("-net.none.* = 1\n-net.none.*").is_empty());
        assert_eq!(failures("net.[a = 1"), ["f:1: net.[a: ignored"]);
    }
}
