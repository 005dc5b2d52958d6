// SPDX-License-Identifier: Apache-2.0
//! Disks for the fuzzer: an image is mostly zeros, so only the rest of it is
//! written down, as pieces of at most 64 KiB: offset (four bytes), length
//! (two), bytes.

use std::fs;
use std::io;
use std::path::PathBuf;

use metadata::volume::{Source, Volume};

/// Largest disk.
const SIZE: u64 = 4 << 20;
/// Shortest run of zeros that ends a piece.
const GAP: usize = 32;

/// A disk of these pieces.
#[derive(Debug)]
pub struct Sparse<'a> {
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Sparse<'a> {
    /// Reads the pieces; what is left over counts as nothing.
    pub fn new(mut input: &'a [u8]) -> Self {
        let mut pieces = Vec::new();
        while let [a, b, c, d, e, f, rest @ ..] = input {
            let offset = u32::from_le_bytes([*a, *b, *c, *d]);
            let length = usize::from(u16::from_le_bytes([*e, *f])).min(rest.len());
            pieces.push((u64::from(offset), &rest[..length]));
            input = &rest[length..];
        }
        Self { pieces }
    }
}

impl Source for Sparse<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= SIZE);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.fill(0);
        for (start, bytes) in &self.pieces {
            let from = offset.max(*start);
            let to = end.min(start + bytes.len() as u64);
            if from < to {
                let piece = &bytes[(from - start) as usize..(to - start) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
            }
        }
        Ok(())
    }
}

/// The pieces of an image.
pub fn pieces(image: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < image.len() {
        if image[at] == 0 {
            at += 1;
            continue;
        }
        let mut end = at;
        let mut zeros = 0;
        while end < image.len() && zeros < GAP && end - at < usize::from(u16::MAX) {
            zeros = if image[end] == 0 { zeros + 1 } else { 0 };
            end += 1;
        }
        let piece = &image[at..end - zeros];
        out.extend((at as u32).to_le_bytes());
        out.extend((piece.len() as u16).to_le_bytes());
        out.extend(piece);
        at = end;
    }
    out
}

#[path = "../../tests/support/image.rs"]
#[allow(dead_code)]
mod image;

/// Where the environment names a directory in `SEEDS`, writes the seeds of the
/// disk target there, proves that they are the images, and ends the program.
pub fn seeds() {
    let Some(out) = std::env::var_os("SEEDS").map(PathBuf::from) else { return };
    let files: image::Files<'_> = &[
        ("user-data", b"u"),
        ("meta-data", b"instance-id: i\n"),
        ("openstack/latest/meta_data.json", b"{\"uuid\":\"u\"}"),
        ("ovf-env.xml", b"<x/>"),
    ];
    let temporary = || tempfile::tempdir().unwrap();
    let (a, b, c, d) = (temporary(), temporary(), temporary(), temporary());
    let images = [
        ("iso", image::iso(a.path(), "cidata", &["-R", "-J"], files)),
        ("udf", image::udf(b.path(), "cidata", files)),
        ("fat12", image::fat(c.path(), "cidata", 12, files)),
        ("plain", image::iso(d.path(), "config-2", &["-U", "--norock"], files)),
    ];
    fs::create_dir_all(&out).unwrap();
    for (name, path) in images {
        let bytes = pieces(&fs::read(path).unwrap());
        let (volume, _) = Volume::open(Sparse::new(&bytes));
        assert_eq!(volume.read("user-data", 9).unwrap().unwrap(), b"u", "{name}");
        fs::write(out.join(name), bytes).unwrap();
    }
    // Destructors do not run in exit(3).
    drop((a, b, c, d));
    std::process::exit(0);
}
