// SPDX-License-Identifier: Apache-2.0
//! `pkg build` on images made here: what the machine would find in its root.
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use pkg::oci::{self, Compression, DEFAULTS_LABEL, ImageConfig};
use pkg::tarball;
use pkg::tree::{Kind, Node, Tree};
use tempfile::TempDir;

const YAML: &str = r#"
kernel:
  image: acme/kernel:1
  cmdline: "console=ttyS0 quiet"
  ucode: ucode.cpio
init: [acme/init, acme/extra]
volumes:
  - {name: blank}
  - {name: full, image: acme/app, readonly: true}
onboot:
  - {name: first, image: acme/app, readonly: true}
services:
  - {name: web, image: docker.io/acme/app:latest, binds: ["full:/data:ro"]}
files:
  - {path: /etc/conf/a, contents: text, uid: web, gid: 7, mode: "0640"}
  - {path: etc/init.d, directory: true, mode: "0711"}
  - {path: etc/link, symlink: /run/x}
  - {path: etc/me.yml, metadata: yaml}
  - {path: etc/me.json, metadata: json}
  - {path: etc/gone, source: /nowhere/at/all, optional: true}
"#;

/// A folder with images and a YAML.
fn images(yaml: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, compression, label: &str, fill: &dyn Fn(&mut Tree)| {
        let mut tree = Tree::new();
        fill(&mut tree);
        let config = ImageConfig {
            cmd: vec!["/run-me".into()],
            labels: BTreeMap::from([(DEFAULTS_LABEL.into(), label.into())]),
            ..ImageConfig::default()
        };
        let path = dir.path().join(format!("{name}.tar"));
        let references = [format!("acme/{name}:1"), format!("acme/{name}")];
        oci::write(&path, &references, "amd64", &config, &tree, compression).unwrap();
    };
    let mut modules = Tree::new();
    modules.file("lib/modules/1/modules.dep", 0o644, "dep").unwrap();
    let mut kernel_tar = Vec::new();
    tarball::write(&modules, &mut kernel_tar).unwrap();
    write("kernel", Compression::None, "", &|tree| {
        tree.file("kernel", 0o644, "bzImage").unwrap();
        tree.file("kernel.tar", 0o644, kernel_tar.clone()).unwrap();
        tree.file("ucode.cpio", 0o644, "070701ucode").unwrap();
        tree.file("boot/config", 0o644, "not for the root").unwrap();
    });
    write("init", Compression::Gzip, "", &|tree| {
        tree.file("sbin/init", 0o755, "init").unwrap();
        tree.dir("tmp", 0o1777).unwrap();
        tree.dir("etc/init.d", 0o755).unwrap();
        tree.file("etc/resolv.conf", 0o644, "will be a link").unwrap();
    });
    write("extra", Compression::None, "", &|tree| {
        tree.file("usr/bin/tool", 0o4755, "tool").unwrap();
        tree.hard_link("usr/bin/other", "usr/bin/tool").unwrap();
        tree.insert("dev/ttyS9", Node::new(0o620, Kind::Char { major: 4, minor: 73 })).unwrap();
    });
    write("app", Compression::Gzip, r#"{"env": ["A=1"]}"#, &|tree| {
        tree.insert("run-me", Node { uid: 5, gid: 6, ..Node::new(0o750, Kind::File("app".into())) }).unwrap();
        tree.file(".dockerenv", 0o644, "").unwrap();
        tree.file("etc/hostname", 0o644, "builder").unwrap();
        tree.file("etc/resolv.conf", 0o600, "builder's").unwrap();
    });
    std::fs::write(dir.path().join("image.yml"), yaml).unwrap();
    dir
}

fn build(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pkg"))
        .current_dir(dir)
        .args(["build", "image.yml", "--name", "n", "--dir", "out", "--images", "."])
        .args(args)
        .output()
        .unwrap()
}

fn built(dir: &Path, args: &[&str]) {
    let out = build(dir, args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Reads the root from `n.tar`.
fn root(dir: &Path) -> Tree {
    built(dir, &["--format", "tar"]);
    let mut tree = Tree::new();
    tarball::apply(&mut tree, &std::fs::read(dir.join("out/n.tar")).unwrap().into()).unwrap();
    tree
}

fn text(tree: &Tree, path: &str) -> String {
    let node = tree.get(path).unwrap_or_else(|| panic!("no {path}"));
    let Kind::File(content) = &node.kind else { panic!("{path} is no file") };
    String::from_utf8(content.read().unwrap().to_vec()).unwrap()
}

fn owner(tree: &Tree, path: &str) -> (u32, u32, u32) {
    let node = tree.get(path).unwrap_or_else(|| panic!("no {path}"));
    (node.mode, node.uid, node.gid)
}

fn link(tree: &Tree, path: &str) -> String {
    match &tree.get(path).unwrap_or_else(|| panic!("no {path}")).kind {
        Kind::Symlink(target) => target.clone(),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn the_root_has_every_section() {
    let dir = images(YAML);
    let tree = root(dir.path());
    assert_eq!(text(&tree, "boot/kernel"), "bzImage");
    assert_eq!(text(&tree, "boot/cmdline"), "console=ttyS0 quiet");
    assert_eq!(text(&tree, "boot/ucode.cpio"), "070701ucode");
    assert!(tree.get("boot/config").is_none() && tree.get("kernel").is_none());
    assert_eq!(text(&tree, "lib/modules/1/modules.dep"), "dep");

    assert_eq!(text(&tree, "sbin/init"), "init");
    assert_eq!(owner(&tree, "tmp").0, 0o1777);
    assert_eq!(owner(&tree, "usr/bin/tool").0, 0o4755);
    assert!(std::sync::Arc::ptr_eq(tree.get("usr/bin/tool").unwrap(), tree.get("usr/bin/other").unwrap()));
    assert_eq!(link(&tree, "etc/resolv.conf"), "/run/resolvconf/resolv.conf");
    assert_eq!(link(&tree, "etc/mtab"), "/proc/mounts");

    // The first container of an image unpacks it, the volume on its own.
    let (first, web) = ("containers/onboot/000-first", "containers/services/web");
    for files in [&format!("{first}/rootfs"), "containers/volumes/full/lower"] {
        assert_eq!(text(&tree, &format!("{files}/run-me")), "app");
        assert_eq!(owner(&tree, &format!("{files}/run-me")), (0o750, 5, 6));
        assert!(text(&tree, &format!("{files}/etc/resolv.conf")).contains("no resolv.conf configured"));
        assert!(text(&tree, &format!("{files}/etc/hosts")).contains("localhost"));
        for left_out in [".dockerenv", "etc/hostname"] {
            assert!(tree.get(&format!("{files}/{left_out}")).is_none(), "{left_out}");
        }
        for mount_point in ["dev/pts", "dev/shm", "proc", "sys"] {
            assert!(tree.get(&format!("{files}/{mount_point}")).unwrap().is_dir(), "{mount_point}");
        }
    }
    for made in ["tmp", "rootfs"] {
        assert!(tree.get(&format!("{web}/{made}")).unwrap().is_dir());
    }
    assert!(tree.get(&format!("{web}/lower")).is_none());
    assert!(tree.get("containers/volumes/blank/tmp").is_some());
    assert!(tree.get("containers/volumes/full/tmp").is_none());
    let config: serde_json::Value =
        serde_json::from_str(&text(&tree, &format!("{web}/config.json"))).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!(["/run-me"]));
    assert_eq!(config["process"]["env"], serde_json::json!(["A=1"]));
    assert!(text(&tree, &format!("{web}/runtime.json")).contains(&format!("lowerdir=/{first}/rootfs")));

    // web is the second container: 101.
    assert_eq!((text(&tree, "etc/conf/a").as_str(), owner(&tree, "etc/conf/a")), ("text", (0o640, 101, 7)));
    assert_eq!(owner(&tree, "etc/conf"), (0o750, 101, 7));
    assert_eq!(owner(&tree, "etc").0, 0o755, "a directory that was there keeps its mode");
    assert_eq!(owner(&tree, "etc/init.d").0, 0o711);
    assert_eq!(link(&tree, "etc/link"), "/run/x");
    assert!(text(&tree, "etc/me.yml").contains("docker.io/acme/init:latest"));
    assert!(text(&tree, "etc/me.json").contains("\"docker.io/acme/kernel:1\""));
    assert!(tree.get("etc/gone").is_none());
}

#[test]
fn the_initrd_is_microcode_and_a_cpio() {
    let dir = images(YAML);
    for compress in ["none", "gzip", "zstd"] {
        built(dir.path(), &["--compress", compress]);
        let out = dir.path().join("out");
        assert_eq!(std::fs::read(out.join("n-kernel")).unwrap(), b"bzImage");
        assert_eq!(std::fs::read(out.join("n-cmdline")).unwrap(), b"console=ttyS0 quiet");
        let initrd = std::fs::read(out.join("n-initrd.img")).unwrap();
        let initrd = initrd.strip_prefix(b"070701ucode").unwrap();
        let mut cpio = Vec::new();
        match compress {
            "gzip" => flate2::read::GzDecoder::new(initrd).read_to_end(&mut cpio).unwrap(),
            "zstd" => zstd::Decoder::new(initrd).unwrap().read_to_end(&mut cpio).unwrap(),
            _ => initrd.to_vec().as_slice().read_to_end(&mut cpio).unwrap(),
        };
        std::fs::write(out.join("cpio"), cpio).unwrap();
        let list =
            Command::new("cpio").args(["-itvF", "cpio", "--quiet"]).current_dir(&out).output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        let line =
            |name: &str| list.lines().find(|l| l.split_whitespace().nth(8) == Some(name)).unwrap_or("");
        assert!(line("sbin/init").starts_with("-rwxr-xr-x   1 root     root            4"), "{list}");
        assert!(line("usr/bin/tool").starts_with("-rwsr-xr-x   2"), "{list}");
        assert!(list.contains("crw--w----   1 root     root       4,  73"), "{list}");
        assert!(!list.contains(" boot"), "what boots it is not in the root:\n{list}");
    }
}

#[test]
fn file_system_images_have_owners_and_devices() {
    let dir = images(YAML);
    built(dir.path(), &["--format", "kernel+squashfs", "--compress", "zstd"]);
    let list =
        Command::new("unsquashfs").args(["-llnumeric", "out/n-squashfs.img"]).current_dir(&dir).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    assert!(list.contains("squashfs-root/containers/services/web/rootfs"), "{list}");
    assert!(list.lines().any(|l| l.starts_with("-rw-r----- 101/7") && l.ends_with("etc/conf/a")), "{list}");
    assert!(list.lines().any(|l| l.starts_with("crw--w----") && l.ends_with("dev/ttyS9")), "{list}");
    assert!(list.lines().any(|l| l.starts_with("drwxrwxrwt") && l.ends_with("squashfs-root/tmp")), "{list}");
    let again = std::fs::read(dir.path().join("out/n-squashfs.img")).unwrap();
    built(dir.path(), &["--format", "kernel+squashfs", "--compress", "zstd"]);
    assert!(
        std::fs::read(dir.path().join("out/n-squashfs.img")).unwrap() == again,
        "a second run wrote other bytes"
    );
}

/// mkfs.erofs of Debian 12 reads folders only, so owners and devices need root.
#[test]
fn an_erofs_image_needs_root_and_says_so() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let dir = images(YAML);
    let out = build(dir.path(), &["--format", "kernel+erofs"]);
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(error.contains("by root only"), "{error}");
        return;
    }
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let unpack = Command::new("fsck.erofs")
        .args(["--extract=root", "--preserve", "out/n-erofs.img"])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(unpack.status.success(), "{unpack:?}");
    let meta = |path: &str| std::fs::symlink_metadata(dir.path().join("root").join(path)).unwrap();
    let conf = meta("etc/conf/a");
    assert_eq!((conf.mode() & 0o7777, conf.uid(), conf.gid()), (0o640, 101, 7));
    assert!(meta("dev/ttyS9").file_type().is_char_device());
    let root =
        Command::new("dump.erofs").args(["--path=/", "out/n-erofs.img"]).current_dir(&dir).output().unwrap();
    let root = String::from_utf8(root.stdout).unwrap();
    assert!(root.contains("Access: 0755/rwxr-xr-x"), "{root}");
}

#[test]
fn what_is_missing_or_wrong_is_one_line() {
    for (yaml, parts) in [
        ("init: [acme/nothing]", &["image.yml: init[0]", "docker.io/acme/nothing:latest is not in ."][..]),
        ("kernel: {image: acme/kernel, binary: vmlinuz}", &["kernel", "no file vmlinuz"]),
        ("kernel: {image: acme/app}", &["kernel", "no file kernel.tar"]),
        ("init: [acme/init]", &["names no kernel image"]),
        ("files: [{path: a}]", &["files[0] a", "none of directory"]),
        ("files: [{path: a, contents: x, symlink: y}]", &["files[0] a", "symlink and contents are given"]),
        ("files: [{path: a, contents: x, mode: '9'}]", &["files[0] a", "\"9\" is not an octal"]),
        ("files: [{path: a, source: /nowhere/x}]", &["files[0] a", "/nowhere/x", "No such file"]),
        ("files: [{path: a, metadata: toml}]", &["files[0] a", "\"toml\""]),
        ("files: [{path: a/../../b, contents: x}]", &["files[0] a/../../b", "may not contain .."]),
        ("files: [{path: a, contents: x, uid: who}]", &["files[0] a: uid", "\"who\""]),
    ] {
        let dir = images(yaml);
        let out = build(dir.path(), &[]);
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && error.lines().count() == 1, "{yaml}: {error}");
        for part in parts {
            assert!(error.contains(part), "{yaml}: {part:?} is missing in: {error}");
        }
    }
}

#[test]
fn a_broken_tar_hinders_only_who_needs_it() {
    let dir = images(YAML);
    std::fs::write(dir.path().join("aaa.tar"), "no tar at all").unwrap();
    built(dir.path(), &[]);
    std::fs::write(dir.path().join("image.yml"), "init: [acme/absent]").unwrap();
    let error = String::from_utf8(build(dir.path(), &[]).stderr).unwrap();
    assert!(error.contains("acme/absent") && error.contains("aaa.tar"), "{error}");
}
