// SPDX-License-Identifier: Apache-2.0
//! What `linuxkit build` writes below `containers/`: for every container a
//! `config.json`, a `runtime.json` and the directories of its root, and the
//! directories of volumes. A plan: nothing here touches a file.
mod convert;
mod described;
mod mounts;
pub mod spec;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

pub use convert::{Ids, numeric};
pub use described::Described;
use spec::{Mount, Runtime, Spec};

use crate::oci::{self, ImageConfig};
use crate::yaml::{Config, Container};

/// The first number allotted to a container.
const FIRST_ID: u32 = 100;

/// Where configurations of images come from.
pub trait Images {
    /// The configuration of the image with the full reference `reference`.
    fn config(&self, reference: &str) -> Result<ImageConfig>;
}

/// A container as it lies in the image.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory, `containers/SECTION/[NNN-]NAME`.
    pub path: String,
    /// The full reference of its image.
    pub image: String,
    /// Where the image's files lie: in this bundle, or in the first one with
    /// the same image.
    pub files: String,
    /// Whether they are unpacked here.
    pub unpacks: bool,
    /// `config.json`.
    pub config: Spec,
    /// `runtime.json`.
    pub runtime: Runtime,
}

/// A volume as it lies in the image.
#[derive(Debug)]
pub struct VolumeDirs {
    /// Its directory, `containers/volumes/NAME`.
    pub path: String,
    /// The full reference of the image it starts as.
    pub image: Option<String>,
    /// Whether nobody may write to it.
    pub readonly: bool,
}

/// Everything below `containers/`.
#[derive(Debug)]
pub struct Plan {
    /// The volumes, in the order of the YAML.
    pub volumes: Vec<VolumeDirs>,
    /// The containers, in boot order.
    pub bundles: Vec<Bundle>,
    /// The numbers that names stand for as `uid` or `gid`.
    pub ids: Ids,
}

/// Plans the bundles of `config`. An error says which container it is about.
pub fn plan(config: &Config, images: &dyn Images) -> Result<Plan> {
    let volumes = config.volumes.iter().map(|volume| VolumeDirs {
        path: format!("containers/volumes/{}", volume.name),
        image: Some(&volume.image).filter(|i| !i.is_empty()).map(|i| oci::normalize(i)),
        readonly: volume.readonly,
    });
    let ids = (FIRST_ID..).zip(config.containers()).map(|(id, (_, _, c))| (c.name.clone(), id)).collect();
    // Containers of one image share what the first of them unpacks.
    let mut unpacked = BTreeMap::new();
    let mut bundles = Vec::new();
    for (section, index, container) in config.containers() {
        let name = &container.name;
        let name = if section == "services" { name.clone() } else { format!("{index:03}-{name}") };
        let path = format!("containers/{section}/{name}");
        let bundle = bundle(path, container, config, images, &ids, &mut unpacked)
            .with_context(|| format!("{section}[{index}] {}", container.name))?;
        bundles.push(bundle);
    }
    Ok(Plan { volumes: volumes.collect(), bundles, ids })
}

fn bundle(
    path: String,
    entry: &Container,
    config: &Config,
    images: &dyn Images,
    ids: &Ids,
    unpacked: &mut BTreeMap<String, String>,
) -> Result<Bundle> {
    let image = oci::normalize(&entry.image);
    let image_config = images.config(&image)?;
    let container = convert::with_defaults(entry, &image_config)?;
    let mounts = mounts::mounts(&container, &config.volumes)?;
    let config = convert::spec(&container, &image_config, mounts, ids)?;
    let own = format!("{path}/{}", if config.root.readonly { "rootfs" } else { "lower" });
    let files = unpacked.entry(image.clone()).or_insert_with(|| own.clone()).clone();
    let runtime = convert::runtime(&container, root_mounts(&path, &files, config.root.readonly));
    Ok(Bundle { path, image, unpacks: files == own, files, config, runtime })
}

/// How `rootfs` comes about: a read-only root is bound (if only on itself, for
/// a runtime wants a mount point), a writable one is an overlay on the files
/// with a tmpfs of its own, which nobody else needs to see.
fn root_mounts(path: &str, files: &str, readonly: bool) -> Vec<Mount> {
    let mount = |kind: &str, source: &str, destination: &str, options: &[String]| Mount {
        kind: kind.into(),
        source: source.into(),
        destination: format!("/{path}/{destination}"),
        options: options.to_vec(),
        ..Mount::default()
    };
    if readonly {
        return vec![mount("", &format!("/{files}"), "rootfs", &["bind".into()])];
    }
    let overlay = [
        format!("lowerdir=/{files}"),
        format!("upperdir=/{path}/tmp/upper"),
        format!("workdir=/{path}/tmp/work"),
    ];
    vec![
        mount("tmpfs", "tmpfs", "tmp", &[]),
        mount("", "", "tmp", &["remount".into(), "private".into()]),
        mount("overlay", "overlay", "rootfs", &overlay),
    ]
}

impl Bundle {
    /// The directories it has besides the root's contents, in the order they
    /// are made.
    pub(crate) fn dirs(&self) -> Vec<&'static str> {
        match (self.config.root.readonly, self.unpacks) {
            (true, _) => vec!["rootfs"],
            (false, true) => vec!["lower", "tmp", "rootfs"],
            (false, false) => vec!["tmp", "rootfs"],
        }
    }
}

impl VolumeDirs {
    pub(crate) fn dirs(&self) -> Vec<&'static str> {
        if self.readonly { vec!["lower", "merged"] } else { vec!["lower", "tmp", "merged"] }
    }
}

impl Plan {
    /// Every directory above the files of images, parents first; parents are
    /// named again for each of their children.
    pub fn dirs(&self) -> Vec<String> {
        let volumes = self.volumes.iter().map(|v| (&v.path, v.dirs()));
        let bundles = self.bundles.iter().map(|b| (&b.path, b.dirs()));
        let mut all = Vec::new();
        for (path, dirs) in volumes.chain(bundles) {
            let section = path.rsplit_once('/').map_or("", |(section, _)| section);
            all.extend([section.to_owned(), path.clone()]);
            all.extend(dirs.iter().map(|dir| format!("{path}/{dir}")));
        }
        all
    }

    /// Every file by its path, and under `dirs` the directories.
    pub fn to_json(&self) -> Result<Value> {
        let mut all = Map::new();
        for bundle in &self.bundles {
            all.insert(format!("{}/config.json", bundle.path), serde_json::to_value(&bundle.config)?);
            all.insert(format!("{}/runtime.json", bundle.path), serde_json::to_value(&bundle.runtime)?);
        }
        all.insert("dirs".into(), json!(self.dirs()));
        Ok(Value::Object(all))
    }
}
