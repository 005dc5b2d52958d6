// SPDX-License-Identifier: Apache-2.0
//! Compressed modules, for kernels that do not unpack them themselves.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// More than any module has: the largest of a distribution, with all debugging
/// symbols, are some tens of megabytes.
const LARGEST: u64 = 256 << 20;

/// How a module's file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// gzip, `.ko.gz`.
    Gzip,
    /// xz, `.ko.xz`.
    Xz,
    /// Zstandard, `.ko.zst`.
    Zstd,
}

impl Packing {
    /// The packing that a file's name tells of; none for a plain `.ko`.
    pub(super) fn of_file(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "gz" => Some(Self::Gzip),
            "xz" => Some(Self::Xz),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The packing that the kernel unpacks itself, by its own name in
    /// `/sys/module/compression` (Linux 5.17, `CONFIG_MODULE_DECOMPRESS`).
    pub(super) fn of_kernel(name: &str) -> Option<Self> {
        match name.trim() {
            "gzip" => Some(Self::Gzip),
            "xz" => Some(Self::Xz),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Unpacks all of `packed`.
    ///
    /// # Errors
    /// Those of reading; `InvalidData` or `UnexpectedEof` for a damaged file
    /// and for one that unpacks to more than any module has.
    pub(super) fn unpack(self, packed: impl Read) -> io::Result<Vec<u8>> {
        let mut image = Vec::new();
        let length = match self {
            Self::Gzip => flate2::read::MultiGzDecoder::new(packed).take(LARGEST).read_to_end(&mut image)?,
            Self::Xz => lzma_rust2::XzReader::new(packed, true).take(LARGEST).read_to_end(&mut image)?,
            Self::Zstd => {
                let frame = ruzstd::decoding::StreamingDecoder::new(packed)
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
                frame.take(LARGEST).read_to_end(&mut image)?
            }
        };
        if length as u64 == LARGEST {
            return Err(io::Error::new(ErrorKind::InvalidData, "unpacks to more than any module has"));
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "a module\n" as gzip, xz and zstd write it.
    const PACKED: [(Packing, &[u8]); 3] = [
        (
            Packing::Gzip,
            &[
                0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x4b, 0x54, 0xc8, 0xcd, 0x4f,
                0x29, 0xcd, 0x49, 0xe5, 0x02, 0x00, 0x2e, 0xb6, 0x65, 0xce, 0x09, 0x00, 0x00, 0x00,
            ],
        ),
        (
            Packing::Xz,
            &[
                0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21,
                0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x08, 0x61, 0x20, 0x6d,
                0x6f, 0x64, 0x75, 0x6c, 0x65, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x2e, 0xb6, 0x65, 0xce, 0x00,
                0x01, 0x1d, 0x09, 0x93, 0x61, 0x36, 0xa6, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00,
                0x00, 0x01, 0x59, 0x5a,
            ],
        ),
        (
            Packing::Zstd,
            &[
                0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x49, 0x00, 0x00, 0x61, 0x20, 0x6d, 0x6f, 0x64, 0x75,
                0x6c, 0x65, 0x0a, 0xae, 0x8e, 0xed, 0xb6,
            ],
        ),
    ];

    #[test]
    fn each_packing_unpacks() {
        for (packing, packed) in PACKED {
            assert_eq!(packing.unpack(packed).unwrap(), b"a module\n", "{packing:?}");
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        for (packing, packed) in PACKED {
            for length in 0..packed.len() {
                // A checksum at the end may be left unread, what is before may not.
                let result = packing.unpack(&packed[..length]);
                assert!(result.is_err() || result.unwrap() == b"a module\n", "{packing:?} {length}");
            }
            assert!(packing.unpack(&packed[..packed.len() / 2]).is_err(), "{packing:?}");
            assert!(packing.unpack(&b"\x7fELF, not packed at all"[..]).is_err(), "{packing:?}");
        }
    }

    #[test]
    fn names_of_packings() {
        assert_eq!(Packing::of_file(Path::new("a/b.ko.xz")), Some(Packing::Xz));
        assert_eq!(Packing::of_file(Path::new("a/b.ko")), None);
        assert_eq!(Packing::of_kernel("zstd\n"), Some(Packing::Zstd));
        assert_eq!(Packing::of_kernel("lz4\n"), None);
    }
}
