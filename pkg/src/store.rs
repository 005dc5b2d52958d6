// SPDX-License-Identifier: Apache-2.0
//! Images at hand: folders of image-layout tars.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bundle::Images;
use crate::oci::{Archive, Image, ImageConfig, normalize};

/// The images of some folders, for one architecture.
pub struct Store {
    archives: Vec<Archive>,
    /// Tars that could not be read: told when an image is missing.
    faults: Vec<String>,
    dirs: Vec<PathBuf>,
    architecture: String,
}

impl Store {
    /// Looks at every `*.tar` of `dirs`. Folders come in the order given, files
    /// in the order of their names.
    pub fn open(dirs: &[PathBuf], architecture: &str) -> Result<Self> {
        let (mut archives, mut faults) = (Vec::new(), Vec::new());
        for dir in dirs {
            for path in
                tars(dir).with_context(|| format!("cannot read folder of images {}", dir.display()))?
            {
                match Archive::open(&path) {
                    Ok(archive) => archives.push(archive),
                    Err(error) => faults.push(format!("{error:#}")),
                }
            }
        }
        Ok(Self { archives, faults, dirs: dirs.to_vec(), architecture: architecture.into() })
    }

    /// The first image called `reference`, given in short or in full.
    pub fn image(&self, reference: &str) -> Result<Image<'_>> {
        let full = normalize(reference);
        for archive in &self.archives {
            if let Some(image) = archive.find(&full, &self.architecture)? {
                return Ok(image);
            }
        }
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
        let faults: String = self.faults.iter().map(|fault| format!("; {fault}")).collect();
        bail!("image {full} is not in {}{faults}", dirs.join(", "))
    }
}

impl Images for Store {
    fn config(&self, reference: &str) -> Result<ImageConfig> {
        Ok(self.image(reference)?.config)
    }
}

fn tars(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut tars = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            tars.push(path);
        }
    }
    tars.sort();
    Ok(tars)
}
