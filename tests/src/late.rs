// SPDX-License-Identifier: Apache-2.0
//! Programs of containers that begin late: who looks for what they do as soon
//! as they run, and does not wait for it, looks in vain.

use std::sync::Arc;

use anyhow::Result;
use pkg::tree::{Kind, Node, Tree};

/// With `LKINIT_LATE=SECONDS` the first process of each container made from
/// `lkinit/busybox` waits so long before it is the program that was asked for.
pub fn programs(root: &mut Tree) -> Result<()> {
    match std::env::var("LKINIT_LATE") {
        Ok(seconds) => delay(root, &seconds),
        Err(_) => Ok(()),
    }
}

/// Its programs are elsewhere, and a script is in the place of each.
fn delay(root: &mut Tree, seconds: &str) -> Result<()> {
    let script =
        format!("#!/late/sh\n[ $$ != 1 ] || /late/sleep {seconds}\nexec \"/late/${{0##*/}}\" \"$@\"\n");
    let busybox = |(path, node): (&str, &Arc<Node>)| {
        let container = path.strip_suffix("/bin/busybox").filter(|path| path.starts_with("containers/"))?;
        Some((container.to_owned(), node.clone()))
    };
    let found: Vec<_> = root.iter().filter_map(busybox).collect();
    for (container, busybox) in found {
        let bin = format!("{container}/bin/");
        let name = |(path, node): (&str, &Arc<Node>)| match &node.kind {
            Kind::Symlink(target) if target.as_str() == "busybox" => {
                path.strip_prefix(&bin).map(str::to_owned)
            }
            _ => None,
        };
        let names: Vec<String> = root.iter().filter_map(name).collect();
        // Other images are machines' tools, and have their programs elsewhere.
        if names.is_empty() {
            continue;
        }
        root.insert(&format!("{container}/late/busybox"), busybox)?;
        for name in names {
            root.symlink(&format!("{container}/late/{name}"), "busybox")?;
        }
        root.file(&format!("{bin}busybox"), 0o755, script.clone())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_elsewhere_and_a_script_is_in_their_place() {
        let mut root = Tree::new();
        for (container, target) in [("services/a", "busybox"), ("services/b", "/bin/busybox")] {
            root.file(&format!("containers/{container}/rootfs/bin/busybox"), 0o755, "program").unwrap();
            root.symlink(&format!("containers/{container}/rootfs/bin/sh"), target).unwrap();
        }
        root.file("bin/busybox", 0o755, "program").unwrap();
        delay(&mut root, "0.4").unwrap();
        let text = |path: &str| match &root.lookup(path).unwrap().kind {
            Kind::File(content) => String::from_utf8(content.read().unwrap().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text("containers/services/a/rootfs/late/sh"), "program");
        assert!(text("containers/services/a/rootfs/bin/busybox").contains("/late/sleep 0.4\n"));
        assert_eq!(text("containers/services/b/rootfs/bin/busybox"), "program");
        assert_eq!(text("bin/busybox"), "program");
    }
}
