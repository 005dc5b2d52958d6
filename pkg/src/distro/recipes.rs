// SPDX-License-Identifier: Apache-2.0
//! What each image is made of.
use std::process::Command;

use anyhow::Result;

use super::private::Private;
use super::{Recipe, Source, kernel_image, packaged};
use crate::debian::{Follow, run};
use crate::oci::ImageConfig;
use crate::tree::Tree;

/// Kernels, oldest first.
pub(super) const KERNELS: &[Recipe] = &[
    Recipe { name: "kernel", tag: "6.1", default: true, suite: "bookworm", make: kernel_image },
    Recipe { name: "kernel", tag: "6.12", default: false, suite: "trixie", make: kernel_image },
    Recipe { name: "kernel", tag: "testing", default: false, suite: "testing", make: kernel_image },
];

/// Everything else. crun is not Debian 12's: that one refuses the version
/// `linuxkit build` writes into its bundles.
pub(super) const IMAGES: &[Recipe] = &[
    Recipe { name: "busybox", tag: "1.35", default: true, suite: "bookworm", make: busybox },
    Recipe { name: "runc", tag: "1.1", default: true, suite: "bookworm", make: runc },
    Recipe { name: "runc", tag: "1.3", default: false, suite: "testing", make: runc },
    Recipe { name: "crun", tag: "1.21", default: true, suite: "trixie", make: crun },
    Recipe { name: "containerd", tag: "1.6", default: true, suite: "bookworm", make: containerd },
    Recipe { name: "containerd", tag: "1.7", default: false, suite: "trixie", make: containerd },
    Recipe { name: "containerd", tag: "2.1", default: false, suite: "testing", make: containerd },
];

const CONTAINERD_CONFIG: &str = include_str!("../../files/containerd.toml");

/// `service` knows by the name it is called by what it is to do.
const SERVICE: &str = "/usr/bin/service";

fn runc(source: &Source) -> Result<(ImageConfig, Tree)> {
    let root = source.suite.unpack("runc", &["runc"], Follow::Libraries)?;
    let mut tree = Tree::new();
    Private::new(&root.path, &source.work, "runc").program(&mut tree, "usr/sbin/runc", "usr/bin/runc")?;
    tree.symlink("etc/init.d/010-onboot", SERVICE)?;
    tree.symlink("etc/shutdown.d/010-onshutdown", SERVICE)?;
    Ok((ImageConfig::default(), tree))
}

/// The stages' links are here too: an image may have crun in place of runc.
fn crun(source: &Source) -> Result<(ImageConfig, Tree)> {
    let root = source.suite.unpack("crun", &["crun"], Follow::Libraries)?;
    let mut tree = Tree::new();
    Private::new(&root.path, &source.work, "crun").program(&mut tree, "usr/bin/crun", "usr/bin/crun")?;
    tree.symlink("etc/init.d/010-onboot", SERVICE)?;
    tree.symlink("etc/shutdown.d/010-onshutdown", SERVICE)?;
    Ok((ImageConfig::default(), tree))
}

fn containerd(source: &Source) -> Result<(ImageConfig, Tree)> {
    let root = source.suite.unpack("containerd", &["containerd"], Follow::Libraries)?;
    let mut tree = Tree::new();
    let mut private = Private::new(&root.path, &source.work, "containerd");
    for program in ["usr/bin/containerd", "usr/bin/ctr", "usr/bin/containerd-shim-runc-v2"] {
        private.program(&mut tree, program, program)?;
    }
    tree.file("etc/containerd/config.toml", 0o644, CONTAINERD_CONFIG)?;
    tree.symlink("etc/init.d/020-containerd", SERVICE)?;
    Ok((ImageConfig::default(), tree))
}

/// A root filesystem with a shell in it, for containers.
fn busybox_tree(source: &Source) -> Result<Tree> {
    let root = source.suite.unpack("busybox", &["busybox-static"], Follow::Nothing)?;
    let mut tree = Tree::new();
    for dir in ["dev", "etc", "mnt", "proc", "root", "run", "sys", "var/log"] {
        tree.dir(dir, 0o755)?;
    }
    tree.dir("tmp", 0o1777)?;
    tree.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")?;
    tree.file("etc/group", 0o644, "root:x:0:\ntty:x:5:\n")?;
    tree.file("bin/busybox", 0o755, packaged(&root.path, "bin/busybox")?)?;
    let names = run(Command::new(root.path.join("bin/busybox")).arg("--list"))?;
    for name in names.lines().filter(|&name| name != "busybox") {
        tree.symlink(&format!("bin/{name}"), "busybox")?;
    }
    Ok(tree)
}

fn with_path() -> ImageConfig {
    ImageConfig {
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
        working_dir: "/".into(),
        ..ImageConfig::default()
    }
}

fn busybox(source: &Source) -> Result<(ImageConfig, Tree)> {
    let config = ImageConfig { cmd: vec!["/bin/sh".into()], ..with_path() };
    Ok((config, busybox_tree(source)?))
}
