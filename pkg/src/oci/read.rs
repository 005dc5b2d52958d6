// SPDX-License-Identifier: Apache-2.0
//! Reads images from image-layout tars, without unpacking them to disk.
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{ConfigFile, Descriptor, ImageConfig, Index, Manifest, NAME_ANNOTATION};
use crate::tarball;
use crate::tree::{Content, Tree};

/// An image-layout tar whose members have been found.
pub struct Archive {
    path: PathBuf,
    /// Member name -> its bytes.
    members: HashMap<String, Content>,
    index: Index,
}

/// An image of an archive.
pub struct Image<'a> {
    archive: &'a Archive,
    manifest: Manifest,
    /// How it is run.
    pub config: ImageConfig,
}

impl Archive {
    /// Opens the tar at `path` and reads its index.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Self> {
            let mut members = HashMap::new();
            for entry in tar::Archive::new(BufReader::new(File::open(path)?)).entries_with_seek()? {
                let entry = entry?;
                let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
                let content =
                    Content::File { path: path.into(), offset: entry.raw_file_position(), len: entry.size() };
                members.insert(name, content);
            }
            let Some(index) = members.get("index.json") else {
                bail!("no index.json: not an OCI image layout")
            };
            let index = serde_json::from_slice(&index.read()?).context("index.json")?;
            Ok(Self { path: path.into(), members, index })
        };
        open().with_context(|| format!("cannot read image {}", path.display()))
    }

    /// The full references this archive has images for.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.index.manifests.iter().filter_map(|m| m.annotations.get(NAME_ANNOTATION).map(String::as_str))
    }

    /// The image named by the full `reference`, for `architecture`
    /// (`amd64`, ...); None when this archive does not have it.
    pub fn find(&self, reference: &str, architecture: &str) -> Result<Option<Image<'_>>> {
        let named =
            |d: &&Descriptor| d.annotations.get(NAME_ANNOTATION).is_some_and(|name| name == reference);
        let Some(found) = self.index.manifests.iter().find(named) else {
            return Ok(None);
        };
        self.image(found, architecture)
            .with_context(|| format!("cannot read image {reference} in {}", self.path.display()))
            .map(Some)
    }

    fn image(&self, descriptor: &Descriptor, architecture: &str) -> Result<Image<'_>> {
        // Index or manifest: Docker's own media types mean the same two.
        if descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list") {
            let index: Index = self.json(&descriptor.digest)?;
            let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| p.architecture == architecture);
            let Some(manifest) = index.manifests.iter().find(fits) else {
                bail!("not built for {architecture}")
            };
            return self.image(manifest, architecture);
        }
        let manifest: Manifest = self.json(&descriptor.digest)?;
        let config: ConfigFile = self.json(&manifest.config.digest)?;
        ensure!(
            config.architecture == architecture,
            "built for {}, not for {architecture}",
            config.architecture
        );
        Ok(Image { archive: self, manifest, config: config.config })
    }

    fn blob(&self, digest: &str) -> Result<&Content> {
        self.members
            .get(&format!("blobs/{}", digest.replace(':', "/")))
            .with_context(|| format!("no blob {digest}"))
    }

    fn json<T: DeserializeOwned>(&self, digest: &str) -> Result<T> {
        let bytes = self.blob(digest)?.read()?;
        verify(digest, &bytes)?;
        serde_json::from_slice(&bytes).with_context(|| format!("blob {digest}"))
    }
}

impl Image<'_> {
    /// Its files: all layers over one another. Plain layers stay on disk.
    pub fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::new();
        for layer in &self.manifest.layers {
            self.apply(layer, &mut tree).with_context(|| {
                format!("cannot read layer {} of {}", layer.digest, self.archive.path.display())
            })?;
        }
        Ok(tree)
    }

    fn apply(&self, layer: &Descriptor, tree: &mut Tree) -> Result<()> {
        let blob = self.archive.blob(&layer.digest)?;
        ensure!(blob.len() == layer.size, "{} bytes instead of {}", blob.len(), layer.size);
        let mut magic = Vec::new();
        blob.open()?.take(4).read_to_end(&mut magic)?;
        let mut plain = Vec::new();
        match (magic.as_slice(), blob) {
            ([0x1f, 0x8b, ..], _) => {
                flate2::read::MultiGzDecoder::new(blob.open()?).read_to_end(&mut plain).context("gzip")?
            }
            ([0x28, 0xb5, 0x2f, 0xfd], _) => {
                zstd::Decoder::new(blob.open()?)?.read_to_end(&mut plain).context("zstd")?
            }
            (_, Content::File { path, offset, len }) => {
                return tarball::apply_file(tree, path, *offset, *len);
            }
            (_, Content::Memory(bytes)) => return tarball::apply(tree, bytes),
        };
        tarball::apply(tree, &plain.into())
    }
}

/// A small blob must be what its name says. Layers are not checked: they are
/// ours, just written, and hashing them would cost more than all the rest.
fn verify(digest: &str, bytes: &[u8]) -> Result<()> {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(digest.strip_prefix("sha256:") == Some(&hex), "blob {digest} has the digest sha256:{hex}");
    Ok(())
}
