// SPDX-License-Identifier: Apache-2.0
//! Finds a configuration in what people have: a text, a compressed text, or a
//! kernel image built with `CONFIG_IKCONFIG`.
//!
//! A kernel with that option holds its configuration between two marks,
//! compressed with gzip. The images that boot loaders take hold the kernel
//! compressed once more, at a place that differs by architecture and format;
//! like the kernel's own `scripts/extract-ikconfig`, this looks for the first
//! bytes of each compression instead of knowing the formats.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use memchr::memmem;

use super::config::Config;

/// Before and after the compressed configuration: the kernel's `kernel/configs.c`.
const MARK: &[u8] = b"IKCFG_ST\x1f\x8b";
/// A kernel is some 60 MB, one with debugging information some 500.
const LARGEST: u64 = 1 << 30;

const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const LZ4_LEGACY: &[u8] = &[0x02, 0x21, 0x4c, 0x18];

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// A configuration.
    Config(Config),
    /// A compressed kernel, or a plain one, with no configuration in it.
    Kernel,
    /// Neither.
    Nothing,
}

/// Looks for a configuration in a file's bytes.
pub fn extract(bytes: &[u8]) -> Found {
    let mut seen = Found::Nothing;
    for layer in std::iter::once(bytes.to_vec()).chain(unpacked(bytes)) {
        if let Some(config) = read(&layer) {
            return Found::Config(config);
        }
        if is_kernel(&layer) {
            seen = Found::Kernel;
        }
    }
    seen
}

/// The configuration in an uncompressed layer: the layer itself, or what is
/// embedded in it.
fn read(layer: &[u8]) -> Option<Config> {
    if let Ok(text) = std::str::from_utf8(layer) {
        return Config::parse(text);
    }
    // The marks stand in the code that looks for them too: not the first, but
    // the first that holds a configuration.
    let embedded = memmem::find_iter(layer, MARK).find_map(|at| {
        let compressed = layer.get(at + MARK.len() - 2..)?;
        Config::parse(&String::from_utf8(gunzip(compressed).ok()?).ok()?)
    });
    // A text with a word in another encoding is still one; a kernel has zeros.
    let text = || memchr::memchr(0, layer).is_none().then(|| String::from_utf8_lossy(layer));
    embedded.or_else(|| Config::parse(&text()?))
}

/// An ELF file of some size is a kernel here, as is the flat image of arm64.
fn is_kernel(layer: &[u8]) -> bool {
    layer.starts_with(b"\x7fELF")
        || layer.get(56..60) == Some(b"ARM\x64")
        || layer.get(0x202..0x206) == Some(b"HdrS")
}

/// Everything in the bytes that can be decompressed.
pub(super) fn unpacked(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    type Decoder = fn(&[u8]) -> io::Result<Vec<u8>>;
    let decoders: [(&'static [u8], Decoder); 4] =
        [(GZIP, gunzip), (XZ, unxz), (ZSTD, unzstd), (LZ4_LEGACY, unlz4)];
    decoders.into_iter().flat_map(move |(magic, decoder)| {
        memmem::find_iter(bytes, magic).filter_map(move |at| decoder(bytes.get(at..)?).ok())
    })
}

fn gunzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    drain(GzDecoder::new(bytes))
}

fn unxz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    drain(XzReader::new(bytes, false))
}

fn unzstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    drain(zstd::stream::read::Decoder::with_buffer(bytes)?.single_frame())
}

fn drain(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(LARGEST).read_to_end(&mut out)?;
    Ok(out)
}

/// The legacy frame that kernels use: blocks, each with its compressed length
/// before it, of 8 MiB uncompressed but the last. There is no end mark: what
/// follows the last block cannot be one.
fn unlz4(bytes: &[u8]) -> io::Result<Vec<u8>> {
    const BLOCK: usize = 8 << 20;
    let mut out = Vec::new();
    let mut rest = bytes.get(LZ4_LEGACY.len()..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((block, after)) = after.split_at_checked(length) else { break };
        let Ok(block) = lz4_flex::block::decompress(block, BLOCK) else { break };
        out.extend_from_slice(&block);
        rest = after;
        if block.len() < BLOCK {
            break;
        }
    }
    if out.is_empty() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(out) }
}
