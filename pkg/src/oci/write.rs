// SPDX-License-Identifier: Apache-2.0
//! Writes an image with one layer as an image-layout tar, bit for bit the same
//! for the same image.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::GzBuilder;
use sha2::{Digest, Sha256};

use super::{
    CONFIG, ConfigFile, Descriptor, INDEX, ImageConfig, Index, MANIFEST, Manifest, NAME_ANNOTATION, Platform,
    RootFs, TAG_ANNOTATION, normalize,
};
use crate::tarball;
use crate::tree::Tree;

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As a plain tar: quickest to write and to assemble images from.
    None,
    /// gzip: what registries and every tool take.
    Gzip,
}

/// The date of everything in an image.
const CREATED: &str = "1970-01-01T00:00:00Z";
const BLOCK: u64 = 512;

/// Writes the image at `path` under every one of `references`, for
/// `architecture` (Go's name: `amd64`, `arm64`). The file appears whole or not
/// at all.
pub fn write(
    path: &Path,
    references: &[String],
    architecture: &str,
    config: &ImageConfig,
    layer: &Tree,
    compression: Compression,
) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut out = Layout { out: File::create(&partial)? };
        out.image(references, architecture, config, layer, compression)?;
        std::fs::rename(&partial, path)?;
        Ok(())
    };
    write()
        .inspect_err(|_| drop(std::fs::remove_file(&partial)))
        .with_context(|| format!("cannot write image {}", path.display()))
}

struct Layout {
    out: File,
}

impl Layout {
    fn image(
        &mut self,
        references: &[String],
        architecture: &str,
        config: &ImageConfig,
        layer: &Tree,
        compression: Compression,
    ) -> Result<()> {
        let platform = Platform { architecture: architecture.into(), os: "linux".into() };
        let (layer, diff_id) = self.layer(layer, compression)?;
        let config = ConfigFile {
            created: CREATED.into(),
            architecture: architecture.into(),
            os: "linux".into(),
            config: config.clone(),
            rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
        };
        let config = self.json(CONFIG, &config)?;
        let manifest =
            Manifest { schema_version: 2, media_type: Some(MANIFEST.into()), config, layers: vec![layer] };
        let manifest = Descriptor { platform: Some(platform), ..self.json(MANIFEST, &manifest)? };
        // An index of one platform, as `docker buildx` writes it: LinuxKit
        // looks an image up by platform.
        let index = Index { schema_version: 2, media_type: Some(INDEX.into()), manifests: vec![manifest] };
        let index = self.json(INDEX, &index)?;
        let named = |reference: &String| {
            let name = normalize(reference);
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag).to_owned();
            Descriptor {
                media_type: index.media_type.clone(),
                digest: index.digest.clone(),
                size: index.size,
                platform: None,
                annotations: BTreeMap::from([(NAME_ANNOTATION.into(), name), (TAG_ANNOTATION.into(), tag)]),
            }
        };
        let top = Index {
            schema_version: 2,
            media_type: Some(INDEX.into()),
            manifests: references.iter().map(named).collect(),
        };
        self.member("index.json", &serde_json::to_vec(&top)?)?;
        self.member("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(())
    }

    /// Streams the layer into its blob. Its name is its digest, known only at
    /// the end: the member's header is written last.
    fn layer(&mut self, tree: &Tree, compression: Compression) -> Result<(Descriptor, String)> {
        let header_at = self.out.stream_position()?;
        self.out.write_all(&[0; BLOCK as usize])?;
        let mut blob = Hashing::new(BufWriter::with_capacity(256 << 10, &mut self.out));
        let (diff_id, suffix) = match compression {
            Compression::None => {
                tarball::write(tree, &mut blob)?;
                (None, "")
            }
            Compression::Gzip => {
                // No time, no name, "unknown" system: nothing of this machine.
                let level = flate2::Compression::new(6);
                let mut tar =
                    Hashing::new(GzBuilder::new().mtime(0).operating_system(255).write(&mut blob, level));
                tarball::write(tree, &mut tar)?;
                let (gzip, diff_id, _) = tar.finish();
                gzip.finish()?;
                (Some(diff_id), "+gzip")
            }
        };
        let (mut file, digest, size) = blob.finish();
        file.flush()?;
        drop(file);
        self.pad(size)?;
        self.out.seek(SeekFrom::Start(header_at))?;
        self.out.write_all(header(&blob_name(&digest), size)?.as_bytes())?;
        self.out.seek(SeekFrom::End(0))?;
        let diff_id = diff_id.unwrap_or_else(|| digest.clone());
        Ok((descriptor(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), digest, size), diff_id))
    }

    fn json(&mut self, media_type: &str, value: &impl serde::Serialize) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(value)?;
        let mut hash = Hashing::new(io::sink());
        hash.write_all(&bytes)?;
        let (_, digest, size) = hash.finish();
        self.member(&blob_name(&digest), &bytes)?;
        Ok(descriptor(media_type, digest, size))
    }

    fn member(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.out.write_all(header(name, bytes.len() as u64)?.as_bytes())?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, len: u64) -> Result<()> {
        let missing = len.next_multiple_of(BLOCK) - len;
        Ok(self.out.write_all(&[0; BLOCK as usize][..missing as usize])?)
    }
}

fn descriptor(media_type: &str, digest: String, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations: BTreeMap::new() }
}

fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn header(name: &str, size: u64) -> Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Passes bytes on, counts them and takes their SHA-256.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    len: u64,
}

impl<W: Write> Hashing<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), len: 0 }
    }

    /// The writer, the digest as `sha256:HEX` and the number of bytes.
    fn finish(self) -> (W, String, u64) {
        let hex: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.out, format!("sha256:{hex}"), self.len)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.hash.update(&buf[..n]);
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
