// SPDX-License-Identifier: Apache-2.0
//! UDF (OSTA UDF 1.02 to 2.01 over ECMA-167): Azure's provisioning disk.
//!
//! Plain and sparable partitions are read; the virtual partitions of
//! write-once media and the metadata partitions of UDF 2.50 are not.

use super::bytes::{label, latin1, u16_at, u32_at, u64_at, utf16_be};
use super::{
    Filesystem, Format, MAX_DIRECTORY, MAX_ENTRIES, Source, VolumeError, read as read_bytes, within,
};

/// Block sizes that are tried, the optical one first.
const BLOCK_SIZES: [u64; 4] = [2048, 512, 4096, 1024];
/// The anchor stands in this block (ECMA-167 3/8.4.2.1; UDF wants two of three places).
const ANCHOR: u64 = 256;
/// Longest volume descriptor sequence that is looked at, in blocks.
const MAX_DESCRIPTORS: u64 = 64;
/// Most extents of one file.
const MAX_EXTENTS: usize = 4096;

/// Tag identifiers (ECMA-167 3/7.2.1 and 4/7.2.1).
mod tag {
    pub(super) const ANCHOR: u16 = 2;
    pub(super) const PARTITION: u16 = 5;
    pub(super) const LOGICAL_VOLUME: u16 = 6;
    pub(super) const TERMINATING: u16 = 8;
    pub(super) const FILE_SET: u16 = 256;
    pub(super) const FILE_IDENTIFIER: u16 = 257;
    pub(super) const FILE_ENTRY: u16 = 261;
    pub(super) const EXTENDED_FILE_ENTRY: u16 = 266;
}

pub(super) struct Udf {
    labels: Vec<String>,
    block: u64,
    /// First block of each partition, by its number in the partition maps.
    partitions: Vec<Option<u32>>,
    root: Address,
}

/// A block of a partition.
#[derive(Clone, Copy)]
struct Address {
    partition: u16,
    block: u32,
}

/// A file or directory as its entry describes it.
struct Entry {
    directory: bool,
    size: u64,
    data: Data,
}

enum Data {
    Inside(Vec<u8>),
    /// Pieces with their length; `None` is a hole.
    Extents(Vec<(Option<Address>, u32)>),
}

fn damaged(what: &'static str) -> VolumeError {
    VolumeError::Damaged { format: Format::Udf, what }
}

/// Looks for the anchor, and from there for the logical volume.
pub(super) fn probe(source: &dyn Source) -> Result<Option<Box<dyn Filesystem>>, VolumeError> {
    for block in BLOCK_SIZES {
        let anchor = match read_bytes(source, ANCHOR * block, 512) {
            Ok(anchor) => anchor,
            Err(VolumeError::Read { .. }) => continue,
            Err(error) => return Err(error),
        };
        if tag_of(&anchor) == Some(tag::ANCHOR) {
            let length = u32_at(&anchor, 16).unwrap_or_default();
            let start = u32_at(&anchor, 20).unwrap_or_default();
            return Udf::mount(source, block, start, u64::from(length) / block)
                .map(|udf| Some(Box::new(udf) as Box<dyn Filesystem>));
        }
    }
    Ok(None)
}

/// The identifier of a descriptor whose tag adds up (ECMA-167 3/7.2).
fn tag_of(descriptor: &[u8]) -> Option<u16> {
    let tag = descriptor.get(..16)?;
    let sum = tag
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != 4)
        .fold(0_u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    (tag.get(4) == Some(&sum)).then(|| u16_at(tag, 0))?
}

impl Udf {
    fn mount(source: &dyn Source, block: u64, start: u32, blocks: u64) -> Result<Self, VolumeError> {
        let mut starts: Vec<(u16, u32)> = Vec::new();
        let mut volume = None;
        for index in 0..blocks.min(MAX_DESCRIPTORS) {
            let descriptor = read_bytes(source, (u64::from(start) + index) * block, block as usize)?;
            match tag_of(&descriptor) {
                Some(tag::PARTITION) => {
                    starts.extend(u16_at(&descriptor, 22).zip(u32_at(&descriptor, 188)));
                }
                Some(tag::LOGICAL_VOLUME) => volume = Some(descriptor),
                Some(tag::TERMINATING) => break,
                _ => {}
            }
        }
        let volume = volume.ok_or_else(|| damaged("no logical volume descriptor"))?;
        if u32_at(&volume, 212).map(u64::from) != Some(block) {
            return Err(damaged("the logical block size"));
        }
        let file_set = Address::long(volume.get(248..264).unwrap_or_default());
        let mut udf = Self {
            labels: volume.get(84..212).map(dstring).and_then(|text| label(&text)).into_iter().collect(),
            block,
            partitions: partition_maps(&volume)
                .into_iter()
                .map(|number| starts.iter().find(|(own, _)| Some(*own) == number).map(|(_, start)| *start))
                .collect(),
            root: file_set.ok_or_else(|| damaged("the file set's place"))?,
        };
        let file_set = udf.read_block(source, udf.root)?;
        if tag_of(&file_set) != Some(tag::FILE_SET) {
            return Err(damaged("no file set descriptor"));
        }
        udf.root = file_set
            .get(400..416)
            .and_then(Address::long)
            .ok_or_else(|| damaged("the root directory's place"))?;
        Ok(udf)
    }

    fn offset(&self, address: Address) -> Result<u64, VolumeError> {
        match self.partitions.get(usize::from(address.partition)) {
            Some(Some(start)) => Ok((u64::from(*start) + u64::from(address.block)) * self.block),
            Some(None) => {
                Err(VolumeError::Unsupported { format: Format::Udf, what: "a virtual or metadata partition" })
            }
            None => Err(damaged("a partition that does not exist")),
        }
    }

    fn read_block(&self, source: &dyn Source, address: Address) -> Result<Vec<u8>, VolumeError> {
        read_bytes(source, self.offset(address)?, self.block as usize)
    }

    fn entry(&self, source: &dyn Source, address: Address) -> Result<Entry, VolumeError> {
        let bytes = self.read_block(source, address)?;
        let (lengths, base) = match tag_of(&bytes) {
            Some(tag::FILE_ENTRY) => (168, 176),
            Some(tag::EXTENDED_FILE_ENTRY) => (208, 216),
            _ => return Err(damaged("no file entry where one should be")),
        };
        let field = || {
            let attributes = u32_at(&bytes, lengths)? as usize;
            let length = u32_at(&bytes, lengths + 4)? as usize;
            let start = base + attributes;
            let descriptors = bytes.get(start..)?.get(..length)?;
            Some((*bytes.get(27)?, u16_at(&bytes, 34)? & 7, u64_at(&bytes, 56)?, descriptors))
        };
        let (kind, allocation, size, descriptors) = field().ok_or_else(|| damaged("a file entry"))?;
        let pieces = |length: usize, address: &dyn Fn(&[u8]) -> Option<Address>| {
            let pieces = descriptors.chunks_exact(length).take(MAX_EXTENTS);
            Data::Extents(pieces.filter_map(|piece| extent(piece, address)).collect())
        };
        let data = match allocation {
            0 => pieces(8, &|piece| Some(Address { partition: address.partition, block: u32_at(piece, 4)? })),
            1 => pieces(16, &Address::long),
            3 => Data::Inside(descriptors.to_vec()),
            _ => return Err(damaged("a file's kind of allocation")),
        };
        Ok(Entry { directory: kind == 4, size, data })
    }

    fn contents(&self, source: &dyn Source, entry: Entry, limit: usize) -> Result<Vec<u8>, VolumeError> {
        let size = within(entry.size, limit)?;
        let mut bytes = match entry.data {
            Data::Inside(bytes) => bytes,
            Data::Extents(pieces) => {
                let mut bytes = Vec::new();
                for (address, length) in pieces {
                    let wanted = (length as usize).min(size - bytes.len());
                    match address {
                        Some(address) => bytes.extend(read_bytes(source, self.offset(address)?, wanted)?),
                        None => bytes.resize(bytes.len() + wanted, 0),
                    }
                }
                bytes
            }
        };
        if bytes.len() < size {
            return Err(damaged("a file's extents are shorter than the file"));
        }
        bytes.truncate(size);
        Ok(bytes)
    }
}

impl Filesystem for Udf {
    fn format(&self) -> Format {
        Format::Udf
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn read(&self, source: &dyn Source, path: &str, limit: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut entry = self.entry(source, self.root)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !entry.directory {
                return Ok(None);
            }
            let directory = self.contents(source, entry, MAX_DIRECTORY)?;
            let found = identifiers(&directory).take(MAX_ENTRIES).find(|(own, _)| own == name);
            let Some((_, address)) = found else { return Ok(None) };
            entry = self.entry(source, address)?;
        }
        if entry.directory {
            return Ok(None);
        }
        self.contents(source, entry, limit).map(Some)
    }
}

impl Address {
    /// A `long_ad` (ECMA-167 4/14.14.2): length, block, partition.
    fn long(bytes: &[u8]) -> Option<Self> {
        Some(Self { partition: u16_at(bytes, 8)?, block: u32_at(bytes, 4)? })
    }
}

/// One allocation descriptor; `None` for the one of length zero that ends the
/// list. The two upper bits of the length say whether the piece is recorded (0) or a hole (1, 2).
fn extent(piece: &[u8], address: &dyn Fn(&[u8]) -> Option<Address>) -> Option<(Option<Address>, u32)> {
    let length = u32_at(piece, 0)?;
    let (kind, length) = (length >> 30, length & 0x3FFF_FFFF);
    match (kind, length) {
        (_, 0) | (3, _) => None,
        (0, _) => Some((Some(address(piece)?), length)),
        _ => Some((None, length)),
    }
}

/// The partition number behind each partition map of a logical volume
/// descriptor; `None` for kinds of map that are not read here.
fn partition_maps(volume: &[u8]) -> Vec<Option<u16>> {
    let count = u32_at(volume, 268).unwrap_or_default().min(16);
    let mut rest = volume.get(440..).unwrap_or_default();
    let mut maps = Vec::new();
    for _ in 0..count {
        let Some(map) = rest.get(1).and_then(|length| rest.get(..usize::from(*length))) else { break };
        maps.push(match map {
            [1, 6, ..] => u16_at(map, 4),
            [2, 64, ..] if map.get(5..28) == Some(b"*UDF Sparable Partition") => u16_at(map, 38),
            _ => None,
        });
        if map.is_empty() {
            break;
        }
        rest = rest.get(map.len()..).unwrap_or_default();
    }
    maps
}

/// The names of a directory with the places of their entries (ECMA-167 4/14.4).
fn identifiers(directory: &[u8]) -> impl Iterator<Item = (String, Address)> {
    /// Deleted entries and the one for the upper directory.
    const SKIPPED: u8 = 0x04 | 0x08;
    let mut rest = directory;
    std::iter::from_fn(move || {
        loop {
            if tag_of(rest)? != tag::FILE_IDENTIFIER {
                return None;
            }
            let flags = *rest.get(18)?;
            let name_length = usize::from(*rest.get(19)?);
            let start = 38 + usize::from(u16_at(rest, 36)?);
            let name = rest.get(start..)?.get(..name_length)?;
            let address = Address::long(rest.get(20..36)?)?;
            rest = rest.get((start + name_length).next_multiple_of(4)..).unwrap_or_default();
            if flags & SKIPPED == 0 {
                return Some((cs0(name), address));
            }
        }
    })
}

/// OSTA compressed Unicode (UDF 2.1.1): the first byte says how wide the
/// characters are.
fn cs0(bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((8, text)) => latin1(text),
        Some((16, text)) => utf16_be(text),
        _ => String::new(),
    }
}

/// A field of fixed length whose last byte says how much of it is used.
fn dstring(field: &[u8]) -> String {
    let used = field.last().map_or(0, |length| usize::from(*length));
    cs0(field.get(..used).unwrap_or_default())
}
