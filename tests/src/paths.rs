// SPDX-License-Identifier: Apache-2.0
//! Where things are. Everything a test writes is below cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// cargo's target folder.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.parent().unwrap_or(here).join("target")
        }
    }
}

/// An empty folder for the machine of that name.
pub fn fresh_folder(name: &str) -> Result<PathBuf> {
    let path = target().join("tests").join(name);
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("emptying {}", path.display()))?;
    }
    fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    path.canonicalize().with_context(|| format!("finding {}", path.display()))
}
