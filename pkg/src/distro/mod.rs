// SPDX-License-Identifier: Apache-2.0
//! Images made from Debian's packages: the OCI runtimes, containerd, busybox,
//! kernels. They are what lkinit is tried with, in the versions people run;
//! LinuxKit's own images of the same names work as well.
pub(crate) mod private;
mod recipes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::debian::{Follow, Suite};
use crate::oci::{self, Compression, ImageConfig};
use crate::tree::{Content, Tree};

pub use kernel::image::Storage;

/// Debian's name for the machine that images are made for.
const ARCHITECTURE: &str = "amd64";

/// An image and the packages it is made of.
#[derive(Debug)]
pub struct Recipe {
    /// The image's name: `lkinit/NAME`.
    pub name: &'static str,
    /// Its tag, the upstream version's first two numbers where there are
    /// several.
    pub tag: &'static str,
    /// Whether this version is the one meant where no tag is named.
    pub default: bool,
    /// The suite its packages come from.
    pub suite: &'static str,
    make: fn(&Source) -> Result<(ImageConfig, Tree)>,
}

impl Recipe {
    /// `docker.io/lkinit/NAME:TAG`, and `:latest` for the default version.
    fn references(&self) -> Vec<String> {
        let latest = self.default.then_some("latest");
        let tags = [self.tag].into_iter().chain(latest.filter(|&l| l != self.tag));
        tags.map(|tag| format!("docker.io/lkinit/{}:{tag}", self.name)).collect()
    }

    /// The default version is `NAME.tar`, another one `NAME-TAG.tar`.
    fn file_name(&self) -> String {
        if self.default { format!("{}.tar", self.name) } else { format!("{}-{}.tar", self.name, self.tag) }
    }
}

/// What a recipe takes its files from.
struct Source {
    suite: Suite,
    /// A folder for files on their way into the image.
    work: PathBuf,
    storage: Storage,
}

/// Where packages come from and images go.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where NAME.tar is written
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    pub out: PathBuf,
    /// Where packages are kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/debian")]
    pub cache: PathBuf,
}

/// Makes every image that is not a kernel; returns the files written.
pub fn distro(options: &Options) -> Result<Vec<PathBuf>> {
    recipes::IMAGES.iter().map(|recipe| make(recipe, options, Storage::default())).collect()
}

/// Makes the kernel image of one suite or tag, or of each of them.
pub fn kernels(which: Option<&str>, options: &Options, storage: Storage) -> Result<Vec<PathBuf>> {
    let chosen: Vec<_> = recipes::KERNELS
        .iter()
        .filter(|recipe| which.is_none_or(|which| which == recipe.suite || which == recipe.tag))
        .collect();
    if chosen.is_empty() {
        let known: Vec<_> = recipes::KERNELS.iter().map(|recipe| recipe.suite).collect();
        bail!("there is no kernel {}, only one of {}", which.unwrap_or_default(), known.join(", "));
    }
    chosen.into_iter().map(|recipe| make(recipe, options, storage)).collect()
}

fn make(recipe: &Recipe, options: &Options, storage: Storage) -> Result<PathBuf> {
    let suite = Suite::new(recipe.suite, &options.cache)?;
    let work = suite.dir().join(format!("work-{}-{}", recipe.name, recipe.tag));
    let source = Source { suite, work, storage };
    let path = options.out.join(recipe.file_name());
    let make = || -> Result<()> {
        if source.work.exists() {
            std::fs::remove_dir_all(&source.work)?;
        }
        std::fs::create_dir_all(&source.work)?;
        let (config, tree) = (recipe.make)(&source)?;
        // Plain layers: these images are local, and are read far more often
        // than they are copied.
        oci::write(&path, &recipe.references(), ARCHITECTURE, &config, &tree, Compression::None)?;
        std::fs::remove_dir_all(&source.work)?;
        Ok(())
    };
    make().with_context(|| format!("making lkinit/{}:{}", recipe.name, recipe.tag))?;
    eprintln!("{}: {}", recipe.references().join(", "), path.display());
    Ok(path)
}

/// A kernel and its modules, in the two files LinuxKit takes from an image.
fn kernel_image(source: &Source) -> Result<(ImageConfig, Tree)> {
    let root = source.suite.unpack("kernel", &["linux-image-cloud-amd64"], Follow::Kernel)?;
    let kernel = kernel::image::build(&root.path, &source.work.join("kernel"), source.storage)?;
    if !kernel.absent.is_empty() {
        eprintln!("kernel {} has no {}", kernel.release, kernel.absent.join(", "));
    }
    let mut tree = Tree::new();
    tree.file("kernel", 0o644, Content::from_path(&kernel.kernel)?)?;
    tree.file("kernel.tar", 0o644, Content::from_path(&kernel.tar)?)?;
    Ok((ImageConfig::default(), tree))
}

/// A file of an unpacked package.
fn packaged(root: &Path, path: &str) -> Result<Content> {
    Content::from_path(&root.join(path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::recipes::{IMAGES, KERNELS};

    #[test]
    fn every_name_has_one_default_and_no_two_images_share_a_file_or_a_reference() {
        let all: Vec<_> = IMAGES.iter().chain(KERNELS).collect();
        let mut seen = BTreeSet::new();
        for recipe in &all {
            assert!(seen.insert(recipe.file_name()), "{}", recipe.file_name());
            for reference in recipe.references() {
                assert!(seen.insert(reference.clone()), "{reference}");
            }
            let same = all.iter().filter(|other| other.name == recipe.name);
            assert_eq!(same.filter(|other| other.default).count(), 1, "{}", recipe.name);
        }
    }
}
