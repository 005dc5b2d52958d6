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

/// What is in `index.json` and below, as the OCI image specification has it:
/// each blob is what its descriptor says, and there is no other.
#[test]
fn every_descriptor_is_true() {
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};
    use std::collections::BTreeSet;
    use std::io::Read as _;

    let dir = tempfile::tempdir().unwrap();
    let (config, tree) = sample();
    let digest = |bytes: &[u8]| {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    };
    for (compression, layer_type) in [(Compression::None, "tar"), (Compression::Gzip, "tar+gzip")] {
        let path = dir.path().join("x.tar");
        let references = ["lkinit/x:1".to_owned(), "lkinit/x".to_owned()];
        write(&path, &references, "arm64", &config, &tree, compression).unwrap();
        let mut blobs = BTreeMap::new();
        let mut files = tar::Archive::new(std::fs::File::open(&path).unwrap());
        for file in files.entries().unwrap() {
            let mut file = file.unwrap();
            let header = file.header();
            assert_eq!(
                (header.mtime().unwrap(), header.uid().unwrap(), header.mode().unwrap()),
                (0, 0, 0o644)
            );
            let (name, mut bytes) = (file.path().unwrap().display().to_string(), Vec::new());
            file.read_to_end(&mut bytes).unwrap();
            assert!(blobs.insert(name, bytes).is_none(), "a name twice");
        }
        let layout: Value = serde_json::from_slice(&blobs.remove("oci-layout").unwrap()).unwrap();
        assert_eq!(layout, json!({"imageLayoutVersion": "1.0.0"}));
        let top: Value = serde_json::from_slice(&blobs.remove("index.json").unwrap()).unwrap();

        let mut seen = BTreeSet::new();
        let mut blob = |descriptor: &Value, media_type: &str| -> Vec<u8> {
            assert_eq!(descriptor["mediaType"], media_type);
            let name = descriptor["digest"].as_str().unwrap();
            let bytes = &blobs[&format!("blobs/{}", name.replace(':', "/"))];
            assert_eq!(digest(bytes), name);
            assert_eq!(descriptor["size"], bytes.len());
            seen.insert(format!("blobs/{}", name.replace(':', "/")));
            bytes.clone()
        };
        let index_type = "application/vnd.oci.image.index.v1+json";
        let names: Vec<&str> = top["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|named| {
                let annotations = &named["annotations"];
                let name = annotations["io.containerd.image.name"].as_str().unwrap();
                assert!(name.ends_with(&format!(
                    ":{}",
                    annotations["org.opencontainers.image.ref.name"].as_str().unwrap()
                )));
                let index: Value = serde_json::from_slice(&blob(named, index_type)).unwrap();
                assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(index_type)));
                let [manifest] = &index["manifests"].as_array().unwrap()[..] else { panic!("{index}") };
                assert_eq!(manifest["platform"], json!({"architecture": "arm64", "os": "linux"}));
                let manifest: Value =
                    serde_json::from_slice(&blob(manifest, "application/vnd.oci.image.manifest.v1+json"))
                        .unwrap();
                let config: Value = serde_json::from_slice(&blob(
                    &manifest["config"],
                    "application/vnd.oci.image.config.v1+json",
                ))
                .unwrap();
                assert_eq!((&config["architecture"], &config["os"]), (&json!("arm64"), &json!("linux")));
                let [layer] = &manifest["layers"].as_array().unwrap()[..] else { panic!("{manifest}") };
                let packed = blob(layer, &format!("application/vnd.oci.image.layer.v1.{layer_type}"));
                let mut unpacked = packed.clone();
                if compression == Compression::Gzip {
                    unpacked.clear();
                    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
                }
                assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [digest(&unpacked)]}));
                name
            })
            .collect();
        assert_eq!(names, ["docker.io/lkinit/x:1", "docker.io/lkinit/x:latest"]);
        assert_eq!(seen, blobs.keys().cloned().collect(), "a blob that nothing names");
    }
}

#[test]
fn a_damaged_archive_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.tar");
    std::fs::write(&path, [0; 1024]).unwrap();
    let error = format!("{:#}", Archive::open(&path).err().unwrap());
    assert!(error.contains("bad.tar") && error.contains("no index.json"), "{error}");
}
