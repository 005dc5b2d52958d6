// SPDX-License-Identifier: Apache-2.0
//! What is on a disk or partition, by blkid(8).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was found on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The filesystem's type, or what else was recognised: `ext4`, `swap`,
    /// `crypto_LUKS`.
    pub kind: Option<String>,
    /// The filesystem's label, as udev writes it in links: see [`encode`].
    pub label: Option<String>,
    /// The filesystem's UUID, likewise.
    pub uuid: Option<String>,
    /// `dos` or `gpt`: the partition table that begins on the device.
    pub table: Option<String>,
    /// The partition table's own identifier.
    pub table_id: Option<String>,
    /// The type a partition table gives the device: `0x83`.
    pub partition_type: Option<String>,
    /// There are signatures of several things, and who put which there cannot
    /// be told.
    pub ambivalent: bool,
}

impl Content {
    /// Whether nothing was recognised.
    pub fn is_nothing(&self) -> bool {
        self.kind.is_none() && self.table.is_none() && !self.ambivalent
    }

    /// In words, for messages.
    pub fn describe(&self) -> String {
        match (&self.kind, &self.table) {
            _ if self.ambivalent => "signatures of several things".into(),
            (Some(kind), _) => format!("a filesystem or volume of the type {kind}"),
            (None, Some(table)) => format!("a partition table of the type {table}"),
            (None, None) => "nothing known".into(),
        }
    }
}

/// A device that cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be read at all.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// blkid cannot be run.
    #[error("cannot run blkid for {}", .0.display())]
    Run(PathBuf, #[source] io::Error),
    /// blkid failed.
    #[error("blkid cannot look at {}: {}{}", .0.display(), .1, .2)]
    Failed(PathBuf, std::process::ExitStatus, String),
}

/// Who can tell what is on a device.
pub trait Probe {
    /// What is on the device.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn content(&self, node: &Path) -> Result<Content, ProbeError>;
}

/// By blkid(8), which looks at the device itself and into no cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blkid;

impl Probe for Blkid {
    fn content(&self, node: &Path) -> Result<Content, ProbeError> {
        // blkid has one status for an empty device and for one it cannot
        // read, and an empty device gets formatted.
        let read = |node: &Path| File::open(node)?.read_exact(&mut [0; 4096]);
        read(node).map_err(|error| ProbeError::Read(node.into(), error))?;
        let output = Command::new("blkid")
            .args(["-p", "-o", "udev"])
            .arg(node)
            .output()
            .map_err(|error| ProbeError::Run(node.into(), error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0 | 2) => Ok(parse(&text)),
            Some(8) => Ok(Content { ambivalent: true, ..parse(&text) }),
            _ => {
                let said = format!(" {}", String::from_utf8_lossy(&output.stderr).trim());
                Err(ProbeError::Failed(node.into(), output.status, said))
            }
        }
    }
}

/// Reads the `KEY=VALUE` lines of `blkid -o udev`.
fn parse(text: &str) -> Content {
    let mut content = Content::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let place = match key {
            "ID_FS_TYPE" => &mut content.kind,
            "ID_FS_LABEL_ENC" => &mut content.label,
            "ID_FS_UUID_ENC" => &mut content.uuid,
            "ID_PART_TABLE_TYPE" => &mut content.table,
            "ID_PART_TABLE_UUID" => &mut content.table_id,
            "ID_PART_ENTRY_TYPE" => &mut content.partition_type,
            "ID_FS_AMBIVALENT" => {
                content.ambivalent = true;
                continue;
            }
            _ => continue,
        };
        *place = Some(value.to_owned());
    }
    content
}

/// A label or UUID as the name of a link in `/dev/disk`: udev's rule, which
/// blkid follows too. What is not a letter, a digit, one of `#+-.:=@_` or beyond
/// ASCII becomes `\xHH`.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || !character.is_ascii() || "#+-.:=@_".contains(character) {
            encoded.push(character);
        } else {
            encoded.push_str(&format!("\\x{:02x}", u32::from(character)));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_says() {
        let text = "ID_FS_LABEL=a b\nID_FS_LABEL_ENC=a\\x20b\nID_FS_UUID_ENC=77f1\nID_FS_TYPE=ext4\nID_FS_USAGE=filesystem\n\
                    ID_PART_ENTRY_SCHEME=dos\nID_PART_ENTRY_TYPE=0x83\n";
        let content = parse(text);
        assert_eq!(content.kind.as_deref(), Some("ext4"));
        assert_eq!(content.label, Some(encode("a b")));
        assert_eq!(content.uuid.as_deref(), Some("77f1"));
        assert_eq!(content.partition_type.as_deref(), Some("0x83"));
        assert!(!content.is_nothing());
        assert!(parse("").is_nothing());
        let table = parse("ID_PART_TABLE_UUID=6c6b6974\nID_PART_TABLE_TYPE=dos\n");
        assert_eq!(table.describe(), "a partition table of the type dos");
        assert!(!parse("ID_FS_AMBIVALENT=filesystem:ext4:1.0 filesystem:xfs\n").is_nothing());
    }

    #[test]
    fn labels_are_names_of_links() {
        assert_eq!(encode("DATA-1_x.y"), "DATA-1_x.y");
        assert_eq!(encode("a/b \\"), "a\\x2fb\\x20\\x5c");
        assert_eq!(encode("größe"), "größe");
    }

    #[test]
    fn a_device_that_cannot_be_read_is_not_empty() {
        let error = Blkid.content(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent");
        let short = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Blkid.content(short.path()), Err(ProbeError::Read(..))));
    }
}
