// SPDX-License-Identifier: Apache-2.0
//! What rc remembers of each service, for an rc that takes over: its state
//! machine, in a file of `/run/lkinit/services`.
//!
//! Without it an rc that is started again would know what runs, and not what
//! somebody stopped, what was given up, or how often something has failed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::state::Machine;

/// The folder of the files.
pub(super) struct Memory(PathBuf);

impl Memory {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What an earlier life of rc knew of a service; `None` where there was
    /// none, or where its file cannot be read.
    pub(super) fn recall(&self, name: &str) -> Option<Machine> {
        serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()
    }

    /// Writes down what is known of a service. A reader finds the old text or
    /// the new one, and never a part.
    ///
    /// # Errors
    /// Those of writing a file and renaming it.
    pub(super) fn store(&self, name: &str, machine: &Machine) -> io::Result<()> {
        let text = serde_json::to_vec(machine)?;
        // No service has this name: theirs begin with a letter or a digit.
        let new = self.file(".new");
        if let Err(error) = fs::write(&new, &text) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::create_dir_all(&self.0)?;
            fs::write(&new, &text)?;
        }
        fs::rename(new, self.file(name))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::policy::Policy;
    use super::super::state::Event;
    use super::*;

    #[test]
    fn a_machine_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(&dir.path().join("services"));
        assert_eq!(memory.recall("web"), None);
        let mut machine = Machine::default();
        machine.step(&Policy::default(), Event::Start, Duration::from_millis(1234));
        memory.store("web", &machine).unwrap();
        assert_eq!(memory.recall("web"), Some(machine.clone()));
        machine.step(&Policy::default(), Event::Launched, Duration::from_millis(2345));
        memory.store("web", &machine).unwrap();
        assert_eq!(memory.recall("web"), Some(machine));
        assert_eq!(fs::read_dir(dir.path().join("services")).unwrap().count(), 1);
        fs::write(dir.path().join("services/web"), "{").unwrap();
        assert_eq!(memory.recall("web"), None);
    }
}
