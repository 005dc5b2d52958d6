// SPDX-License-Identifier: Apache-2.0
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::bundle::{self, Images};
use crate::oci::Archive;
use crate::tree::Kind;
use crate::yaml;

/// A folder with stand-ins for the guest programs and for busybox.
fn stand_ins() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["init", "rc", "metadata", "vsudd", "sysctl", "disk", "memlogd"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    let busybox = dir.path().join("busybox");
    let applets =
        ["bin/busybox", "bin/sh", "sbin/init", "sbin/modprobe", "linuxrc", "sbin/poweroff", "usr/bin/env"];
    std::fs::write(&busybox, format!("#!/bin/sh\nprintf '{}\\n'\n", applets.join("\\n"))).unwrap();
    std::fs::set_permissions(&busybox, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn write(dir: &Path, out: &str) -> Vec<PathBuf> {
    let inputs = Inputs { bin: dir, busybox: &dir.join("busybox"), architecture: "amd64", debian: None };
    write_all(&inputs, &Revision::Fixed("1".into()), &dir.join(out)).unwrap()
}

fn link<'a>(tree: &'a Tree, path: &str) -> &'a str {
    match &tree.get(path).unwrap().kind {
        Kind::Symlink(target) => target,
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn every_run_writes_the_same_files() {
    let dir = stand_ins();
    let pairs = write(dir.path(), "a").into_iter().zip(write(dir.path(), "b"));
    for (a, b) in pairs {
        assert!(std::fs::read(&a).unwrap() == std::fs::read(b).unwrap(), "{}", a.display());
    }
}

#[test]
fn the_init_image_keeps_its_own_names() {
    let dir = stand_ins();
    write(dir.path(), "images");
    let archive = Archive::open(&dir.path().join("images/init.tar")).unwrap();
    let tree = archive.find("docker.io/lkinit/init:latest", "amd64").unwrap().unwrap().tree().unwrap();
    let init = tree.get("sbin/init").unwrap();
    assert!(matches!(&init.kind, Kind::File(c) if c.len() == 4) && init.mode == 0o755);
    assert_eq!(link(&tree, "init"), "sbin/init");
    for name in ["bin/rc.init", "bin/rc.shutdown", "sbin/modprobe", "etc/init.d/005-volumes"] {
        assert_eq!(link(&tree, name), "/usr/bin/service");
    }
    assert_eq!(link(&tree, "sbin/usermode-helper"), "/sbin/init");
    assert_eq!(link(&tree, "etc/resolv.conf"), "/run/resolvconf/resolv.conf");
    for name in ["bin/sh", "sbin/poweroff", "usr/bin/env"] {
        assert_eq!(link(&tree, name), "/bin/busybox");
    }
    assert!(tree.get("linuxrc").is_none());
    assert!(tree.get("etc/hostname").is_none(), "it would hide linuxkit-MAC");
    for (path, mode) in [("root", 0o700), ("tmp", 0o1777), ("containers/volumes", 0o755), ("var", 0o755)] {
        let node = tree.get(path).unwrap();
        assert!(node.is_dir() && node.mode == mode, "{path}");
    }
}

/// Laid over the root of an image, it must leave every program there as it is.
#[test]
fn the_getty_image_is_harmless_among_init_images() {
    let dir = stand_ins();
    let inputs =
        Inputs { bin: dir.path(), busybox: &dir.path().join("busybox"), architecture: "amd64", debian: None };
    let (init, getty) = (tree("init", &inputs).unwrap(), tree("getty", &inputs).unwrap());
    let content = |node: &crate::tree::Node| match &node.kind {
        Kind::File(content) => content.read().unwrap().to_vec(),
        Kind::Symlink(target) => target.clone().into_bytes(),
        other => format!("{other:?}").into_bytes(),
    };
    for (path, node) in getty.iter() {
        if let Some(below) = init.get(path) {
            assert_eq!(below.mode, node.mode, "{path}");
            assert!(below.is_dir() || content(below) == content(node), "{path} differs");
        }
    }
    for path in ["bin/sh", "etc/shadow", "etc/init.d/001-getty", "usr/libexec/getty/root/service"] {
        assert!(getty.get(path).is_some(), "{path}");
    }
    assert!(getty.get("usr/bin/ctr").is_none() && getty.get("sbin/init").is_none());
    assert_eq!(getty.get("etc/shadow").unwrap().mode, 0o600);
}

/// The images just written, for planning bundles with them.
struct Written(PathBuf);

impl Images for Written {
    fn config(&self, reference: &str) -> Result<ImageConfig> {
        let name = reference.trim_start_matches("docker.io/lkinit/").trim_end_matches(":latest");
        let archive = Archive::open(&self.0.join(format!("{name}.tar")))?;
        Ok(archive.find(reference, "amd64")?.unwrap().config)
    }
}

#[test]
fn labels_give_the_containers_linuxkit_gives() {
    let dir = stand_ins();
    write(dir.path(), "images");
    let yaml =
        ["sysctl", "metadata", "vsudd"].map(|n| format!("- {{name: {n}, image: lkinit/{n}}}\n")).concat();
    let source = yaml::Source::parse(format!("onboot:\n{yaml}")).unwrap();
    let plan = bundle::plan(&source.config, &Written(dir.path().join("images"))).unwrap();
    let [sysctl, metadata, vsudd] = &plan.bundles[..] else { panic!() };
    assert_eq!(sysctl.config.process.args, ["/usr/bin/sysctl"]);
    assert_eq!(sysctl.config.process.capabilities.bounding, ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    assert!(sysctl.config.root.readonly && sysctl.config.linux.namespaces.len() == 1);
    assert_eq!(metadata.config.process.args, ["/usr/bin/metadata"]);
    assert!(metadata.config.root.readonly);
    assert_eq!(vsudd.config.process.args, ["/vsudd"]);
    assert!(!vsudd.config.root.readonly);
    assert!(vsudd.config.mounts.iter().any(|mount| mount.source == "/run" && mount.destination == "/run"));

    // A read-only root must have every mount point.
    let inputs = Inputs { bin: dir.path(), busybox: Path::new(""), architecture: "amd64", debian: None };
    for (name, bundle) in [("sysctl", sysctl), ("metadata", metadata)] {
        let tree = tree(name, &inputs).unwrap();
        for mount in &bundle.config.mounts {
            let made_by_another_mount = ["/dev/pts", "/sys/fs/cgroup"].contains(&mount.destination.as_str());
            assert!(made_by_another_mount || tree.get(&mount.destination).is_some(), "{name}: {mount:?}");
        }
    }
}

#[test]
fn a_missing_program_says_how_it_is_made() {
    let dir = stand_ins();
    std::fs::remove_file(dir.path().join("rc")).unwrap();
    let inputs =
        Inputs { bin: dir.path(), busybox: &dir.path().join("busybox"), architecture: "amd64", debian: None };
    let error = format!("{:#}", tree("init", &inputs).err().unwrap());
    assert!(error.contains("make guest") && error.contains("/rc"), "{error}");
}
