// SPDX-License-Identifier: Apache-2.0
//! Our own packages as images, made of the guest programs and, for some, of
//! Debian's: bit for bit the same for the same programs.
mod busybox;
mod getty;
mod init;
mod machine;
mod tag;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::debian::Suite;
use crate::oci::{self, Compression, DEFAULTS_LABEL, ImageConfig};
use crate::tree::{Content, Tree};

pub use tag::Revision;

/// The suite of the Debian programs in our packages.
pub const SUITE: &str = "bookworm";

/// What the packages are made from.
pub struct Inputs<'a> {
    /// The folder of the guest programs.
    pub bin: &'a Path,
    /// A static busybox that runs here.
    pub busybox: &'a Path,
    /// The images' architecture, by Go's name.
    pub architecture: &'a str,
    /// Where Debian's programs come from; some packages cannot be made without.
    pub debian: Option<&'a Suite>,
}

/// A package: what its image is and how its tree is made.
struct Package {
    /// Also its folder below `pkg`.
    name: &'static str,
    /// Its `build.yml`; the section `config` is the image's label.
    build: &'static str,
    entrypoint: &'static [&'static str],
    cmd: &'static [&'static str],
    tree: fn(&Inputs<'_>) -> Result<Tree>,
}

/// All of ours.
fn packages() -> impl Iterator<Item = &'static Package> {
    OWN.iter().chain(WITH_TOOLS)
}

/// What is made of our programs and busybox.
static OWN: &[Package] = &[
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
    Package {
        name: "memlogd",
        build: include_str!("../../memlogd/build.yml"),
        entrypoint: &[],
        cmd: &[],
        tree: memlogd,
    },
    Package {
        name: "logwrite",
        build: include_str!("../../logwrite/build.yml"),
        entrypoint: &[],
        cmd: &["/usr/bin/logwrite"],
        tree: logwrite,
    },
    Package {
        name: "modprobe",
        build: include_str!("../../modprobe/build.yml"),
        entrypoint: &[],
        cmd: &[],
        tree: machine::modprobe,
    },
    Package {
        name: "poweroff",
        build: include_str!("../../poweroff/build.yml"),
        entrypoint: &["/bin/sh", "/poweroff.sh"],
        cmd: &[],
        tree: machine::poweroff,
    },
];

/// What has Debian's programs in it too.
static WITH_TOOLS: &[Package] = &[
    Package {
        name: "format",
        build: include_str!("../../format/build.yml"),
        entrypoint: &[],
        cmd: &["/usr/bin/format"],
        tree: machine::format,
    },
    Package {
        name: "mount",
        build: include_str!("../../mount/build.yml"),
        entrypoint: &[],
        cmd: &["/usr/bin/mountie"],
        tree: machine::mount,
    },
    Package {
        name: "swap",
        build: include_str!("../../swap/build.yml"),
        entrypoint: &["swap.sh"],
        cmd: &[],
        tree: machine::swap,
    },
    Package {
        name: "ip",
        build: include_str!("../../ip/build.yml"),
        entrypoint: &[],
        cmd: &[],
        tree: machine::ip,
    },
    Package {
        name: "qemu-ga",
        build: include_str!("../../qemu-ga/build.yml"),
        entrypoint: &[],
        cmd: &["/usr/bin/qemu-ga.sh"],
        tree: machine::qemu_ga,
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

fn memlogd(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tree = dirs(&["etc/init.d"])?;
    tree.file("usr/bin/memlogd", 0o755, inputs.program("memlogd")?)?;
    for name in ["usr/bin/logread", "usr/bin/logwrite", "etc/init.d/002-logging"] {
        tree.symlink(name, "/usr/bin/memlogd")?;
    }
    Ok(tree)
}

fn logwrite(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tree = dirs(&["dev", "proc", "sys", "tmp", "var/log", "var/run"])?;
    tree.file("usr/bin/logwrite", 0o755, inputs.program("memlogd")?)?;
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

/// Writes every package to `out/NAME.tar` and gives back the paths. Without
/// Debian's packages at hand, only those that need none.
pub fn write_all(inputs: &Inputs<'_>, revision: &Revision, out: &Path) -> Result<Vec<PathBuf>> {
    let write = |package: &Package| {
        let path = out.join(format!("{}.tar", package.name));
        let references = references(package.name, &revision.tag(package.name)?);
        let tree = (package.tree)(inputs).with_context(|| format!("making lkinit/{}", package.name))?;
        oci::write(&path, &references, inputs.architecture, &package.config()?, &tree, Compression::Gzip)?;
        Ok(path)
    };
    packages().filter(|package| inputs.debian.is_some() || !package.has_tools()).map(write).collect()
}

/// The files of the package `name`.
pub fn tree(name: &str, inputs: &Inputs<'_>) -> Result<Tree> {
    (find(name)?.tree)(inputs)
}

/// Each package and its tag.
pub fn tags(revision: &Revision) -> Result<Vec<(&'static str, String)>> {
    packages().map(|package| Ok((package.name, revision.tag(package.name)?))).collect()
}

/// Whether the package `name` has Debian's programs in it.
pub fn has_tools(name: &str) -> Result<bool> {
    Ok(find(name)?.has_tools())
}

fn find(name: &str) -> Result<&'static Package> {
    let names = || packages().map(|package| package.name).collect::<Vec<_>>().join(", ");
    let found = packages().find(|package| package.name == name);
    found.with_context(|| format!("no package is called {name:?}, there are {}", names()))
}

impl Package {
    fn has_tools(&self) -> bool {
        WITH_TOOLS.iter().any(|package| package.name == self.name)
    }

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
