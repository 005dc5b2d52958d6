// SPDX-License-Identifier: Apache-2.0
//! Images for tests: a LinuxKit YAML, assembled from the images that
//! `make images` wrote, with the control script and whatever a test adds or
//! breaks.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pkg::build::{self, Assembled, Compress, Format};
use pkg::store::Store;
use pkg::tree::{Kind, Tree};
use pkg::yaml::Source;

use crate::control;
use crate::late;
use crate::machine::Machine;
use crate::paths;

const ARCHITECTURE: &str = "amd64";

/// The images at hand.
fn store() -> Result<Store> {
    let folder = paths::target().join("images");
    ensure!(folder.exists(), "{} is missing: run `make images`", folder.display());
    Store::open(&[folder], ARCHITECTURE)
}

/// A machine without lkinit: the kernel `lkinit/kernel:6.1`, busybox, the
/// control script, and `script` as `/init`.
pub fn bare(name: &str, script: &str) -> Result<Machine> {
    let store = store()?;
    let mut root = store.image("lkinit/busybox")?.tree()?;
    root.file("init", 0o755, script.to_owned())?;
    root.file(control::SCRIPT_PATH, 0o755, control::SCRIPT)?;
    let kernel = store.image("lkinit/kernel:6.1")?.tree()?;
    let Some(Kind::File(kernel)) = kernel.lookup("kernel").map(|node| &node.kind) else {
        bail!("lkinit/kernel:6.1 has no file kernel");
    };
    let [kernel_path, initrd] = ["kernel", "initrd.img"].map(|suffix| format!("{name}-{suffix}"));
    let (kernel_path, initrd) = (folder()?.join(kernel_path), folder()?.join(initrd));
    kernel.copy_to(&mut fs::File::create(&kernel_path)?)?;
    write_initrd(&root, &initrd)?;
    Ok(Machine::new(&kernel_path, Some(&initrd)).temporary(&[kernel_path, initrd]))
}

fn write_initrd(root: &Tree, path: &Path) -> Result<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    pkg::cpio::write(root, &mut out)?;
    Ok(out.flush()?)
}

/// Where images for machines are written.
fn folder() -> Result<PathBuf> {
    let folder = paths::target().join("tests/images");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.canonicalize()?)
}

const SQUASHFS_STARTER: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
modprobe virtio_pci
modprobe virtio_blk
modprobe squashfs
mount -t squashfs -o ro /dev/vda /mnt
umount /proc /sys /dev
exec switch_root /mnt /init
";

/// An image in memory.
pub struct Image {
    assembled: Assembled,
    format: Format,
    compress: Compress,
}

impl Image {
    /// Assembles `yaml`.
    pub fn new(yaml: &str) -> Result<Self> {
        let source = Source::parse(yaml.to_owned()).context("reading the test's YAML")?;
        let mut assembled = build::assemble(&source, &store()?)?;
        assembled.root.file(control::SCRIPT_PATH, 0o755, control::SCRIPT)?;
        late::programs(&mut assembled.root)?;
        // Uncompressed: quick to write, and nothing to unpack under emulation.
        Ok(Self { assembled, format: Format::KernelInitrd, compress: Compress::None })
    }

    /// Changes the root filesystem.
    pub fn change(mut self, change: impl FnOnce(&mut Tree) -> Result<()>) -> Result<Self> {
        change(&mut self.assembled.root)?;
        Ok(self)
    }

    /// Compresses the initrd, as images for people are.
    pub fn compressed(mut self) -> Self {
        self.compress = Compress::Gzip;
        self
    }

    /// Writes the image for the machine `name` and describes a machine that
    /// boots it. The files go when the machine's test has passed.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        let files = self.write(name, self.format)?;
        let file = |suffix: &str| find(&files, suffix);
        let cmdline = fs::read_to_string(file("-cmdline")?)?;
        let machine = Machine::new(&file("-kernel")?, Some(&file("-initrd.img")?)).append(&cmdline);
        Ok(machine.temporary(&files))
    }

    /// As [`Image::machine`], with the root on a read-only squashfs disk,
    /// `/dev/vda`. Debian's kernels have neither virtio nor squashfs built in:
    /// a small initrd does what a LinuxKit kernel does by itself.
    pub fn squashfs_machine(&self, name: &str) -> Result<Machine> {
        let mut files = self.write(name, Format::KernelSquashfs)?;
        let mut starter = store()?.image("lkinit/busybox")?.tree()?;
        starter.file("init", 0o755, SQUASHFS_STARTER)?;
        for (path, node) in self.assembled.root.iter().filter(|(path, _)| path.starts_with("lib/modules")) {
            starter.insert(path, node.clone())?;
        }
        let initrd = folder()?.join(format!("{name}-starter.img"));
        write_initrd(&starter, &initrd)?;
        files.push(initrd.clone());
        let cmdline = fs::read_to_string(find(&files, "-cmdline")?)?;
        let machine = Machine::new(&find(&files, "-kernel")?, Some(&initrd)).append(&cmdline);
        Ok(machine.disk(&find(&files, "-squashfs.img")?).temporary(&files))
    }

    fn write(&self, name: &str, format: Format) -> Result<Vec<PathBuf>> {
        build::write(&self.assembled, format, self.compress, &folder()?, name)
    }

    /// The root filesystem.
    pub fn root(&self) -> &Tree {
        &self.assembled.root
    }
}

fn find(files: &[PathBuf], suffix: &str) -> Result<PathBuf> {
    let found = files.iter().find(|path| path.to_string_lossy().ends_with(suffix));
    found.cloned().with_context(|| format!("the image has no …{suffix}"))
}
