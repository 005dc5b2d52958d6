// SPDX-License-Identifier: Apache-2.0
//! Which disks there are: `/sys/block`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its kernel name: `vda`.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<String>,
}

impl Disk {
    /// Its device node.
    pub fn node(&self) -> PathBuf {
        node(&self.name)
    }
}

/// The device node of a kernel name, in which `!` stands for `/`.
pub fn node(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

/// The node of partition `number` of the disk at `disk`: a name that ends in a
/// digit gets a `p` before the number (`nvme0n1p1`), as the kernel does it.
pub fn partition(disk: &Path, number: u32) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    let digit = disk.to_string_lossy().ends_with(|last: char| last.is_ascii_digit());
    name.push(format!("{}{number}", if digit { "p" } else { "" }));
    name.into()
}

/// The disks below `block` (`/sys/block`), in the order of their names.
///
/// Only what is hardware to this machine: loops, ramdisks, network block
/// devices and device mapper are made of something that is somebody's already,
/// and have no `device` there. Left out too: CD-ROMs, floppies, eMMC boot areas,
/// what has no medium and what cannot be written.
///
/// # Errors
/// When the directory cannot be listed.
pub fn disks(block: &Path) -> io::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(block)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_disk(&entry.path(), &name) {
            disks.push(Disk { partitions: partitions(&entry.path())?, name });
        }
    }
    disks.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(disks)
}

fn is_disk(path: &Path, name: &str) -> bool {
    let number = |file: &str| fs::read_to_string(path.join(file)).ok()?.trim().parse::<u64>().ok();
    let other = name.starts_with("sr") || name.starts_with("fd");
    let boot_area = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    path.join("device").exists()
        && !other
        && !boot_area
        && number("size") > Some(0)
        && number("ro") == Some(0)
}

fn partitions(disk: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(disk)? {
        let entry = entry?;
        let Ok(number) = fs::read_to_string(entry.path().join("partition")) else { continue };
        if let Ok(number) = number.trim().parse::<u32>() {
            found.push((number, entry.file_name().to_string_lossy().into_owned()));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn disks_are_what_can_be_written_and_is_nobody_elses() {
        let dir = block(&[
            ("vdb/size", "2048\n"),
            ("vdb/ro", "0\n"),
            ("vdb/device/x", ""),
            ("vda/size", "2048\n"),
            ("vda/ro", "0\n"),
            ("vda/device/x", ""),
            ("vda/vda10/partition", "10\n"),
            ("vda/vda2/partition", "2\n"),
            ("vda/queue/x", ""),
            ("vdc/size", "2048\n"),
            ("vdc/ro", "1\n"),
            ("vdc/device/x", ""),
            ("sda/size", "0\n"),
            ("sda/ro", "0\n"),
            ("sda/device/x", ""),
            ("sr0/size", "2048\n"),
            ("sr0/ro", "0\n"),
            ("sr0/device/x", ""),
            ("loop0/size", "2048\n"),
            ("loop0/ro", "0\n"),
            ("dm-0/size", "2048\n"),
            ("dm-0/ro", "0\n"),
            ("mmcblk0/size", "2048\n"),
            ("mmcblk0/ro", "0\n"),
            ("mmcblk0/device/x", ""),
            ("mmcblk0boot0/size", "2048\n"),
            ("mmcblk0boot0/ro", "0\n"),
            ("mmcblk0boot0/device/x", ""),
        ]);
        let disks = disks(dir.path()).unwrap();
        let names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["mmcblk0", "vda", "vdb"]);
        assert_eq!(disks[1].partitions, ["vda2", "vda10"]);
        assert!(super::disks(&dir.path().join("none")).is_err());
    }

    #[test]
    fn nodes() {
        assert_eq!(node("cciss!c0d0"), Path::new("/dev/cciss/c0d0"));
        for (disk, first) in [
            ("/dev/vda", "/dev/vda1"),
            ("/dev/nvme0n1", "/dev/nvme0n1p1"),
            ("/dev/mmcblk0", "/dev/mmcblk0p1"),
        ] {
            assert_eq!(partition(Path::new(disk), 1), Path::new(first));
        }
    }
}
