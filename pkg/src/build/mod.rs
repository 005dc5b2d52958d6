// SPDX-License-Identifier: Apache-2.0
//! Assembles an image: a root file system and what a machine needs to boot it,
//! from a YAML and the images at hand, as `linuxkit build` does.
mod files;
mod output;
mod root;

use std::sync::Arc;

use anyhow::{Context, Result, bail};

pub use output::{Compress, Format, write};

use crate::bundle::{self, Bundle, VolumeDirs};
use crate::store::Store;
use crate::tarball;
use crate::tree::{Content, Kind, Tree};
use crate::yaml::{Kernel, Source};

/// An image before it gets a format.
pub struct Assembled {
    /// The root file system.
    pub root: Tree,
    /// What boots it; None when the YAML names no kernel.
    pub boot: Option<Boot>,
}

/// What a machine is given besides the root.
pub struct Boot {
    /// The kernel.
    pub kernel: Content,
    /// Its command line.
    pub cmdline: String,
    /// Processor microcode, to go before the initrd.
    pub ucode: Option<Content>,
}

/// Puts together what `source` asks for with the images of `store`. An error
/// says which entry it is about.
pub fn assemble(source: &Source, store: &Store) -> Result<Assembled> {
    let config = &source.config;
    let plan = bundle::plan(config, store)?;
    let mut tree = Tree::new();
    let boot = boot(&config.kernel, store, &mut tree).context("kernel")?;
    for (index, reference) in config.init.iter().enumerate() {
        let files = || root::init(store.image(reference)?.tree()?);
        let files = files().with_context(|| format!("init[{index}]"))?;
        tree.graft("", &files).with_context(|| format!("init[{index}]"))?;
    }
    for volume in &plan.volumes {
        add_volume(&mut tree, volume, store).with_context(|| volume.path.clone())?;
    }
    for bundle in &plan.bundles {
        add_bundle(&mut tree, bundle, store).with_context(|| bundle.path.clone())?;
    }
    files::add(&mut tree, source, &plan.ids)?;
    Ok(Assembled { root: tree, boot })
}

/// Unpacks the kernel image's tar into the root and keeps the rest for the boot
/// loader.
fn boot(kernel: &Kernel, store: &Store, root: &mut Tree) -> Result<Option<Boot>> {
    if kernel.image.is_empty() {
        return Ok(None);
    }
    let image = store.image(&kernel.image)?.tree()?;
    let file = |name: &str| match image.lookup(name).map(Arc::as_ref) {
        Some(crate::tree::Node { kind: Kind::File(content), .. }) => Ok(content.clone()),
        _ => bail!("image {} has no file {name}", kernel.image),
    };
    let tar = kernel.tar.as_deref().unwrap_or("kernel.tar");
    if !matches!(tar, "" | "none") {
        match file(tar)? {
            Content::Memory(bytes) => tarball::apply(root, &bytes),
            Content::File { path, offset, len } => tarball::apply_file(root, &path, offset, len),
        }
        .with_context(|| tar.to_owned())?;
    }
    Ok(Some(Boot {
        kernel: file(kernel.binary.as_deref().unwrap_or("kernel"))?,
        cmdline: kernel.cmdline.clone(),
        ucode: kernel.ucode.as_deref().map(file).transpose()?,
    }))
}

fn add_volume(tree: &mut Tree, volume: &VolumeDirs, store: &Store) -> Result<()> {
    for dir in volume.dirs() {
        tree.dir(&format!("{}/{dir}", volume.path), 0o755)?;
    }
    let Some(image) = &volume.image else { return Ok(()) };
    tree.graft(&format!("{}/lower", volume.path), &root::container(store.image(image)?.tree()?)?)
}

fn add_bundle(tree: &mut Tree, bundle: &Bundle, store: &Store) -> Result<()> {
    for dir in bundle.dirs() {
        tree.dir(&format!("{}/{dir}", bundle.path), 0o755)?;
    }
    if bundle.unpacks {
        tree.graft(&bundle.files, &root::container(store.image(&bundle.image)?.tree()?)?)?;
    }
    let mut json = |name: &str, text: String| tree.file(&format!("{}/{name}", bundle.path), 0o644, text);
    json("config.json", serde_json::to_string_pretty(&bundle.config)?)?;
    json("runtime.json", serde_json::to_string_pretty(&bundle.runtime)?)
}
