// SPDX-License-Identifier: Apache-2.0
//! Filesystems on disks, read from images that other programs have made.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::fs::{self, File};
use std::path::Path;

use metadata::volume::{Format, Volume, VolumeError};
use support::image::{self, Files};

const LIMIT: usize = 1 << 20;

/// More than a directory's sector holds, a file over several clusters, an
/// empty one, names with capitals and blanks, and folders.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("user-data".to_owned(), b"#!/bin/sh\n".to_vec()),
        ("meta-data".to_owned(), (0..70_000_u32).map(|n| (n % 251) as u8).collect()),
        ("empty".to_owned(), Vec::new()),
        ("openstack/latest/meta_data.json".to_owned(), b"{}".to_vec()),
        ("A rather Long name with Blanks.text".to_owned(), b"long".to_vec()),
    ];
    files.extend((0..120).map(|n| (format!("A folder/many-files-here-{n}"), format!("{n}").into_bytes())));
    files
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect()
}

fn open(path: &Path) -> Volume<File> {
    let (volume, trouble) = Volume::open(File::open(path).unwrap());
    assert!(trouble.is_none(), "{trouble:?}");
    volume
}

fn check(path: &Path, format: Format, label: &str, files: Files<'_>) {
    let volume = open(path);
    let labels: Vec<_> = volume.labels().collect();
    assert!(labels.contains(&(format, label)), "{labels:?}");
    for (name, bytes) in files {
        let found = volume.read(name, LIMIT).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.as_deref(), Some(*bytes), "{name}");
    }
    for absent in ["absent", "user-data/x", "openstack", "openstack/latest", "openstack/none/x", ""] {
        assert_eq!(volume.read(absent, LIMIT).unwrap(), None, "{absent}");
    }
    assert!(volume.has("meta-data") && !volume.has("absent"));
    assert!(matches!(volume.read("meta-data", 69_999), Err(VolumeError::TooLarge { size: 70_000, .. })));
}

#[test]
fn iso9660_with_every_kind_of_names() {
    let files = files();
    for options in [["-R"].as_slice(), &["-J", "-joliet-long"], &["-R", "-J"], &["-r", "-iso-level", "3"]] {
        let dir = tempfile::tempdir().unwrap();
        let path = image::iso(dir.path(), "cidata", options, &borrowed(&files));
        check(&path, Format::Iso9660, "cidata", &borrowed(&files));
    }
}

#[test]
fn plain_iso9660_names_have_no_dash() {
    let dir = tempfile::tempdir().unwrap();
    let files: Files<'_> = &[("user-data", b"u"), ("config", b"c")];
    let options = ["-U", "-iso-level", "1", "--norock"];
    let path = image::iso(dir.path(), "CIDATA", &options, files);
    let volume = open(&path);
    assert_eq!(volume.read("config", 9).unwrap().unwrap(), b"c");
    // Written as USER_DATA or USER-DATA, as the program pleases.
    assert_eq!(volume.read("user-data", 9).unwrap().unwrap(), b"u");
}

#[test]
fn long_rock_ridge_names_continue_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(250);
    let files: Files<'_> = &[(&name, b"x")];
    let path = image::iso(dir.path(), "L", &["-R"], files);
    assert_eq!(open(&path).read(&name, 9).unwrap().unwrap(), b"x");
}

#[test]
fn fat_of_every_width() {
    let files = files();
    for bits in [12, 16, 32] {
        let dir = tempfile::tempdir().unwrap();
        let path = image::fat(dir.path(), "cidata", bits, &borrowed(&files));
        let label = open(&path).labels().next().unwrap().1.to_owned();
        assert!(label.eq_ignore_ascii_case("cidata"), "{label}");
        check(&path, Format::Fat, &label, &borrowed(&files));
        assert!(open(&path).has("USER-DATA"), "case does not count");
    }
}

#[test]
fn a_fat_label_may_stand_in_the_boot_sector_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = image::mkfs_vfat(dir.path(), "CIDATA");
    assert_eq!(open(&path).labels().next(), Some((Format::Fat, "CIDATA")));
    let mut bytes = fs::read(&path).unwrap();
    let root = bytes.windows(11).rposition(|window| window == b"CIDATA     ").unwrap();
    assert!(root > 512, "no label in the root directory to take away");
    bytes[root] = 0xE5;
    fs::write(&path, bytes).unwrap();
    assert_eq!(open(&path).labels().next(), Some((Format::Fat, "CIDATA")));
}

#[test]
fn udf_beside_iso9660_and_alone() {
    let files = files();
    let dir = tempfile::tempdir().unwrap();
    let both = image::iso_and_udf(dir.path(), "BOTH", &["-R"], &borrowed(&files));
    check(&both, Format::Iso9660, "BOTH", &borrowed(&files));
    check(&both, Format::Udf, "BOTH", &borrowed(&files));
    let dir = tempfile::tempdir().unwrap();
    let alone = image::udf(dir.path(), "alone", &borrowed(&files));
    assert!(open(&alone).labels().all(|(format, _)| format == Format::Udf));
    check(&alone, Format::Udf, "alone", &borrowed(&files));
}

#[test]
fn udf_by_mkudffs() {
    for (media, block) in
        [("hd", "512"), ("hd", "4096"), ("dvd", "2048"), ("dvdram", "2048"), ("cdrw", "2048")]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = image::mkudffs(dir.path(), "\u{dc}DF-label", media, block);
        let volume = open(&path);
        assert_eq!(volume.labels().next(), Some((Format::Udf, "\u{dc}DF-label")), "{media} {block}");
        assert_eq!(volume.read("absent", 9).unwrap(), None);
    }
}

#[test]
fn what_is_no_filesystem_is_none() {
    for bytes in [vec![], vec![0; 10], vec![0; 1 << 20], vec![0xFF; 1 << 20]] {
        let (volume, trouble) = Volume::open(Bytes(bytes));
        assert_eq!((volume.labels().count(), trouble.is_some()), (0, false));
    }
}

struct Bytes(Vec<u8>);

impl metadata::volume::Source for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.as_slice().read_at(buffer, offset)
    }
}

/// Damage of every kind must end with an error or with whatever is left, soon,
/// and with no more memory than the limits allow. The places that are damaged
/// repeat from run to run.
#[test]
fn damage_is_survived() {
    let files = files();
    let make: [fn(&Path, Files<'_>) -> std::path::PathBuf; 4] = [
        |dir, files| image::iso(dir, "cidata", &["-R", "-J"], files),
        |dir, files| image::udf(dir, "cidata", files),
        |dir, files| image::fat(dir, "cidata", 12, files),
        |dir, files| image::fat(dir, "cidata", 16, files),
    ];
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for make in make {
        let dir = tempfile::tempdir().unwrap();
        let original = fs::read(make(dir.path(), &borrowed(&files))).unwrap();
        // Only what is not zero is worth damaging.
        let places: Vec<usize> =
            original.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
        for _ in 0..400 {
            let mut bytes = original.clone();
            for _ in 0..=random(20) {
                let at = places[random(places.len())];
                bytes[at] = random(256) as u8;
            }
            if random(4) == 0 {
                bytes.truncate(random(bytes.len()));
            }
            let (volume, _) = Volume::open(Bytes(bytes));
            for name in ["user-data", "openstack/latest/meta_data.json", "absent"] {
                if let Ok(Some(found)) = volume.read(name, LIMIT) {
                    assert!(found.len() <= LIMIT);
                }
            }
        }
    }
}
