// SPDX-License-Identifier: Apache-2.0
//! What the boot has done so far, for an rc that is started again in the
//! middle of it: nothing is done twice.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// The last step of a boot.
pub const BOOTED: &str = "booted";

/// A file with one line a step that is done.
pub struct Progress {
    done: RefCell<BTreeSet<String>>,
    file: Option<File>,
}

impl Progress {
    /// What an earlier life of rc has done, by its file.
    ///
    /// # Errors
    /// Those of opening the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let done = fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { done: RefCell::new(done), file: Some(file) })
    }

    /// A record that is kept in memory only.
    pub fn forgetful() -> Self {
        Self { done: RefCell::default(), file: None }
    }

    /// Whether a step is done.
    pub fn has(&self, step: &str) -> bool {
        self.done.borrow().contains(step)
    }

    /// Notes that a step is done. A line is one write(2), so a crash leaves
    /// it whole or not at all.
    pub fn mark(&self, step: &str) {
        if self.done.borrow_mut().insert(step.to_owned())
            && let Some(mut file) = self.file.as_ref()
        {
            // Without the note the step may be repeated: no reason to stop.
            let _ = file.write_all(format!("{step}\n").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_life_knows_what_the_first_has_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let first = Progress::open(&path).unwrap();
        assert!(!first.has("mounts"));
        first.mark("mounts");
        first.mark("mounts");
        let second = Progress::open(&path).unwrap();
        assert!(second.has("mounts") && !second.has(BOOTED));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mounts\n");
    }
}
