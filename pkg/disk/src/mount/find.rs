// SPDX-License-Identifier: Apache-2.0
//! Which filesystem is meant.

use std::io;
use std::path::{Path, PathBuf};

use crate::devices::{Disk, node};
use crate::probe::{Content, Probe, ProbeError, encode};

/// What a partition table calls a Linux filesystem: the type of a DOS table and
/// that of a GPT.
const LINUX: [&str; 2] = ["0x83", "0fc63daf-8483-4772-8e79-3d69d8477de4"];

/// How the filesystem is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// By its device.
    Device(PathBuf),
    /// By its label.
    Label(String),
    /// By its UUID.
    Uuid(String),
    /// The first Linux partition that nobody uses.
    First,
}

/// Why none was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The disks cannot be listed.
    #[error("cannot list the disks in /sys/block")]
    List(#[source] io::Error),
    /// No device has this label or UUID.
    #[error("no disk has a filesystem with the {0} {1:?}; there are {2}")]
    NoSuch(&'static str, String, String),
    /// No partition is free.
    #[error("no Linux partition is there that is not in use; there are {0}")]
    NoneFree(String),
    /// A device that was named cannot be looked at.
    #[error("cannot mount {}", .0.display())]
    Probe(PathBuf, #[source] ProbeError),
}

impl FindError {
    /// Whether it may pass when another device comes.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoSuch(..) | Self::NoneFree(_) => true,
            Self::Probe(_, ProbeError::Read(_, error)) => error.kind() == io::ErrorKind::NotFound,
            Self::List(_) | Self::Probe(..) => false,
        }
    }
}

/// Finds the filesystem `wanted` on `disks`, and what `probe` says of it. `free`
/// tells of a device whether nobody uses it.
///
/// # Errors
/// When there is none, naming the disks there are.
pub fn find(
    wanted: &Wanted,
    disks: &[Disk],
    probe: &impl Probe,
    free: impl Fn(&Path) -> bool,
) -> Result<(PathBuf, Content), FindError> {
    // A device that cannot be read is not the one; if it was, the error names
    // those that are there.
    let content = |name: &String| Some((node(name), probe.content(&node(name)).ok()?));
    let everything = || disks.iter().flat_map(|disk| std::iter::once(&disk.name).chain(&disk.partitions));
    match wanted {
        Wanted::Device(device) => {
            let content = probe.content(device).map_err(|error| FindError::Probe(device.clone(), error))?;
            Ok((device.clone(), content))
        }
        Wanted::Label(label) => everything()
            .filter_map(content)
            .find(|(_, content)| content.label.as_ref() == Some(&encode(label)))
            .ok_or_else(|| FindError::NoSuch("label", label.clone(), list(disks))),
        Wanted::Uuid(uuid) => everything()
            .filter_map(content)
            .find(|(_, content)| content.uuid.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(uuid)))
            .ok_or_else(|| FindError::NoSuch("UUID", uuid.clone(), list(disks))),
        Wanted::First => disks
            .iter()
            .flat_map(|disk| &disk.partitions)
            .filter_map(content)
            .find(|(node, content)| is_linux(content) && free(node))
            .ok_or_else(|| FindError::NoneFree(list(disks))),
    }
}

fn is_linux(content: &Content) -> bool {
    content.partition_type.as_ref().is_some_and(|kind| LINUX.contains(&kind.to_lowercase().as_str()))
}

fn list(disks: &[Disk]) -> String {
    let name = |disk: &Disk| {
        let parts = disk.partitions.join(", ");
        if parts.is_empty() {
            format!("{} (no partitions)", disk.name)
        } else {
            format!("{} ({parts})", disk.name)
        }
    };
    if disks.is_empty() { "no disks".into() } else { disks.iter().map(name).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two disks: a swap partition and a filesystem on the first, a filesystem
    /// on each of two partitions of the second.
    struct Scene;

    impl Probe for Scene {
        fn content(&self, node: &Path) -> Result<Content, ProbeError> {
            let some = |text: &str| Some(text.to_owned());
            let filesystem = |label: &str, uuid: &str, kind: &str| Content {
                kind: some("ext4"),
                label: some(label),
                uuid: some(uuid),
                partition_type: some(kind),
                ..Content::default()
            };
            Ok(match node.to_str().unwrap() {
                "/dev/vda1" => {
                    Content { kind: some("swap"), partition_type: some("0x82"), ..Content::default() }
                }
                "/dev/vda2" => filesystem("one", "AB-1", "0x83"),
                "/dev/vdb1" => filesystem("two\\x20words", "ab-2", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"),
                "/dev/vdb2" => return Err(ProbeError::Read(node.into(), std::io::ErrorKind::Other.into())),
                _ => Content::default(),
            })
        }
    }

    fn disks() -> Vec<Disk> {
        let disk = |name: &str, count: u32| Disk {
            name: name.into(),
            partitions: (1..=count).map(|number| format!("{name}{number}")).collect(),
        };
        vec![disk("vda", 2), disk("vdb", 2)]
    }

    fn found(wanted: Wanted, used: &[&str]) -> Result<PathBuf, String> {
        let free = |node: &Path| !used.contains(&node.to_str().unwrap());
        find(&wanted, &disks(), &Scene, free).map(|(node, _)| node).map_err(|error| error.to_string())
    }

    #[test]
    fn by_every_name() {
        assert_eq!(found(Wanted::Label("two words".into()), &[]), Ok("/dev/vdb1".into()));
        assert_eq!(found(Wanted::Uuid("ab-1".into()), &[]), Ok("/dev/vda2".into()));
        assert_eq!(found(Wanted::Device("/dev/vda1".into()), &[]), Ok("/dev/vda1".into()));
        assert_eq!(found(Wanted::First, &[]), Ok("/dev/vda2".into()));
        // The one that the mount before took.
        assert_eq!(found(Wanted::First, &["/dev/vda2"]), Ok("/dev/vdb1".into()));
    }

    #[test]
    fn only_what_may_come_is_waited_for() {
        let error = |wanted| find(&wanted, &disks(), &Scene, |_| false).unwrap_err();
        assert!(error(Wanted::Label("none".into())).may_pass());
        assert!(error(Wanted::First).may_pass());
        // It is there and cannot be read.
        assert!(!error(Wanted::Device("/dev/vdb2".into())).may_pass());
        let absent = FindError::Probe(
            "/dev/vdz1".into(),
            crate::probe::Blkid.content(Path::new("/nonexistent")).unwrap_err(),
        );
        assert!(absent.may_pass());
    }

    #[test]
    fn what_is_not_there_names_what_is() {
        assert_eq!(
            found(Wanted::Label("none".into()), &[]),
            Err("no disk has a filesystem with the label \"none\"; there are vda (vda1, vda2), vdb (vdb1, vdb2)".into())
        );
        assert!(
            found(Wanted::First, &["/dev/vda2", "/dev/vdb1"]).unwrap_err().starts_with("no Linux partition")
        );
        assert_eq!(found(Wanted::Device("/dev/vdb2".into()), &[]), Err("cannot mount /dev/vdb2".into()));
    }
}
