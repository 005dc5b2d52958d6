// SPDX-License-Identifier: Apache-2.0
//! The packages around the init: disks, modules, switching off, the agent of
//! QEMU. Each has a shell and busybox's programs, as LinuxKit's has: YAML files
//! in use call them.
use anyhow::Result;

use super::tools::Tools;
use super::{Inputs, dirs};
use crate::tree::Tree;

/// What is mounted into every container, and where these put files.
fn base(more: &[&str]) -> Result<Tree> {
    dirs(&[&["dev", "etc", "proc", "root", "run", "sys", "tmp", "var"], more].concat())
}

pub(super) fn poweroff(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tree = base(&[])?;
    tree.file("poweroff.sh", 0o755, include_str!("../../poweroff/poweroff.sh"))?;
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}

/// modprobe is the one that loads modules at boot, which reads whatever a
/// kernel package brings: `.ko`, gzip, xz and zstd.
pub(super) fn modprobe(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tree = base(&["lib/modules"])?;
    tree.file("sbin/modprobe", 0o755, inputs.program("rc")?)?;
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}

pub(super) fn format(inputs: &Inputs<'_>) -> Result<Tree> {
    let packages = ["btrfs-progs", "e2fsprogs", "fdisk", "util-linux", "xfsprogs"];
    let mut tools = Tools::fetch(inputs.debian, "format", &packages)?;
    let mut tree = base(&[])?;
    tree.file("usr/bin/format", 0o755, inputs.program("disk")?)?;
    for program in
        ["sbin/mkfs.btrfs", "sbin/blkid", "sbin/e2fsck", "sbin/mke2fs", "sbin/mkfs.xfs", "sbin/sfdisk"]
    {
        tools.program(&mut tree, program)?;
    }
    for kind in ["ext2", "ext3", "ext4"] {
        tree.symlink(&format!("sbin/mkfs.{kind}"), "mke2fs")?;
    }
    tools.file(&mut tree, "etc/mke2fs.conf")?;
    tools.terms(&mut tree)?;
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}

pub(super) fn mount(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tools = Tools::fetch(inputs.debian, "mount", &["e2fsprogs", "util-linux"])?;
    let mut tree = base(&[])?;
    tree.file("usr/bin/mountie", 0o755, inputs.program("disk")?)?;
    for program in ["sbin/blkid", "sbin/e2fsck"] {
        tools.program(&mut tree, program)?;
    }
    tools.terms(&mut tree)?;
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}

pub(super) fn swap(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tools = Tools::fetch(inputs.debian, "swap", &["cryptsetup-bin"])?;
    let mut tree = base(&["run/cryptsetup"])?;
    tree.file("usr/bin/swap.sh", 0o755, inputs.program("disk")?)?;
    tree.symlink("swap.sh", "usr/bin/swap.sh")?;
    tools.program(&mut tree, "sbin/cryptsetup")?;
    tools.terms(&mut tree)?;
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}

pub(super) fn qemu_ga(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tools = Tools::fetch(inputs.debian, "qemu-ga", &["qemu-guest-agent"])?;
    let mut tree = base(&[])?;
    tools.program(&mut tree, "usr/sbin/qemu-ga")?;
    tree.symlink("usr/bin/qemu-ga", "../sbin/qemu-ga")?;
    tree.file("usr/bin/qemu-ga.sh", 0o755, include_str!("../../qemu-ga/qemu-ga.sh"))?;
    tree.file("sbin/shutdown", 0o755, include_str!("../../qemu-ga/shutdown.sh"))?;
    tools.terms(&mut tree)?;
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}

/// For setting up interfaces and WireGuard: `ip` and `wg`, which busybox has
/// not, or not whole.
pub(super) fn ip(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tools = Tools::fetch(inputs.debian, "ip", &["iproute2", "wireguard-tools"])?;
    let mut tree = base(&[])?;
    for program in ["bin/ip", "usr/bin/wg"] {
        tools.program(&mut tree, program)?;
    }
    tree.symlink("sbin/ip", "../bin/ip")?;
    tools.terms(&mut tree)?;
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}
