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

/// The keys of a `build.yml` that LinuxKit's tool reads (`pkgInfo` in its
/// src/cmd/linuxkit/pkglib); it refuses a file with any other.
const BUILD_KEYS: &[&str] = &[
    "image",
    "org",
    "tag",
    "dockerfile",
    "arches",
    "extra-sources",
    "gitrepo",
    "network",
    "disable-cache",
    "config",
    "buildArgs",
    "depends",
];

/// Likewise below `config` (`ImageConfig` in its src/cmd/linuxkit/moby), those
/// that are used here.
const CONFIG_KEYS: &[&str] =
    &["binds", "capabilities", "devices", "ipc", "net", "pid", "readonly", "rootfsPropagation", "tmpfs"];

#[test]
fn linuxkits_tool_knows_every_key_and_finds_every_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let keys = |value: &serde_yaml::Value| {
        let keys = value.as_mapping().unwrap().keys();
        keys.map(|key| key.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for Package { name, build, .. } in packages() {
        let build: serde_yaml::Value = serde_yaml::from_str(build).unwrap();
        let unknown: Vec<_> = keys(&build).into_iter().filter(|k| !BUILD_KEYS.contains(&&**k)).collect();
        assert_eq!(unknown, [""; 0], "{name}");
        assert_eq!((build["image"].as_str(), build["org"].as_str()), (Some(*name), Some("lkinit")));
        assert_eq!(build["network"].as_bool(), Some(true), "{name}: crates and packages are fetched");
        if let Some(config) = build.get("config") {
            let unknown: Vec<_> = keys(config).into_iter().filter(|k| !CONFIG_KEYS.contains(&&**k)).collect();
            assert_eq!(unknown, [""; 0], "{name}: config");
        }
        // The folder itself and each source make the context of the build.
        let folder = root.join("pkg").join(name);
        let mut context = vec![(folder.clone(), String::new())];
        for source in build["extra-sources"].as_sequence().unwrap() {
            let (from, to) = source.as_str().unwrap().split_once(':').unwrap();
            let from = folder.join(from).canonicalize().unwrap();
            assert!(from.join(".git").exists(), "{name}: {} is no git repository", from.display());
            context.push((from, to.to_owned()));
        }
        let dockerfile = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
        let mut stages = Vec::new();
        for line in dockerfile.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words.as_slice() {
                ["FROM", _, "AS", stage] => stages.push(stage),
                ["COPY", from, _, _] if from.starts_with("--from=") => {
                    assert!(stages.contains(&&from["--from=".len()..]), "{name}: {line}");
                }
                ["COPY", ref sources @ .., _] => {
                    for source in sources {
                        let there = |(from, to): &(PathBuf, String)| match source.strip_prefix(to.as_str()) {
                            Some("") => from.is_dir(),
                            Some(rest) => from.join(rest.trim_start_matches('/')).exists(),
                            None => false,
                        };
                        assert!(context.iter().any(there), "{name}: {line}: no {source} in the context");
                    }
                }
                _ => {}
            }
        }
        for package in dockerfile.split(" -p ").skip(1).filter_map(|rest| rest.split_whitespace().next()) {
            let manifests = [root.join(package), root.join("pkg").join(package), root.join("pkg")];
            let manifest = format!("name = \"{package}\"");
            let read =
                |folder: &PathBuf| std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            assert!(manifests.iter().any(|folder| read(folder).contains(&manifest)), "{name}: no {package}");
        }
        assert!(dockerfile.contains(&format!("-- root {name} ")), "{name}: its Dockerfile makes another");
    }
}

/// What is started is said in two places.
#[test]
fn a_dockerfile_starts_what_the_image_starts() {
    for package in packages() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(package.name).join("Dockerfile");
        let dockerfile = std::fs::read_to_string(path).unwrap();
        let words = |keyword: &str| -> Vec<String> {
            let line =
                dockerfile.lines().rev().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
            line.map(|list| serde_json::from_str(list).unwrap()).unwrap_or_default()
        };
        assert_eq!(words("ENTRYPOINT"), package.entrypoint, "{}", package.name);
        assert_eq!(words("CMD"), package.cmd, "{}", package.name);
    }
}
