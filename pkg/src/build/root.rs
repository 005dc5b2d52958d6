// SPDX-License-Identifier: Apache-2.0
//! What becomes of an image's files when they are laid down as a root: images
//! built by Docker carry leftovers of the build and lack mount points.
use std::sync::Arc;

use anyhow::Result;

use crate::tree::{Kind, Node, Tree};

/// Left out: traces of the container an image was built in.
const LEFT_OUT: [&str; 4] = [".dockerenv", "Dockerfile", "dev/console", "etc/hostname"];

/// Made where an image lacks them: what every container has mounted.
const DIRS: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];

const MTAB: (&str, &str) = ("etc/mtab", "/proc/mounts");
const RESOLV_CONF: &str = "etc/resolv.conf";

/// Where the DHCP client writes, outside the read-only root.
const RUN_RESOLV_CONF: &str = "/run/resolvconf/resolv.conf";

const HOSTS: &str = "\
127.0.0.1       localhost
::1     localhost ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
";

/// The files of a container's image.
pub(super) fn container(tree: Tree) -> Result<Tree> {
    let mut tree = common(tree)?;
    put(&mut tree, RESOLV_CONF, "\n# no resolv.conf configured\n")?;
    Ok(tree)
}

/// The files of an `init` image.
pub(super) fn init(tree: Tree) -> Result<Tree> {
    let mut tree = common(tree)?;
    tree.symlink(RESOLV_CONF, RUN_RESOLV_CONF)?;
    Ok(tree)
}

fn common(mut tree: Tree) -> Result<Tree> {
    for path in LEFT_OUT {
        tree.remove(path)?;
    }
    for path in DIRS {
        if tree.lookup(path).is_none() {
            tree.dir(path, 0o755)?;
        }
    }
    if tree.get(MTAB.0).is_none() {
        tree.symlink(MTAB.0, MTAB.1)?;
    }
    put(&mut tree, "etc/hosts", HOSTS)?;
    Ok(tree)
}

/// Gives a file new content and keeps its owner and mode, if it had any.
fn put(tree: &mut Tree, path: &str, text: &'static str) -> Result<()> {
    let mut node = match tree.get(path).map(Arc::as_ref) {
        Some(old) if matches!(old.kind, Kind::File(_)) => old.clone(),
        _ => Node::new(0o644, Kind::Dir),
    };
    node.kind = Kind::File(text.into());
    tree.insert(path, node)
}
