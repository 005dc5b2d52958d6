// SPDX-License-Identifier: Apache-2.0
//! The YAML files in `examples/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::Image;

/// Where they are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// The text of the example `NAME.yml`.
pub fn text(name: &str) -> Result<String> {
    let path = folder().join(format!("{name}.yml"));
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The image of the example `NAME.yml`, with the tests' control script.
pub fn image(name: &str) -> Result<Image> {
    Image::new(&text(name)?).with_context(|| format!("assembling the example {name}"))
}
