// SPDX-License-Identifier: Apache-2.0
//! Which disk is formatted, and by which steps.

use std::path::PathBuf;

use super::arguments::{Arguments, Kind, Table};
use crate::devices;
use crate::probe::{Content, encode};
use crate::step::Step;

/// The identifier a table has until the filesystem behind it is made: a disk
/// that lost its power meanwhile is told by it, and formatted again from the
/// beginning. Without it such a disk would look like somebody's.
pub const UNFINISHED_DOS: &str = "6c6b6974";
/// The same for a GPT.
pub const UNFINISHED_GPT: &str = "6c6b6974-6e6f-4420-8f4e-45206c6b6974";

/// What a filesystem could use that an older kernel cannot write to; ext4's
/// other features are e2fsprogs' own choice.
const EXT4_WITHOUT: &str = "^metadata_csum_seed,^orphan_file";

/// A disk and what is on it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its device node.
    pub node: PathBuf,
    /// What is on it.
    pub content: Content,
    /// The labels of filesystems on its partitions, encoded.
    pub labels: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What a person should know: which disks are left alone, and why.
    pub notes: Vec<String>,
    /// The steps, none where nothing is to do.
    pub steps: Vec<Step>,
    /// The partition the filesystem is made on.
    pub partition: PathBuf,
    /// The first step that needs the partition.
    pub partitioned: usize,
}

impl Plan {
    /// Chooses among the disks `seen`: the one asked for, or the first that is
    /// empty. `random` becomes the table's final identifier.
    pub fn new(arguments: &Arguments, seen: &[Seen], random: [u8; 16]) -> Self {
        let mut plan = Self::default();
        if let (Some(label), None) = (&arguments.label, &arguments.device) {
            let label = encode(label);
            let has =
                |disk: &&Seen| disk.content.label.as_ref() == Some(&label) || disk.labels.contains(&label);
            if let Some(disk) = seen.iter().find(has) {
                plan.notes
                    .push(format!("{}: has the label {label} already; nothing to do", disk.node.display()));
                return plan;
            }
        }
        for disk in seen {
            let node = disk.node.display();
            if is_unfinished(&disk.content) {
                plan.notes.push(format!("{node}: was left half formatted; beginning again"));
            } else if arguments.force {
                plan.notes.push(format!("{node}: has {}; formatted all the same", disk.content.describe()));
            } else if !disk.content.is_nothing() {
                plan.notes.push(format!("{node}: has {}; left alone", disk.content.describe()));
                continue;
            }
            plan.format(arguments, disk, random);
            return plan;
        }
        plan
    }

    fn format(&mut self, arguments: &Arguments, disk: &Seen, random: [u8; 16]) {
        let (unfinished, finished) = match arguments.table {
            Table::Dos => (format!("0x{UNFINISHED_DOS}"), dos_identifier(random)),
            Table::Gpt => (UNFINISHED_GPT.to_uppercase(), guid(random)),
        };
        let table = match arguments.table {
            Table::Dos => "dos",
            Table::Gpt => "gpt",
        };
        // All of the disk, and the type "Linux filesystem", in sfdisk's short form.
        let script = format!("label: {table}\nlabel-id: {unfinished}\n,,L\n");
        let wipe = ["--quiet", "--wipe", "always", "--wipe-partitions", "always"];
        self.steps.push(Step::new("sfdisk", wipe).path(&disk.node).input(script));
        self.partition = devices::partition(&disk.node, 1);
        self.partitioned = self.steps.len();
        self.steps.push(make(arguments).path(&self.partition));
        // Last: from here on the disk is somebody's.
        let mut identify = Step::new("sfdisk", ["--quiet", "--disk-id"]).path(&disk.node);
        identify.words.push(finished);
        self.steps.push(identify);
    }
}

/// Whether the partition table is that of a disk whose formatting was begun
/// here and not ended.
pub fn is_unfinished(content: &Content) -> bool {
    let id = content.table_id.as_deref().map(str::to_lowercase);
    id.is_some_and(|id| id == UNFINISHED_DOS || id == UNFINISHED_GPT)
}

fn make(arguments: &Arguments) -> Step {
    let program = format!("mkfs.{}", arguments.kind);
    let mut step = match arguments.kind {
        Kind::Ext2 | Kind::Ext3 => Step::new(&program, ["-q", "-F"]),
        Kind::Ext4 => Step::new(&program, ["-q", "-F", "-O", EXT4_WITHOUT]),
        Kind::Xfs => Step::new(&program, ["-q", "-f"]),
        Kind::Btrfs => Step::new(&program, ["-q", "-f"]),
    };
    if let Some(label) = &arguments.label {
        step.words.extend(["-L".to_owned(), label.clone()]);
    }
    step
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dos_identifier(random: [u8; 16]) -> String {
    let [a, b, c, d, ..] = random;
    format!("0x{}", hex(&[a, b, c, d]))
}

/// A random UUID, RFC 9562 version 4.
fn guid(mut random: [u8; 16]) -> String {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut random;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let hex = hex(&random).to_uppercase();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn seen(node: &str, content: Content) -> Seen {
        Seen { node: node.into(), content, labels: Vec::new() }
    }

    fn table(id: &str) -> Content {
        Content { table: Some("dos".into()), table_id: Some(id.into()), ..Content::default() }
    }

    fn ext4() -> Content {
        Content { kind: Some("ext4".into()), label: Some("DATA".into()), ..Content::default() }
    }

    fn plan(words: &[&str], seen: &[Seen]) -> Plan {
        let arguments = Arguments::parse(words.iter().map(OsString::from)).unwrap().unwrap();
        Plan::new(&arguments, seen, [0xab; 16])
    }

    fn steps(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_empty_disk_is_formatted() {
        let plan = plan(
            &[],
            &[
                seen("/dev/vda", ext4()),
                seen("/dev/vdb", Content::default()),
                seen("/dev/vdc", Content::default()),
            ],
        );
        assert_eq!(plan.notes, ["/dev/vda: has a filesystem or volume of the type ext4; left alone"]);
        assert_eq!(
            steps(&plan),
            [
                "sfdisk --quiet --wipe always --wipe-partitions always /dev/vdb <<< \"label: dos\\nlabel-id: 0x6c6b6974\\n,,L\"",
                "mkfs.ext4 -q -F -O ^metadata_csum_seed,^orphan_file /dev/vdb1",
                "sfdisk --quiet --disk-id /dev/vdb 0xabababab",
            ]
        );
        assert_eq!(plan.partition, PathBuf::from("/dev/vdb1"));
    }

    #[test]
    fn what_has_something_on_it_is_left_alone() {
        let full = [seen("/dev/vda", ext4()), seen("/dev/vdb", table("12345678"))];
        assert!(plan(&[], &full).steps.is_empty());
        assert!(plan(&["/dev/vdb"], &full[1..]).steps.is_empty());
        let unclear = Content { ambivalent: true, ..Content::default() };
        assert!(plan(&["/dev/vda"], &[seen("/dev/vda", unclear)]).steps.is_empty());
        assert_eq!(plan(&["-force", "/dev/vdb"], &full[1..]).steps.len(), 3);
    }

    #[test]
    fn a_disk_left_half_formatted_is_begun_again() {
        for id in [UNFINISHED_DOS.to_owned(), UNFINISHED_GPT.to_uppercase()] {
            let plan = plan(
                &["-partition", "gpt", "-type", "xfs", "-label", "x"],
                &[seen("/dev/nvme0n1", table(&id))],
            );
            assert_eq!(plan.notes, ["/dev/nvme0n1: was left half formatted; beginning again"]);
            assert_eq!(
                steps(&plan)[1..],
                [
                    "mkfs.xfs -q -f -L x /dev/nvme0n1p1",
                    "sfdisk --quiet --disk-id /dev/nvme0n1 ABABABAB-ABAB-4BAB-ABAB-ABABABABABAB"
                ]
            );
        }
    }

    /// Without this a second disk, put in later, would be formatted at the
    /// next boot under the label of the first.
    #[test]
    fn a_label_that_is_there_is_not_given_twice() {
        let mut first = seen("/dev/vda", table("12345678"));
        first.labels = vec![encode("my data")];
        let disks = [first, seen("/dev/vdb", Content::default())];
        let done = plan(&["-label", "my data"], &disks);
        assert_eq!(done.notes, ["/dev/vda: has the label my\\x20data already; nothing to do"]);
        assert!(done.steps.is_empty());
        assert_eq!(plan(&["-label", "other"], &disks).steps.len(), 3);
    }
}
