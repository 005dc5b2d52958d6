// SPDX-License-Identifier: Apache-2.0
//! Disk images, made by the programs that people make theirs with. A program
//! that is missing fails the test: it is named with its Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of a disk: path and contents.
pub type Files<'a> = &'a [(&'a str, &'a [u8])];

/// Runs a program to its end and fails the test if it fails.
pub fn run(package: &str, program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).env("MTOOLS_SKIP_CHECK", "1").output();
    let output = output.unwrap_or_else(|error| panic!("{program} (package {package}): {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn spread(dir: &Path, files: Files<'_>) -> PathBuf {
    let root = dir.join("files");
    fs::create_dir_all(&root).unwrap();
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

/// An ISO 9660 image by xorriso; `options` say which names it gets.
pub fn iso(dir: &Path, label: &str, options: &[&str], files: Files<'_>) -> PathBuf {
    let (image, root) = (dir.join("image.iso"), spread(dir, files));
    let mut arguments = vec!["-as", "mkisofs", "-quiet", "-V", label, "-o", text(&image)];
    arguments.extend(options);
    arguments.push(text(&root));
    run("xorriso", "xorriso", &arguments);
    image
}

/// An ISO 9660 and UDF image by genisoimage.
pub fn iso_and_udf(dir: &Path, label: &str, options: &[&str], files: Files<'_>) -> PathBuf {
    let (image, root) = (dir.join("image.iso"), spread(dir, files));
    let mut arguments = vec!["-quiet", "-udf", "-V", label, "-o", text(&image)];
    arguments.extend(options);
    arguments.push(text(&root));
    run("genisoimage", "genisoimage", &arguments);
    image
}

/// The same with the ISO 9660 descriptors blotted out: a UDF image alone, as
/// Azure's is.
pub fn udf(dir: &Path, label: &str, files: Files<'_>) -> PathBuf {
    let path = iso_and_udf(dir, label, &[], files);
    let mut image = fs::read(&path).unwrap();
    let sectors = image.chunks_exact_mut(2048).skip(16).take(8);
    for sector in sectors.filter(|sector| sector[1..6] == *b"CD001") {
        sector.fill(0);
    }
    fs::write(&path, image).unwrap();
    path
}

/// An empty UDF image by mkudffs.
pub fn mkudffs(dir: &Path, label: &str, media: &str, block: &str) -> PathBuf {
    let image = dir.join("image.udf");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let (label, media) = (format!("--label={label}"), format!("--media-type={media}"));
    let block = format!("--blocksize={block}");
    run("udftools", "/usr/sbin/mkudffs", &["--utf8", &label, &media, &block, text(&image)]);
    image
}

/// A FAT image by mtools. `bits` is 12, 16 or 32.
pub fn fat(dir: &Path, label: &str, bits: u8, files: Files<'_>) -> PathBuf {
    let (image, root) = (dir.join("image.img"), spread(dir, files));
    // The number of clusters makes the kind; the size and cluster size make that.
    let (size, options): (u64, &[&str]) = match bits {
        12 => (1_474_560, &[]),
        16 => (20 << 20, &["-c", "4"]),
        _ => (40 << 20, &["-c", "1", "-F"]),
    };
    fs::File::create(&image).unwrap().set_len(size).unwrap();
    let tracks = (size / 512 / 18 / 2).to_string();
    let mut arguments = vec!["-i", text(&image), "-v", label, "-h", "2", "-s", "18", "-t", &tracks];
    arguments.extend(options);
    arguments.push("::");
    run("mtools", "mformat", &arguments);
    for entry in fs::read_dir(root).unwrap() {
        run("mtools", "mcopy", &["-s", "-Q", "-i", text(&image), text(&entry.unwrap().path()), "::"]);
    }
    image
}

/// A FAT image by mkfs.vfat, whose label stands in the boot sector too.
pub fn mkfs_vfat(dir: &Path, label: &str) -> PathBuf {
    let image = dir.join("image.img");
    fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
    run("dosfstools", "/usr/sbin/mkfs.vfat", &["-n", label, text(&image)]);
    image
}
