// SPDX-License-Identifier: Apache-2.0
//! Our own packages as images, made of the guest programs: bit for bit the same
//! for the same programs.
mod getty;
mod init;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::oci::{self, Compression, DEFAULTS_LABEL, ImageConfig};
use crate::tree::{Content, Tree};

/// The tag of our packages, besides `latest`.
pub const TAG: &str = env!("CARGO_PKG_VERSION");

/// What the packages are made from.
pub struct Inputs<'a> {
    /// The folder of the guest programs.
    pub bin: &'a Path,
    /// A static busybox that runs here.
    pub busybox: &'a Path,
    /// The images' architecture, by Go's name.
    pub architecture: &'a str,
}

/// A package: what its image is and how its tree is made.
struct Package {
    name: &'static str,
    /// Its `build.yml`; the section `config` is the image's label.
    build: &'static str,
    entrypoint: &'static [&'static str],
    cmd: &'static [&'static str],
    tree: fn(&Inputs<'_>) -> Result<Tree>,
}

const PACKAGES: [Package; 5] = [
    Package {
        name: "init",
        build: include_str!("../../init/build.yml"),
        entrypoint: &[],
        cmd: &[],
        tree: init::tree,
    },
    Package {
        name: "metadata",
        build: include_str!("../../metadata/build.yml"),
        entrypoint: &[],
        cmd: &["/usr/bin/metadata"],
        tree: metadata,
    },
    Package {
        name: "vsudd",
        build: include_str!("../../vsudd/build.yml"),
        entrypoint: &["/vsudd"],
        cmd: &[],
        tree: vsudd,
    },
    Package {
        name: "sysctl",
        build: include_str!("../../sysctl/build.yml"),
        entrypoint: &[],
        cmd: &["/usr/bin/sysctl"],
        tree: sysctl,
    },
    Package {
        name: "getty",
        build: include_str!("../../getty/build.yml"),
        entrypoint: &[],
        cmd: &["/usr/bin/rungetty.sh"],
        tree: getty::tree,
    },
];

fn metadata(inputs: &Inputs<'_>) -> Result<Tree> {
    // What the label has mounted over must be there, for the root is read-only.
    let mut tree = dirs(&["dev", "etc/ssl/certs", "proc", "run", "sys", "tmp", "var"])?;
    tree.file("etc/resolv.conf", 0o644, "")?;
    tree.file("usr/bin/metadata", 0o755, inputs.program("metadata")?)?;
    Ok(tree)
}

fn vsudd(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tree = dirs(&["dev", "proc", "run", "sys", "tmp", "var/run"])?;
    tree.file("vsudd", 0o755, inputs.program("vsudd")?)?;
    Ok(tree)
}

fn sysctl(inputs: &Inputs<'_>) -> Result<Tree> {
    // A place to bind an image's own settings to, beside the package's.
    let mut tree = dirs(&["dev", "proc", "run/sysctl.d", "sys"])?;
    tree.file("etc/sysctl.d/00-lkinit.conf", 0o644, include_str!("../../sysctl/00-lkinit.conf"))?;
    tree.file("usr/bin/sysctl", 0o755, inputs.program("sysctl")?)?;
    Ok(tree)
}

fn dirs(paths: &[&str]) -> Result<Tree> {
    let mut tree = Tree::new();
    paths.iter().try_for_each(|path| tree.dir(path, 0o755))?;
    Ok(tree)
}

/// The references of the package `name`: with `tag`, and as the latest.
pub fn references(name: &str, tag: &str) -> [String; 2] {
    [tag, "latest"].map(|tag| format!("docker.io/lkinit/{name}:{tag}"))
}

/// Writes every package to `out/NAME.tar` and gives back the paths.
pub fn write_all(inputs: &Inputs<'_>, out: &Path) -> Result<Vec<PathBuf>> {
    let write = |package: &Package| {
        let path = out.join(format!("{}.tar", package.name));
        let references = references(package.name, TAG);
        let tree = (package.tree)(inputs)?;
        oci::write(&path, &references, inputs.architecture, &package.config()?, &tree, Compression::Gzip)?;
        Ok(path)
    };
    PACKAGES.iter().map(write).collect()
}

/// The files of the package `name`.
pub fn tree(name: &str, inputs: &Inputs<'_>) -> Result<Tree> {
    let found = PACKAGES.iter().find(|package| package.name == name);
    (found.with_context(|| format!("no package is called {name:?}"))?.tree)(inputs)
}

impl Package {
    fn config(&self) -> Result<ImageConfig> {
        let build: serde_yaml::Value = serde_yaml::from_str(self.build)?;
        let label = build.get("config").map(serde_json::to_string).transpose()?;
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        Ok(ImageConfig {
            env: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
            entrypoint: words(self.entrypoint),
            cmd: words(self.cmd),
            working_dir: "/".into(),
            labels: label.map(|text| (DEFAULTS_LABEL.into(), text)).into_iter().collect(),
            ..ImageConfig::default()
        })
    }
}

impl Inputs<'_> {
    /// The guest program `name`.
    fn program(&self, name: &str) -> Result<Content> {
        Content::from_path(&self.bin.join(name)).context("guest programs are built by `make guest`")
    }
}

#[cfg(test)]
mod tests;
