// SPDX-License-Identifier: Apache-2.0
//! The lines that are kept: the newest, each with a number.

use std::collections::VecDeque;

use crate::entry::Entry;

/// The newest lines. Numbers count from the first line there ever was.
pub struct Ring {
    entries: VecDeque<Entry>,
    most: usize,
    next: u64,
}

impl Ring {
    /// Keeps `most` lines.
    pub fn new(most: usize) -> Self {
        Self { entries: VecDeque::new(), most: most.max(1), next: 0 }
    }

    /// Takes a line, in place of the oldest.
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() == self.most {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.next += 1;
    }

    /// The number of the next line.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest line that is kept.
    pub fn oldest(&self) -> u64 {
        self.next - self.entries.len() as u64
    }

    /// A line by its number.
    pub fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.oldest())?).ok()?)
    }

    /// How many lines are kept at most.
    pub fn most(&self) -> usize {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut ring = Ring::new(3);
        for n in 0..5_u8 {
            ring.push(Entry { time: Default::default(), source: "s".into(), msg: [n].as_slice().into() });
        }
        assert_eq!((ring.oldest(), ring.next()), (2, 5));
        let kept: Vec<u8> = (0..9).filter_map(|n| ring.get(n)).map(|entry| entry.msg[0]).collect();
        assert_eq!(kept, [2, 3, 4]);
    }
}
