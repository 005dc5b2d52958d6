// SPDX-License-Identifier: Apache-2.0
//! ISO 9660 (ECMA-119) with Rock Ridge names (IEEE P1282) and Joliet.
//!
//! Names are looked up in the Rock Ridge tree, then in Joliet's, then in the
//! plain one, where case does not count, the version (`;1`) is cut off and,
//! since a plain name cannot hold `-`, `_` stands for it.

use super::bytes::{label, latin1, u16_at, u32_at, utf16_be};
use super::{
    Filesystem, Format, MAX_DIRECTORY, MAX_ENTRIES, Source, VolumeError, read as read_bytes, within,
};

/// Descriptors stand in sectors of this size from the sixteenth on.
const SECTOR: u64 = 2048;
const FIRST_DESCRIPTOR: u64 = 16;
/// A volume has a handful of descriptors; this many are looked at.
const MAX_DESCRIPTORS: u64 = 32;

/// Escape sequences that say a supplementary descriptor's names are UCS-2.
const JOLIET: [&[u8]; 3] = [b"%/@", b"%/C", b"%/E"];

pub(super) struct Iso9660 {
    labels: Vec<String>,
    trees: Vec<Tree>,
}

/// One directory tree over the files.
struct Tree {
    naming: Naming,
    block: u64,
    root: Extent,
}

#[derive(Clone, Copy, PartialEq)]
enum Naming {
    /// Rock Ridge where a record has it, with this many bytes to skip at the
    /// head of each system use area; else plain.
    Primary(Option<usize>),
    Joliet,
}

#[derive(Clone, Copy)]
struct Extent {
    block: u32,
    size: u32,
}

/// One directory record (ECMA-119, 9.1).
struct Record<'a> {
    bytes: &'a [u8],
    extent: Extent,
    directory: bool,
    /// Several extents or interleaving, which small files never have.
    scattered: bool,
}

fn damaged(what: &'static str) -> VolumeError {
    VolumeError::Damaged { format: Format::Iso9660, what }
}

/// Looks for the descriptors.
pub(super) fn probe(source: &dyn Source) -> Result<Option<Box<dyn Filesystem>>, VolumeError> {
    let mut fs = Iso9660 { labels: Vec::new(), trees: Vec::new() };
    for sector in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MAX_DESCRIPTORS {
        let descriptor = read_bytes(source, sector * SECTOR, SECTOR as usize)?;
        if descriptor.get(1..6) != Some(b"CD001") {
            break;
        }
        match descriptor.first() {
            Some(1) if fs.trees.is_empty() => fs.add(source, &descriptor, false)?,
            Some(2) if JOLIET.iter().any(|seq| descriptor.get(88..91) == Some(seq)) => {
                fs.add(source, &descriptor, true)?;
            }
            Some(255) => break,
            _ => {}
        }
    }
    if fs.trees.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(fs)))
}

impl Iso9660 {
    fn add(&mut self, source: &dyn Source, descriptor: &[u8], joliet: bool) -> Result<(), VolumeError> {
        let block = u64::from(u16_at(descriptor, 128).unwrap_or_default());
        if !block.is_power_of_two() || !(512..=SECTOR).contains(&block) {
            return Err(damaged("the block size"));
        }
        let record = descriptor.get(156..190).and_then(Record::parse);
        let root = record.ok_or_else(|| damaged("the root directory's record"))?.extent;
        let mut tree = Tree { naming: Naming::Joliet, block, root };
        let name = descriptor.get(40..72).unwrap_or_default();
        if !joliet {
            tree.naming = Naming::Primary(tree.system_use_skip(source)?);
        }
        let name = if joliet { utf16_be(name) } else { latin1(name) };
        self.labels.extend(label(&name).filter(|label| !self.labels.contains(label)));
        self.trees.push(tree);
        Ok(())
    }
}

impl Filesystem for Iso9660 {
    fn format(&self) -> Format {
        Format::Iso9660
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn read(&self, source: &dyn Source, path: &str, limit: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        for tree in &self.trees {
            if let Some(bytes) = tree.read(source, path, limit)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

impl Tree {
    fn read(&self, source: &dyn Source, path: &str, limit: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut extent = self.root;
        let mut is_directory = true;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !is_directory {
                return Ok(None);
            }
            let directory = self.directory(source, extent)?;
            let Some(record) = self.find(source, &directory, name)? else { return Ok(None) };
            if record.scattered {
                return Err(VolumeError::Unsupported { format: Format::Iso9660, what: "scattered files" });
            }
            (extent, is_directory) = (record.extent, record.directory);
        }
        if is_directory {
            return Ok(None);
        }
        let size = within(u64::from(extent.size), limit)?;
        read_bytes(source, u64::from(extent.block) * self.block, size).map(Some)
    }

    fn directory(&self, source: &dyn Source, extent: Extent) -> Result<Vec<u8>, VolumeError> {
        let size =
            within(u64::from(extent.size), MAX_DIRECTORY).map_err(|_| damaged("a directory's size"))?;
        read_bytes(source, u64::from(extent.block) * self.block, size)
    }

    fn find<'a>(
        &self,
        source: &dyn Source,
        directory: &'a [u8],
        name: &str,
    ) -> Result<Option<Record<'a>>, VolumeError> {
        for record in records(directory).take(MAX_ENTRIES) {
            if self.matches(source, &record, name)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn matches(&self, source: &dyn Source, record: &Record<'_>, name: &str) -> Result<bool, VolumeError> {
        let identifier = record.identifier();
        match self.naming {
            Naming::Joliet => Ok(without_version(&utf16_be(identifier)) == name),
            Naming::Primary(skip) => {
                if let Some(skip) = skip
                    && let Some(rock_ridge) = self.rock_ridge_name(source, record, skip)?
                {
                    return Ok(rock_ridge == name.as_bytes());
                }
                let plain = latin1(identifier);
                let plain = without_version(&plain);
                Ok(plain.eq_ignore_ascii_case(name) || plain.eq_ignore_ascii_case(&name.replace('-', "_")))
            }
        }
    }

    /// Whether the root's first record begins its system use area with the
    /// `SP` entry of SUSP, and how many bytes that says to skip elsewhere.
    fn system_use_skip(&self, source: &dyn Source) -> Result<Option<usize>, VolumeError> {
        let length = self.root.size.min(SECTOR as u32) as usize;
        let directory = read_bytes(source, u64::from(self.root.block) * self.block, length)?;
        let Some(record) = records(&directory).next() else { return Ok(None) };
        let area = record.system_use();
        let indicated = area.get(..2) == Some(b"SP") && area.get(4..6) == Some(&[0xBE, 0xEF]);
        Ok(if indicated { area.get(6).map(|skip| usize::from(*skip)) } else { None })
    }

    /// The `NM` entries of a record, over `CE` continuations.
    fn rock_ridge_name(
        &self,
        source: &dyn Source,
        record: &Record<'_>,
        skip: usize,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        const MAX_CONTINUATIONS: usize = 8;
        let mut name: Option<Vec<u8>> = None;
        let mut area = record.system_use().get(skip..).unwrap_or_default().to_vec();
        for _ in 0..=MAX_CONTINUATIONS {
            let mut rest = area.as_slice();
            let mut next = None;
            while let [tag0, tag1, length, _, ..] = *rest {
                let Some(entry) = rest.get(..usize::from(length)).filter(|entry| entry.len() >= 4) else {
                    break;
                };
                match &[tag0, tag1] {
                    b"NM" => {
                        let text = name.get_or_insert_default();
                        // Flags 2 and 4 name `.` and `..`, which nobody asks for.
                        if entry.get(4).is_some_and(|flags| flags & 6 == 0) && text.len() <= 255 {
                            text.extend_from_slice(entry.get(5..).unwrap_or_default());
                        }
                    }
                    b"CE" => next = continuation(entry),
                    b"ST" => break,
                    _ => {}
                }
                rest = rest.get(usize::from(length)..).unwrap_or_default();
            }
            match next {
                Some((block, offset, length)) if length <= SECTOR as u32 => {
                    let at = u64::from(block) * self.block + u64::from(offset);
                    area = read_bytes(source, at, length as usize)?;
                }
                Some(_) => return Err(damaged("a continuation of system use entries")),
                None => return Ok(name),
            }
        }
        Err(damaged("system use entries that go on for ever"))
    }
}

/// The place a `CE` entry points to: block, offset in it, length.
fn continuation(entry: &[u8]) -> Option<(u32, u32, u32)> {
    Some((u32_at(entry, 4)?, u32_at(entry, 12)?, u32_at(entry, 20)?))
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let flags = *bytes.get(25)?;
        Some(Self {
            bytes,
            extent: Extent { block: u32_at(bytes, 2)?, size: u32_at(bytes, 10)? },
            directory: flags & 0x02 != 0,
            scattered: flags & 0x80 != 0 || bytes.get(26..28)? != [0, 0],
        })
    }

    fn identifier(&self) -> &'a [u8] {
        let length = self.bytes.get(32).map_or(0, |length| usize::from(*length));
        self.bytes.get(33..33 + length).unwrap_or_default()
    }

    /// What follows the identifier, which is padded to an even length.
    fn system_use(&self) -> &'a [u8] {
        let length = self.bytes.get(32).map_or(0, |length| usize::from(*length));
        let start = 33 + length + usize::from(length.is_multiple_of(2));
        self.bytes.get(start..).unwrap_or_default()
    }
}

/// The records of a directory: none crosses a sector, and a length of zero
/// says that the rest of a sector is empty.
fn records(directory: &[u8]) -> impl Iterator<Item = Record<'_>> {
    directory.chunks(SECTOR as usize).flat_map(|sector| {
        let mut rest = sector;
        std::iter::from_fn(move || {
            let length = usize::from(*rest.first()?);
            let record = rest.get(..length).filter(|_| length >= 34)?;
            rest = rest.get(length..).unwrap_or_default();
            Record::parse(record)
        })
    })
}

fn without_version(name: &str) -> &str {
    let name = name.split(';').next().unwrap_or(name);
    name.strip_suffix('.').unwrap_or(name)
}
