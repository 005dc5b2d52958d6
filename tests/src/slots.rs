// SPDX-License-Identifier: Apache-2.0
//! How many machines run at once, over all test processes: an emulated
//! processor takes a whole one of the host, and a machine that waits for one
//! misses its deadlines. A machine has two processors, but seldom uses both.
//!
//! The tests of one process are served in the order in which they ask, so that
//! a place that is free is never waited for and one that wants all places gets
//! them. Other processes are told by locks on files.

use std::fs::{self, File};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::paths;

/// A place to run one machine, or all of them; given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    numbers: Vec<usize>,
    locks: Vec<File>,
}

/// The places that no test of this process has.
#[derive(Debug)]
struct Places {
    free: Vec<usize>,
    /// The number of the next to ask, and of the next to be served.
    asks: u64,
    served: u64,
}

impl Places {
    fn new(count: usize) -> Self {
        Self { free: (0..count).collect(), asks: 0, served: 0 }
    }
}

/// Those of this process, and whoever waits for some.
static PLACES: LazyLock<(Mutex<Places>, Condvar)> =
    LazyLock::new(|| (Mutex::new(Places::new(count())), Condvar::new()));

impl Slot {
    /// Waits for a place. There is one for each processor of the host;
    /// `LKINIT_TEST_VMS` overrides it.
    pub fn take() -> Result<Self> {
        Self::of(1)
    }

    /// Waits until no other machine runs, and keeps it so: for measuring.
    pub fn take_all() -> Result<Self> {
        Self::of(count())
    }

    fn of(wanted: usize) -> Result<Self> {
        let mut slot = Self { numbers: wait(&PLACES, wanted), locks: Vec::new() };
        let folder = paths::target().join("tests/slots");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        // In one order, so that no two processes wait for each other.
        for number in slot.numbers.clone() {
            let path = folder.join(number.to_string());
            let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
            file.lock().with_context(|| format!("locking {}", path.display()))?;
            slot.locks.push(file);
        }
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.locks.clear();
        give(&PLACES, &self.numbers);
    }
}

fn wait(places: &(Mutex<Places>, Condvar), wanted: usize) -> Vec<usize> {
    let mut state = lock(places);
    let number = state.asks;
    state.asks += 1;
    let waits = |state: &mut Places| state.served != number || state.free.len() < wanted;
    let mut state = places.1.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
    state.served += 1;
    let rest = state.free.split_off(wanted);
    let mut taken = std::mem::replace(&mut state.free, rest);
    taken.sort_unstable();
    drop(state);
    // The next may find a place, too.
    places.1.notify_all();
    taken
}

fn give(places: &(Mutex<Places>, Condvar), numbers: &[usize]) {
    lock(places).free.extend_from_slice(numbers);
    places.1.notify_all();
}

fn lock(places: &(Mutex<Places>, Condvar)) -> MutexGuard<'_, Places> {
    // A test that panicked while it held the lock left no half-done state.
    places.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count() -> usize {
    let asked = std::env::var("LKINIT_TEST_VMS").ok().and_then(|n| n.parse().ok());
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or_else(processors).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// One that wants all gets them before those that ask later, though there
    /// is a place for one of these all the time.
    #[test]
    fn who_asks_first_is_served_first() {
        let places = Arc::new((Mutex::new(Places::new(2)), Condvar::new()));
        let first = wait(&places, 1);
        let (served, order) = channel();
        let mut threads = Vec::new();
        for (asks, wanted) in [2, 1, 1].into_iter().enumerate() {
            let (shared, served) = (places.clone(), served.clone());
            threads.push(thread::spawn(move || {
                let taken = wait(&shared, wanted);
                served.send((wanted, taken.len())).unwrap();
                give(&shared, &taken);
            }));
            // Until this one has its number: the first took one before.
            while lock(&places).asks < asks as u64 + 2 {
                thread::yield_now();
            }
        }
        assert!(order.recv_timeout(Duration::from_millis(50)).is_err(), "somebody did not wait");
        give(&places, &first);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [(2, 2), (1, 1), (1, 1)]);
        assert_eq!(lock(&places).free.len(), 2);
    }
}
