// SPDX-License-Identifier: Apache-2.0
//! How many machines run at once, over all test processes: an emulated
//! processor takes a whole one of the host, and a machine that waits for one
//! misses its deadlines. A machine has two processors, but seldom uses both.

use std::fs::{self, File, TryLockError};
use std::thread;

use anyhow::{Context, Result};

use crate::paths;

/// A place to run one machine, given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    _locks: Vec<File>,
}

impl Slot {
    /// Waits for a place. There is one for each processor of the host;
    /// `LKINIT_TEST_VMS` overrides it.
    pub fn take() -> Result<Self> {
        let mut files = locks()?;
        for n in 0..files.len() {
            match files[n].try_lock() {
                Ok(()) => {
                    return Ok(Self { _locks: vec![files.swap_remove(n)] });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).context("taking a slot"),
            }
        }
        // All taken: wait in one of the queues, chosen by the process number
        // so that waiting processes spread over them.
        let lock = files.swap_remove(std::process::id() as usize % files.len());
        lock.lock().context("waiting for a slot")?;
        Ok(Self { _locks: vec![lock] })
    }

    /// Waits until no other machine runs, and keeps it so: for measuring.
    pub fn take_all() -> Result<Self> {
        let locks = locks()?;
        for lock in &locks {
            lock.lock().context("waiting for the other machines to end")?;
        }
        Ok(Self { _locks: locks })
    }
}

fn locks() -> Result<Vec<File>> {
    let folder = paths::target().join("tests/slots");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    (0..count())
        .map(|n| File::create(folder.join(n.to_string())))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("opening a lock in {}", folder.display()))
}

fn count() -> usize {
    let asked = std::env::var("LKINIT_TEST_VMS").ok().and_then(|n| n.parse().ok());
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or_else(processors).max(1)
}
