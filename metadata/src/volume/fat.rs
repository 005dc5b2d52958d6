// SPDX-License-Identifier: Apache-2.0
//! FAT12, FAT16 and FAT32 (Microsoft's "FAT: General Overview of On-Disk
//! Format", 1.03) with long names. Case does not count in names.

use super::bytes::{label, latin1, u16_at, u32_at};
use super::{Filesystem, Format, MAX_DIRECTORY, Source, VolumeError, read as read_bytes, within};

const ENTRY: usize = 32;
const DIRECTORY: u8 = 0x10;
const VOLUME_ID: u8 = 0x08;
const LONG_NAME: u8 = 0x0F;
/// Characters of a long name in one entry, and where they stand.
const LONG_NAME_PARTS: [(usize, usize); 3] = [(1, 11), (14, 26), (28, 32)];

pub(super) struct Fat {
    labels: Vec<String>,
    kind: Kind,
    cluster: u64,
    fat_start: u64,
    data_start: u64,
    clusters: u32,
    root: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// Where a directory or file begins.
#[derive(Clone, Copy)]
enum Place {
    /// The root directory of FAT12 and FAT16: byte offset and length.
    Region(u64, usize),
    Cluster(u32),
}

struct Entry {
    name: String,
    long_name: Option<String>,
    attributes: u8,
    cluster: u32,
    size: u32,
}

fn damaged(what: &'static str) -> VolumeError {
    VolumeError::Damaged { format: Format::Fat, what }
}

/// Reads the boot sector. What is not shaped like one is not FAT.
pub(super) fn probe(source: &dyn Source) -> Result<Option<Box<dyn Filesystem>>, VolumeError> {
    let boot = read_bytes(source, 0, 512)?;
    let Some(mut fs) = layout(&boot) else { return Ok(None) };
    // The root directory's label counts before the boot sector's, which tools
    // leave behind when a disk is renamed.
    let root = fs.directory(source, fs.root)?;
    let in_root = entries(&root).find(|entry| entry.attributes & (VOLUME_ID | DIRECTORY) == VOLUME_ID);
    let in_boot = boot_label(&boot, fs.kind);
    for text in [in_root.map(|entry| entry.name), in_boot].into_iter().flatten() {
        fs.labels.extend(label(&text).filter(|label| label != "NO NAME" && !fs.labels.contains(label)));
    }
    Ok(Some(Box::new(fs)))
}

fn layout(boot: &[u8]) -> Option<Fat> {
    let byte = |at: usize| boot.get(at).copied().map(u64::from);
    let sector = u64::from(u16_at(boot, 11)?);
    let per_cluster = byte(13)?;
    let reserved = u64::from(u16_at(boot, 14)?);
    let fats = byte(16)?;
    let root_entries = u64::from(u16_at(boot, 17)?);
    let media = byte(21)?;
    let shaped = boot.get(510..512)? == [0x55, 0xAA]
        && matches!(boot.first()?, 0xEB | 0xE9)
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats)
        && (media == 0xF0 || media >= 0xF8);
    if !shaped {
        return None;
    }
    let either = |short: u16, long: u32| if short == 0 { u64::from(long) } else { u64::from(short) };
    let total = either(u16_at(boot, 19)?, u32_at(boot, 32)?);
    let fat_sectors = either(u16_at(boot, 22)?, u32_at(boot, 36)?);
    let root_start = reserved + fats * fat_sectors;
    let root_bytes = root_entries * ENTRY as u64;
    let data_start = root_start + root_bytes.div_ceil(sector);
    let clusters = u32::try_from(total.checked_sub(data_start)? / per_cluster).ok()?;
    // The number of clusters alone decides which FAT it is.
    let kind = match clusters {
        0 => return None,
        1..4085 => Kind::Fat12,
        4085..65525 => Kind::Fat16,
        _ => Kind::Fat32,
    };
    let root = match kind {
        Kind::Fat32 => Place::Cluster(u32_at(boot, 44)?),
        _ => Place::Region(root_start * sector, usize::try_from(root_bytes).ok()?),
    };
    Some(Fat {
        labels: Vec::new(),
        kind,
        cluster: per_cluster * sector,
        fat_start: reserved * sector,
        data_start: data_start * sector,
        clusters,
        root,
    })
}

fn boot_label(boot: &[u8], kind: Kind) -> Option<String> {
    let signature = if kind == Kind::Fat32 { 66 } else { 38 };
    if !matches!(boot.get(signature)?, 0x28 | 0x29) {
        return None;
    }
    Some(latin1(boot.get(signature + 5..signature + 16)?))
}

impl Filesystem for Fat {
    fn format(&self) -> Format {
        Format::Fat
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn read(&self, source: &dyn Source, path: &str, limit: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut place = self.root;
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            let directory = self.directory(source, place)?;
            let found = entries(&directory).find(|entry| entry.is(name));
            let Some(entry) = found else { return Ok(None) };
            match (entry.attributes & DIRECTORY != 0, names.peek().is_none()) {
                (true, false) => place = Place::Cluster(entry.cluster),
                (false, true) => return self.file(source, &entry, limit).map(Some),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

impl Fat {
    fn file(&self, source: &dyn Source, entry: &Entry, limit: usize) -> Result<Vec<u8>, VolumeError> {
        let size = within(u64::from(entry.size), limit)?;
        let mut bytes = self.chain(source, entry.cluster, size)?;
        if bytes.len() < size {
            return Err(damaged("a file's chain of clusters is shorter than the file"));
        }
        bytes.truncate(size);
        Ok(bytes)
    }

    fn directory(&self, source: &dyn Source, place: Place) -> Result<Vec<u8>, VolumeError> {
        match place {
            Place::Region(offset, length) => read_bytes(source, offset, length),
            Place::Cluster(first) => self.chain(source, first, MAX_DIRECTORY),
        }
    }

    /// What a chain of clusters holds, until it ends or `enough` bytes are
    /// there. A chain that bites its own tail ends with the second.
    fn chain(&self, source: &dyn Source, first: u32, enough: usize) -> Result<Vec<u8>, VolumeError> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        while bytes.len() < enough && (2..self.clusters.saturating_add(2)).contains(&cluster) {
            let offset = self.data_start + u64::from(cluster - 2) * self.cluster;
            bytes.extend(read_bytes(source, offset, self.cluster as usize)?);
            cluster = self.next(source, cluster)?;
        }
        Ok(bytes)
    }

    /// The table's entry for a cluster. The marks for "last" and "bad" are
    /// larger than any cluster's number.
    fn next(&self, source: &dyn Source, cluster: u32) -> Result<u32, VolumeError> {
        let at = |offset: u64, length| read_bytes(source, self.fat_start + offset, length);
        let n = u64::from(cluster);
        let value = match self.kind {
            Kind::Fat12 => {
                let pair = u16_at(&at(n + n / 2, 2)?, 0).map(u32::from);
                pair.map(|pair| if cluster.is_multiple_of(2) { pair & 0xFFF } else { pair >> 4 })
            }
            Kind::Fat16 => u16_at(&at(n * 2, 2)?, 0).map(u32::from),
            Kind::Fat32 => u32_at(&at(n * 4, 4)?, 0).map(|value| value & 0x0FFF_FFFF),
        };
        value.ok_or_else(|| damaged("the allocation table"))
    }
}

impl Entry {
    fn is(&self, name: &str) -> bool {
        let same = |own: &str| own.eq_ignore_ascii_case(name);
        self.attributes & VOLUME_ID == 0 && (self.long_name.as_deref().is_some_and(same) || same(&self.name))
    }
}

/// The entries of a directory that are in use, with their long names.
fn entries(directory: &[u8]) -> impl Iterator<Item = Entry> {
    let mut long = LongName::default();
    directory.chunks_exact(ENTRY).take_while(|entry| entry.first() != Some(&0)).filter_map(move |entry| {
        let attributes = *entry.get(11)?;
        if entry.first() == Some(&0xE5) {
            long = LongName::default();
            return None;
        }
        if attributes & 0x3F == LONG_NAME {
            long.add(entry);
            return None;
        }
        let long_name = std::mem::take(&mut long).finish(entry.get(..11)?);
        let (base, extension) = entry.get(..11)?.split_at_checked(8)?;
        let is_label = attributes & VOLUME_ID != 0;
        let (base, extension) = (latin1(base), latin1(extension));
        let name = match (is_label, extension.trim_end()) {
            (true, _) => format!("{base}{extension}"),
            (false, "") => base.trim_end().to_owned(),
            (false, extension) => format!("{}.{extension}", base.trim_end()),
        };
        let cluster = u32::from(u16_at(entry, 20)?) << 16 | u32::from(u16_at(entry, 26)?);
        Some(Entry { name, long_name, attributes, cluster, size: u32_at(entry, 28)? })
    })
}

/// The parts of a long name, which stand before the short entry, last part first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    next: u8,
    checksum: u8,
}

impl LongName {
    fn add(&mut self, entry: &[u8]) {
        let (Some(order), Some(checksum)) = (entry.first(), entry.get(13)) else { return };
        let number = order & 0x3F;
        if order & 0x40 != 0 {
            *self = Self { units: Vec::new(), next: number, checksum: *checksum };
        }
        if number == 0 || number != self.next || *checksum != self.checksum {
            *self = Self::default();
            return;
        }
        self.next -= 1;
        let mut part: Vec<u16> = Vec::with_capacity(13);
        for (from, to) in LONG_NAME_PARTS {
            let bytes = entry.get(from..to).unwrap_or_default();
            part.extend((0..bytes.len()).step_by(2).filter_map(|at| u16_at(bytes, at)));
        }
        part.append(&mut self.units);
        self.units = part;
    }

    /// The name, if the parts are complete and belong to this short name.
    fn finish(self, short_name: &[u8]) -> Option<String> {
        let checksum = short_name.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.units.is_empty() || self.next != 0 || checksum != self.checksum {
            return None;
        }
        let units = self.units.iter().copied().take_while(|unit| *unit != 0);
        Some(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    }
}
