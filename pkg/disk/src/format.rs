// SPDX-License-Identifier: Apache-2.0
//! `format`: one partition and a filesystem on an empty disk.

mod arguments;
mod plan;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

pub use arguments::{Arguments, Kind, Table, USAGE};
pub use plan::{Plan, Seen, UNFINISHED_DOS, UNFINISHED_GPT, is_unfinished};

use crate::probe::{Blkid, Probe as _, ProbeError};
use crate::{devices, flags, say, wait};

/// Why nothing was formatted.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The device named on the command line is not there.
    #[error("cannot format {}", .0.display())]
    Device(PathBuf, #[source] io::Error),
    /// It is something else.
    #[error("cannot format {}: it is no block device", .0.display())]
    Kind(PathBuf),
    /// What is on a disk cannot be found out, so it counts as full.
    #[error("{}: left alone", .0.display())]
    Probe(PathBuf, #[source] ProbeError),
    /// The disks cannot be listed.
    #[error("cannot list the disks in /sys/block")]
    List(#[source] io::Error),
    /// The machine has no disk.
    #[error("there is no disk to format: /sys/block has none that can be written")]
    NoDisk,
    /// The kernel shows no partition.
    #[error("{} did not appear after the disk was partitioned", .0.display())]
    NoPartition(PathBuf),
}

impl FormatError {
    /// Whether it may pass when another device comes.
    fn may_pass(&self) -> bool {
        match self {
            Self::Device(_, error) => error.kind() == io::ErrorKind::NotFound,
            Self::NoDisk => true,
            _ => false,
        }
    }
}

/// The program.
///
/// # Errors
/// A sentence that says what was tried, on what and why it failed.
pub fn main(words: impl IntoIterator<Item = OsString>) -> Result<(), Box<dyn std::error::Error>> {
    let Some(arguments) = flags::read(words, Arguments::parse, USAGE)? else {
        return Ok(());
    };
    let look = || match &arguments.device {
        Some(device) => look_at(device).map(|seen| vec![seen]),
        None => look_at_all(),
    };
    let seen = wait::until(arguments.timeout, look, FormatError::may_pass)?;
    let plan = Plan::new(&arguments, &seen, random()?);
    plan.notes.iter().for_each(say);
    if arguments.dry_run {
        plan.steps.iter().for_each(say);
        return Ok(());
    }
    for (index, step) in plan.steps.iter().enumerate() {
        // The kernel makes the node before the program that had it read the
        // table returns; that it did not is a fault and no matter of waiting.
        if index == plan.partitioned && !plan.partition.exists() {
            return Err(FormatError::NoPartition(plan.partition).into());
        }
        step.run(arguments.verbose)?;
    }
    if !plan.steps.is_empty() {
        say(format_args!("{}: formatted with {}", plan.partition.display(), arguments.kind));
    }
    Ok(())
}

fn look_at(device: &Path) -> Result<Seen, FormatError> {
    let metadata = fs::metadata(device).map_err(|error| FormatError::Device(device.into(), error))?;
    if !metadata.file_type().is_block_device() {
        return Err(FormatError::Kind(device.into()));
    }
    let content = Blkid.content(device).map_err(|error| FormatError::Probe(device.into(), error))?;
    Ok(Seen { node: device.into(), content, labels: Vec::new() })
}

/// Every disk, with the labels on its partitions. A disk that cannot be looked
/// at is said and left alone; the others count.
fn look_at_all() -> Result<Vec<Seen>, FormatError> {
    let disks = devices::disks(Path::new("/sys/block")).map_err(FormatError::List)?;
    if disks.is_empty() {
        return Err(FormatError::NoDisk);
    }
    let mut all = Vec::new();
    for disk in disks {
        match look_at(&disk.node()) {
            Ok(mut seen) => {
                let parts =
                    disk.partitions.iter().filter_map(|name| Blkid.content(&devices::node(name)).ok());
                seen.labels = parts.filter_map(|content| content.label).collect();
                all.push(seen);
            }
            Err(error) => crate::complain("format", &error),
        }
    }
    Ok(all)
}

fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
