// SPDX-License-Identifier: Apache-2.0
//! The images that `make images` wrote, as files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pkg::debian::Suite;
use pkg::packages::{self, Inputs, Revision};
use serde_json::Value;
use tests::paths;

/// The names of our packages: their folders.
fn names() -> Result<BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pkg");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("build.yml").exists() {
            names.insert(path.file_name().context("a name")?.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// What each program may have at most, in bytes: an image holds it in memory.
const LARGEST: &[(&str, u64)] = &[
    ("init", 1_258_291),
    ("rc", 3_145_728),
    ("metadata", 3_670_016),
    ("vsudd", 1_677_721),
    ("sysctl", 1_363_148),
    ("disk", 1_363_148),
];

#[test]
fn no_program_is_larger_than_it_may_be() -> Result<()> {
    for (name, largest) in LARGEST {
        let path = paths::target().join("x86_64-unknown-linux-gnu/guest").join(name);
        let size = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        eprintln!("  {name}: {size} of {largest} bytes");
        ensure!(size <= *largest, "{name} has {size} bytes, which is more than {largest}");
    }
    Ok(())
}

/// Another run, in another folder, later, writes the same bits.
#[test]
fn every_image_is_the_same_when_it_is_made_again() -> Result<()> {
    let (target, again) = (paths::target(), paths::fresh_folder("images-again")?);
    let suite = Suite::new(packages::SUITE, &target.join("debian"))?;
    let inputs = Inputs {
        bin: &target.join("x86_64-unknown-linux-gnu/guest"),
        busybox: Path::new("/bin/busybox"),
        architecture: "amd64",
        debian: Some(&suite),
    };
    let written = packages::write_all(&inputs, &Revision::of(Path::new(env!("CARGO_MANIFEST_DIR"))), &again)?;
    let made: BTreeSet<_> =
        written.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    ensure!(made == names()?, "made {made:?}, but the packages are {:?}", names()?);
    for path in &written {
        let first = target.join("images").join(path.file_name().context("a name")?);
        ensure!(members(&first)? == members(path)?, "{} and {} differ", first.display(), path.display());
    }
    Ok(fs::remove_dir_all(again)?)
}

/// A tar's members in their order. A tag is left out: it says what is checked
/// out, and somebody who writes on this is somewhere else already.
fn members(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut tar = Tar(File::open(path).with_context(|| format!("opening {}", path.display()))?);
    let mut members = Vec::new();
    while let Some((name, content)) = tar.next()? {
        let content = match name == "index.json" {
            true => without_tag(&serde_json::from_slice(&content)?)?.into_bytes(),
            false => content,
        };
        members.push((name, content));
    }
    Ok(members)
}

fn without_tag(index: &Value) -> Result<String> {
    let tag = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str();
    Ok(index.to_string().replace(tag.context("a tag")?, "TAG"))
}

/// What `linuxkit cache import` goes by: an index that names each reference in
/// full, and blobs that are what their names say.
#[test]
fn every_image_can_be_imported() -> Result<()> {
    for name in names()? {
        let path = paths::target().join("images").join(format!("{name}.tar"));
        let mut index = None;
        let mut blobs = BTreeSet::new();
        let mut tar = Tar(File::open(&path).with_context(|| format!("opening {}", path.display()))?);
        while let Some((member, content)) = tar.next()? {
            match member.as_str() {
                "index.json" => index = Some(serde_json::from_slice::<Value>(&content)?),
                "oci-layout" => ensure!(content == br#"{"imageLayoutVersion":"1.0.0"}"#),
                blob => ensure!(blobs.insert(blob.replace("blobs/sha256/", "sha256:")), "{blob} twice"),
            }
        }
        let index = index.with_context(|| format!("{name} has no index.json"))?;
        let manifests = index["manifests"].as_array().context("manifests")?;
        let references: Vec<_> = manifests
            .iter()
            .filter_map(|entry| entry["annotations"]["io.containerd.image.name"].as_str())
            .collect();
        ensure!(references.len() == 2 && manifests.len() == 2, "{name}: {index}");
        let tag = references[0].strip_prefix(&format!("docker.io/lkinit/{name}:"));
        let tag = tag.with_context(|| references[0].to_owned())?;
        let hash = tag.split("-dirty-").next().unwrap_or_default();
        let is_hash = hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Sources without git have the version's.
        ensure!(is_hash || hash == env!("CARGO_PKG_VERSION"), "{tag} is no git hash");
        ensure!(references[1] == format!("docker.io/lkinit/{name}:latest"), "{}", references[1]);
        for entry in manifests {
            let digest = entry["digest"].as_str().context("a digest")?;
            ensure!(blobs.contains(digest), "{name}: {digest} is not there");
        }
    }
    Ok(())
}

/// A tar's members, read without the crate that wrote them.
struct Tar(File);

impl Tar {
    fn next(&mut self) -> Result<Option<(String, Vec<u8>)>> {
        let mut header = [0; 512];
        self.0.read_exact(&mut header)?;
        if header.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim_matches(['\0', ' ']).to_owned()
        };
        let size = usize::from_str_radix(&text(124..135), 8)?;
        let mut content = vec![0; size.next_multiple_of(512)];
        self.0.read_exact(&mut content)?;
        content.truncate(size);
        Ok(Some((text(0..100), content)))
    }
}
