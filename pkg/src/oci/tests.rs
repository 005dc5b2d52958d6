// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeMap;
use std::process::Command;

use super::*;
use crate::tree::{Kind, Tree};

fn sample() -> (ImageConfig, Tree) {
    let mut tree = Tree::new();
    tree.dir("tmp", 0o1777).unwrap();
    tree.file("usr/bin/x", 0o755, "#!/bin/sh\n".repeat(1000)).unwrap();
    tree.symlink("bin", "usr/bin").unwrap();
    let config = ImageConfig {
        entrypoint: vec!["/usr/bin/x".into()],
        env: vec!["PATH=/usr/bin".into()],
        labels: BTreeMap::from([(DEFAULTS_LABEL.into(), r#"{"pid":"host"}"#.into())]),
        ..ImageConfig::default()
    };
    (config, tree)
}

#[test]
fn an_image_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (config, tree) = sample();
    for compression in [Compression::None, Compression::Gzip] {
        let path = dir.path().join("x.tar");
        let references = ["lkinit/x:1".to_owned(), "docker.io/lkinit/x".to_owned()];
        write(&path, &references, "amd64", &config, &tree, compression).unwrap();

        let archive = Archive::open(&path).unwrap();
        let names: Vec<_> = archive.references().collect();
        assert_eq!(names, ["docker.io/lkinit/x:1", "docker.io/lkinit/x:latest"]);
        assert!(archive.find("docker.io/lkinit/y:1", "amd64").unwrap().is_none());
        let error = archive.find("docker.io/lkinit/x:1", "arm64").err().unwrap();
        assert!(format!("{error:#}").contains("not built for arm64"), "{error:#}");

        let image = archive.find("docker.io/lkinit/x:1", "amd64").unwrap().unwrap();
        assert_eq!(image.config, config);
        let read = image.tree().unwrap();
        let paths: Vec<_> = read.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["bin", "tmp", "usr", "usr/bin", "usr/bin/x"]);
        let Kind::File(content) = &read.lookup("bin/x").unwrap().kind else { panic!() };
        assert_eq!(content.len(), 10_000);
    }
}

#[test]
fn the_same_image_is_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let (config, tree) = sample();
    let bytes = |name: &str| {
        let path = dir.path().join(name);
        write(&path, &["x".into()], "amd64", &config, &tree, Compression::Gzip).unwrap();
        std::fs::read(path).unwrap()
    };
    assert!(bytes("a.tar") == bytes("b.tar"));
}

#[test]
fn other_tools_read_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let (config, tree) = sample();
    let path = dir.path().join("x.tar");
    write(&path, &["x".into()], "amd64", &config, &tree, Compression::Gzip).unwrap();
    let unpack = Command::new("tar").arg("-xf").arg(&path).current_dir(dir.path()).status().unwrap();
    assert!(unpack.success());
    let mut sums = String::new();
    for blob in std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap() {
        let name = blob.unwrap().file_name().into_string().unwrap();
        sums += &format!("{name}  blobs/sha256/{name}\n");
    }
    assert_eq!(sums.lines().count(), 4, "layer, config, manifest, index");
    std::fs::write(dir.path().join("sums"), sums).unwrap();
    let check =
        Command::new("sha256sum").args(["-c", "--quiet", "sums"]).current_dir(dir.path()).status().unwrap();
    assert!(check.success(), "a blob is not what its name says");
}

#[test]
fn a_damaged_archive_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.tar");
    std::fs::write(&path, [0; 1024]).unwrap();
    let error = format!("{:#}", Archive::open(&path).err().unwrap());
    assert!(error.contains("bad.tar") && error.contains("no index.json"), "{error}");
}
