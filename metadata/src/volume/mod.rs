// SPDX-License-Identifier: Apache-2.0
//! Small files from the filesystems that providers deliver on disks: ISO 9660
//! (Rock Ridge, Joliet, plain), UDF and FAT, read here and not by the kernel.
//!
//! Nothing is mounted: no capability is needed, the drive is not busy
//! afterwards, a kernel without these filesystems will do, and what a hostile
//! disk meets is this code, in a confined process, and not the kernel.
//! Everything read from a disk is checked, chains and directories are bounded,
//! and no more is read than a file's limit.

pub mod bytes;
mod fat;
mod iso9660;
mod udf;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Most entries of one directory that are looked at.
const MAX_ENTRIES: usize = 4096;
/// Largest directory that is read, in bytes.
const MAX_DIRECTORY: usize = 1 << 20;

/// A disk, or a picture of one.
pub trait Source {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` behind the end; the kernel's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Source for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let part = usize::try_from(offset).ok().and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Why a filesystem or a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The device.
    #[error("cannot read {length} bytes at byte {offset}: {source}")]
    Read {
        /// Where.
        offset: u64,
        /// How many.
        length: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What is on it contradicts itself.
    #[error("the {format} filesystem is damaged: {what}")]
    Damaged {
        /// Which kind of filesystem.
        format: Format,
        /// What is wrong.
        what: &'static str,
    },
    /// A part of the format that is not read here.
    #[error("the {format} filesystem uses {what}, which is not supported")]
    Unsupported {
        /// Which kind of filesystem.
        format: Format,
        /// What.
        what: &'static str,
    },
    /// A file larger than the caller takes.
    #[error("the file has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: usize,
    },
}

/// The kinds of filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ECMA-119, with or without Rock Ridge and Joliet.
    Iso9660,
    /// ECMA-167 as the OSTA UDF specification restricts it.
    Udf,
    /// FAT12, FAT16, FAT32, with long names.
    Fat,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Iso9660 => "iso9660",
            Self::Udf => "udf",
            Self::Fat => "vfat",
        })
    }
}

/// One filesystem of a disk.
trait Filesystem {
    fn format(&self) -> Format;
    fn labels(&self) -> &[String];
    /// The bytes of a file; `None` if there is no such file.
    fn read(&self, source: &dyn Source, path: &str, limit: usize) -> Result<Option<Vec<u8>>, VolumeError>;
}

/// The filesystems of one disk. A disk may hold an ISO 9660 and a UDF
/// filesystem over the same files, or over different ones.
pub struct Volume<S> {
    source: S,
    filesystems: Vec<Box<dyn Filesystem>>,
}

impl<S: Source> Volume<S> {
    /// Looks which filesystems are there. None is no error; one that is there
    /// and damaged is left out, and the first error of that kind is returned
    /// beside the others.
    pub fn open(source: S) -> (Self, Option<VolumeError>) {
        let mut filesystems: Vec<Box<dyn Filesystem>> = Vec::new();
        let mut trouble = None;
        for probe in [iso9660::probe, udf::probe, fat::probe] {
            match probe(&source) {
                Ok(Some(filesystem)) => filesystems.push(filesystem),
                Ok(None) => {}
                // A disk shorter than where a filesystem would begin has none.
                Err(VolumeError::Read { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        (Self { source, filesystems }, trouble)
    }

    /// The labels, each with the kind of filesystem it was found on.
    pub fn labels(&self) -> impl Iterator<Item = (Format, &str)> {
        self.filesystems.iter().flat_map(|fs| fs.labels().iter().map(|label| (fs.format(), label.as_str())))
    }

    /// The bytes of the file at `path` (names separated by `/`), from the
    /// first filesystem that has it; `None` if none has.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut result = Ok(None);
        for filesystem in &self.filesystems {
            match filesystem.read(&self.source, path, limit) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Whether a file is there and can be read. The size does not matter.
    pub fn has(&self, path: &str) -> bool {
        matches!(self.read(path, 0), Ok(Some(_)) | Err(VolumeError::TooLarge { .. }))
    }
}

/// `length` bytes at `offset`.
fn read(source: &dyn Source, offset: u64, length: usize) -> Result<Vec<u8>, VolumeError> {
    let mut buffer = vec![0; length];
    source.read_at(&mut buffer, offset).map_err(|error| VolumeError::Read {
        offset,
        length,
        source: error,
    })?;
    Ok(buffer)
}

/// The length of a file that is to be read whole.
fn within(size: u64, limit: usize) -> Result<usize, VolumeError> {
    usize::try_from(size).ok().filter(|size| *size <= limit).ok_or(VolumeError::TooLarge { size, limit })
}
