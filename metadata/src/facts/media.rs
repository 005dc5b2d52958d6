// SPDX-License-Identifier: Apache-2.0
//! Disks that may carry metadata: labelled filesystems, and whatever is in an
//! optical drive.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::volume::{Volume, VolumeError};

/// Names of block devices that never carry metadata: virtual ones, and floppy
/// drives, which take seconds to say that they are empty.
const NEVER: &[&str] = &["loop", "ram", "zram", "dm-", "md", "nbd", "fd"];

/// Files in the root directory that say what a disk is for.
pub const TELLING_FILES: &[&str] = &["user-data", "config", "ovf-env.xml"];

/// A disk with at least one filesystem that is read here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Medium {
    /// The device.
    pub device: PathBuf,
    /// Labels, each with the kind of its filesystem: `iso9660`, `udf`, `vfat`.
    pub labels: Vec<(String, String)>,
    /// Whether it lies in an optical drive (`sr*`).
    pub optical: bool,
    /// Which of [`TELLING_FILES`] it has; looked for in optical drives only.
    pub files: Vec<&'static str>,
    /// What was wrong with a filesystem that was left out.
    pub trouble: Option<String>,
}

impl Medium {
    /// Whether a filesystem has this label, in any case.
    pub fn is_labelled(&self, label: &str) -> bool {
        self.labels.iter().any(|(_, own)| own.eq_ignore_ascii_case(label))
    }
}

/// Looks at every block device of `/sys/class/block`, in the order of their
/// names. A device that cannot be read is passed over: an empty drive, a
/// partition that has just gone.
pub fn scan(class: &Path, dev: &Path) -> Vec<Medium> {
    let mut names: Vec<String> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !NEVER.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    names.sort();
    names
        .iter()
        .filter(|name| has_medium(&class.join(name)))
        // A slash of a device's name is `!` in sysfs.
        .filter_map(|name| look(&dev.join(name.replace('!', "/")), name.starts_with("sr")))
        .collect()
}

/// A size of zero means that there is nothing in the drive. Where there is no
/// such attribute nothing is known.
fn has_medium(device: &Path) -> bool {
    fs::read_to_string(device.join("size")).map_or(true, |size| size.trim() != "0")
}

/// Opens a disk for reading, with what was wrong with a filesystem that was
/// left out.
///
/// # Errors
/// The kernel's: ENOMEDIUM for an empty drive.
pub fn open(device: &Path) -> io::Result<(Volume<File>, Option<VolumeError>)> {
    // O_NONBLOCK: an optical drive is not to be waited for.
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(device)?;
    Ok(Volume::open(file))
}

fn look(device: &Path, optical: bool) -> Option<Medium> {
    let (volume, trouble) = open(device).ok()?;
    let labels: Vec<(String, String)> =
        volume.labels().map(|(format, label)| (format.to_string(), label.to_owned())).collect();
    let files: Vec<&'static str> = if optical {
        TELLING_FILES.iter().copied().filter(|name| volume.has(name)).collect()
    } else {
        Vec::new()
    };
    if labels.is_empty() && files.is_empty() && trouble.is_none() {
        return None;
    }
    let trouble = trouble.map(|error| error.to_string());
    Some(Medium { device: device.to_owned(), labels, optical, files, trouble })
}
