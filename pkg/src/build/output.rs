// SPDX-License-Identifier: Apache-2.0
//! The files an image is delivered as, named as `linuxkit build` names them.
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use flate2::write::GzEncoder;

use super::{Assembled, Boot};
use crate::tree::Tree;
use crate::{cpio, tarball};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `NAME-kernel`, `NAME-cmdline` and `NAME-initrd.img`.
    #[value(name = "kernel+initrd")]
    KernelInitrd,
    /// `NAME-kernel`, `NAME-cmdline` and `NAME-squashfs.img`.
    #[value(name = "kernel+squashfs")]
    KernelSquashfs,
    /// `NAME-kernel`, `NAME-cmdline` and `NAME-erofs.img`.
    #[value(name = "kernel+erofs")]
    KernelErofs,
    /// `NAME.tar`, the boot files below `boot`.
    Tar,
}

/// How a ramdisk or a file system is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compress {
    /// Not at all: quickest to write and to boot under emulation.
    None,
    /// gzip, which every kernel takes.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Writes the image as `dir/NAME...` and gives back the paths.
pub fn write(
    image: &Assembled,
    format: Format,
    compress: Compress,
    dir: &Path,
    name: &str,
) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut written = Vec::new();
    let mut file = |suffix: &str, write: &mut dyn FnMut(&Path) -> Result<()>| -> Result<()> {
        let path = dir.join(format!("{name}{suffix}"));
        write(&path).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
        Ok(())
    };
    if format == Format::Tar {
        file(".tar", &mut |path| tarball::write(&with_boot(image)?, create(path)?))?;
        return Ok(written);
    }
    let boot = image.boot.as_ref().context("the YAML names no kernel image")?;
    file("-kernel", &mut |path| flush(create(path)?, |out| boot.kernel.copy_to(out)))?;
    file("-cmdline", &mut |path| Ok(std::fs::write(path, &boot.cmdline)?))?;
    match format {
        Format::KernelSquashfs => file("-squashfs.img", &mut |path| squashfs(&image.root, path, compress))?,
        Format::KernelErofs => file("-erofs.img", &mut |path| erofs(&image.root, path))?,
        _ => file("-initrd.img", &mut |path| initrd(&image.root, boot, path, compress))?,
    }
    Ok(written)
}

/// The root with what boots it in `boot`.
fn with_boot(image: &Assembled) -> Result<Tree> {
    let mut tree = image.root.clone();
    if let Some(boot) = &image.boot {
        tree.file("boot/kernel", 0o644, boot.kernel.clone())?;
        tree.file("boot/cmdline", 0o644, boot.cmdline.clone())?;
        if let Some(ucode) = &boot.ucode {
            tree.file("boot/ucode.cpio", 0o644, ucode.clone())?;
        }
    }
    Ok(tree)
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(path)?))
}

fn flush<W: Write>(mut out: W, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    write(&mut out)?;
    Ok(out.flush()?)
}

fn initrd(root: &Tree, boot: &Boot, path: &Path, compress: Compress) -> Result<()> {
    let mut out = create(path)?;
    if let Some(ucode) = &boot.ucode {
        ucode.copy_to(&mut out)?;
    }
    match compress {
        Compress::None => cpio::write(root, &mut out)?,
        Compress::Gzip => {
            let mut gzip = GzEncoder::new(&mut out, flate2::Compression::fast());
            cpio::write(root, &mut gzip)?;
            gzip.finish()?;
        }
        Compress::Zstd => {
            let mut zstd = zstd::Encoder::new(&mut out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            cpio::write(root, &mut zstd)?;
            zstd.finish()?;
        }
    }
    Ok(out.flush()?)
}

/// By sqfstar(1), which takes owners and devices from a tar: no need to be root.
fn squashfs(root: &Tree, path: &Path, compress: Compress) -> Result<()> {
    let compression: &[&str] = match compress {
        Compress::None => &["-noI", "-noD", "-noF", "-noX"],
        Compress::Gzip => &["-comp", "gzip"],
        Compress::Zstd => &["-comp", "zstd"],
    };
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let mut command = Command::new("sqfstar");
    command.args(["-quiet", "-no-progress", "-reproducible", "-mkfs-time", "0"]);
    // With several threads version 4.5.1 (Debian 12) is not reproducible: of 30
    // runs with two, 10 wrote other bytes; of 30 with one, none.
    command.args(["-processors", "1"]);
    command.args(["-root-mode", "0755", "-root-uid", "0", "-root-gid", "0"]);
    command.args(compression).arg(path);
    feed(&mut command, root, "squashfs-tools")
}

/// By mkfs.erofs(1), which reads a folder; so the tree is unpacked into one,
/// and only root can do that with owners and devices.
fn erofs(root: &Tree, path: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The folder becomes the root, and is made for its owner alone.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut tar = Command::new("tar");
    feed(tar.args(["-xp", "--numeric-owner", "-C"]).arg(dir.path()), root, "tar")
        .context("an EROFS image can be made by root only")?;
    let mut mkfs = Command::new("mkfs.erofs");
    mkfs.args(["-T", "0", "-U", "00000000-0000-0000-0000-000000000000"]).arg(path).arg(dir.path());
    let status =
        mkfs.stdout(Stdio::null()).status().context("cannot run mkfs.erofs (package erofs-utils)")?;
    ensure!(status.success(), "mkfs.erofs failed: {status}");
    Ok(())
}

/// Runs `command` with `root` as a tar on its standard input.
fn feed(command: &mut Command, root: &Tree, package: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {name} (package {package})"))?;
    let fed = match child.stdin.take() {
        Some(stdin) => tarball::write(root, BufWriter::with_capacity(1 << 20, stdin)),
        None => Ok(()),
    };
    let status = child.wait()?;
    ensure!(status.success(), "{name} failed: {status}");
    fed
}
