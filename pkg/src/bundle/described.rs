// SPDX-License-Identifier: Apache-2.0
//! Images known by a description only: for looking at what an image would
//! contain without having its images.
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Images;
use crate::oci::{DEFAULTS_LABEL, ImageConfig};

/// A JSON file: full reference -> what the image's configuration says.
#[derive(Deserialize)]
pub struct Described(BTreeMap<String, Description>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Description {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: String,
    user: String,
    /// The text of [`DEFAULTS_LABEL`].
    label: Option<String>,
}

impl Described {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || Ok::<_, anyhow::Error>(serde_json::from_slice(&std::fs::read(path)?)?);
        read().with_context(|| path.display().to_string())
    }
}

impl Images for Described {
    fn config(&self, reference: &str) -> Result<ImageConfig> {
        let d = self.0.get(reference).with_context(|| format!("image {reference} is not described"))?;
        Ok(ImageConfig {
            user: d.user.clone(),
            env: d.env.clone(),
            entrypoint: d.entrypoint.clone(),
            cmd: d.cmd.clone(),
            working_dir: d.working_dir.clone(),
            labels: d.label.iter().map(|text| (DEFAULTS_LABEL.into(), text.clone())).collect(),
        })
    }
}
