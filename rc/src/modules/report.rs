// SPDX-License-Identifier: Apache-2.0
//! What became of the modules.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::complaint::{Complaint, Origin};
use super::insert::InsertError;
use super::name::ModuleName;

/// How the attempt to load a module ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was loaded now.
    Loaded,
    /// It was there already.
    AlreadyLive,
    /// It found nothing on this machine that it drives.
    NoDevice,
    /// The configuration forbids it.
    Forbidden(Origin),
    /// It was not tried, since a module it needs ended as `end` says.
    Blocked {
        /// The module it needs.
        need: ModuleName,
        /// Whether that is a fault, and not somebody's wish or a missing device.
        fault: bool,
    },
    /// It was tried in vain.
    Failed(InsertError),
}

/// One module, and what became of it.
#[derive(Debug)]
pub struct ModuleEvent {
    /// Which.
    pub name: ModuleName,
    /// The modalias, name or module that wanted it.
    pub wanted_by: String,
    /// When it was begun, since the kernel started.
    pub started: Duration,
    /// How long it took.
    pub took: Duration,
    /// The modules it had to wait for.
    pub needs: Vec<ModuleName>,
    /// How it ended.
    pub outcome: Outcome,
}

impl ModuleEvent {
    /// Whether something is wrong that a person should see.
    pub fn is_fault(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_) | Outcome::Blocked { fault: true, .. })
    }
}

impl fmt::Display for ModuleEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}: ", self.name)?;
        match &self.outcome {
            Outcome::Loaded => {
                return write!(f, "loaded in {:.3}s for {}", self.took.as_secs_f64(), self.wanted_by);
            }
            Outcome::AlreadyLive => return f.write_str("loaded already"),
            Outcome::NoDevice => return write!(f, "not loaded: it finds no device (for {})", self.wanted_by),
            Outcome::Forbidden(origin) => return write!(f, "not loaded: forbidden by {origin}"),
            Outcome::Blocked { need, .. } => write!(f, "not loaded: it needs {need}, which is not loaded")?,
            Outcome::Failed(error) => write!(f, "not loaded: {error}")?,
        }
        write!(f, "; {} goes without it", self.wanted_by)
    }
}

/// Something that happened, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// A module came to its end.
    Module(&'a ModuleEvent),
    /// A file of the configuration is not as it should be, or the machinery.
    Complaint(&'a Complaint),
}

impl Event<'_> {
    /// Whether something is wrong that a person should see.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Module(event) => event.is_fault(),
            Self::Complaint(_) => true,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(event) => event.fmt(f),
            Self::Complaint(complaint) => complaint.fmt(f),
        }
    }
}

/// All that happened until the devices were settled.
#[derive(Debug, Default)]
pub struct Report {
    /// Modules, in the order in which they ended.
    pub modules: Vec<ModuleEvent>,
    /// What is wrong with the configuration.
    pub complaints: Vec<Complaint>,
    /// How many different modaliases the machine has.
    pub modaliases: usize,
    /// The modules' directory.
    pub directory: PathBuf,
    /// From the start of cold plug until all was settled.
    pub took: Duration,
}

impl Report {
    /// The modules that were loaded.
    pub fn loaded(&self) -> impl Iterator<Item = &ModuleEvent> {
        self.modules.iter().filter(|event| matches!(event.outcome, Outcome::Loaded))
    }

    /// The modules that should have been loaded and were not.
    pub fn failed(&self) -> impl Iterator<Item = &ModuleEvent> {
        self.modules.iter().filter(|event| event.is_fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_it_all() {
        let mut event = ModuleEvent {
            name: ModuleName::new("virtio_blk"),
            wanted_by: "virtio:d00000002v00001AF4".to_owned(),
            started: Duration::ZERO,
            took: Duration::from_millis(12),
            needs: Vec::new(),
            outcome: Outcome::Loaded,
        };
        assert_eq!(event.to_string(), "module virtio_blk: loaded in 0.012s for virtio:d00000002v00001AF4");
        event.outcome = Outcome::Failed(InsertError::Kernel {
            path: PathBuf::from("/m/virtio_blk.ko"),
            source: nix::errno::Errno::ENOENT.into(),
        });
        assert_eq!(
            event.to_string(),
            "module virtio_blk: not loaded: the kernel refused /m/virtio_blk.ko: unknown symbol in module, \
             or unknown option (see dmesg); virtio:d00000002v00001AF4 goes without it"
        );
        assert!(event.is_fault());
    }
}
