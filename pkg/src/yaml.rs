// SPDX-License-Identifier: Apache-2.0
//! An image as its author writes it: LinuxKit's YAML (LinuxKit, docs/yaml.md).
//! A key that is not known is an error, as it is there.
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::{self, DeserializeOwned, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::bundle::spec::{IdMapping, Interface, Mount, Resources};
use crate::oci;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the machine boots.
    pub kernel: Kernel,
    /// Images unpacked over one another into the root.
    pub init: Vec<String>,
    /// Containers run one after the other at boot.
    pub onboot: Vec<Container>,
    /// Containers run one after the other at shutdown.
    pub onshutdown: Vec<Container>,
    /// Containers that stay.
    pub services: Vec<Container>,
    /// Directories that containers can share.
    pub volumes: Vec<Volume>,
    /// Files added to the root at the end.
    pub files: Vec<FileEntry>,
}

/// The `kernel` section.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// The image; empty when nothing is to boot.
    pub image: String,
    /// The kernel command line.
    pub cmdline: String,
    /// The kernel's file name in the image, `kernel` by default.
    pub binary: Option<String>,
    /// The tar unpacked into the root, `kernel.tar` by default; `none` or an
    /// empty name for none.
    pub tar: Option<String>,
    /// A cpio of processor microcode to put before the initrd.
    pub ucode: Option<String>,
}

/// An entry of `volumes`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// Its name, the source of binds.
    pub name: String,
    /// The image it starts as; empty for an empty directory.
    pub image: String,
    /// Whether nobody may write to it.
    pub readonly: bool,
    /// How the image is laid down: `filesystem`, or empty for the same.
    pub format: String,
    /// For the format `oci`: what to include.
    pub platforms: Vec<String>,
}

/// An entry of `files`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileEntry {
    /// Where it goes.
    pub path: String,
    /// Make a directory.
    pub directory: bool,
    /// Make a symbolic link to this.
    pub symlink: String,
    /// The text.
    pub contents: Option<String>,
    /// A file on the author's disk; `~/` is their home.
    pub source: String,
    /// `yaml` or `json`: this configuration itself.
    pub metadata: String,
    /// Leave it out when `source` cannot be read.
    pub optional: bool,
    /// Octal permissions; by default 0600, for a directory 0700.
    pub mode: String,
    /// Owner.
    pub uid: Option<Id>,
    /// Group.
    pub gid: Option<Id>,
}

/// A user or group: a number, or the name of a container for the number that
/// is allotted to it.
#[derive(Clone, Debug)]
pub enum Id {
    /// The number itself.
    Number(u32),
    /// The name of a container; `root` or nothing is 0.
    Name(String),
}

/// By hand, for an untagged enum would lose the place of a fault.
impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or the name of a container")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                let invalid = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
                u32::try_from(number).map(Id::Number).map_err(invalid)
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Id, E> {
                Ok(Id::Name(name.into()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// A container, as an entry of `onboot`, `onshutdown` or `services`; without
/// name and image also the text of an image's label.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the keys are those of LinuxKit's docs/yaml.md")]
pub struct Container {
    pub name: String,
    pub image: String,
    pub capabilities: Option<Vec<String>>,
    #[serde(rename = "capabilities.add")]
    pub capabilities_add: Option<Vec<String>>,
    pub ambient: Option<Vec<String>>,
    pub mounts: Option<Vec<Mount>>,
    pub binds: Option<Vec<String>>,
    #[serde(rename = "binds.add")]
    pub binds_add: Option<Vec<String>>,
    pub tmpfs: Option<Vec<String>>,
    pub devices: Option<Vec<Device>>,
    pub command: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    pub cwd: Option<String>,
    pub net: Option<String>,
    pub pid: Option<String>,
    pub ipc: Option<String>,
    pub uts: Option<String>,
    pub userns: Option<String>,
    pub hostname: Option<String>,
    pub readonly: Option<bool>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub uid: Option<Id>,
    pub gid: Option<Id>,
    pub additional_gids: Option<Vec<Id>>,
    pub no_new_privileges: Option<bool>,
    pub oom_score_adj: Option<i32>,
    pub rootfs_propagation: Option<String>,
    pub cgroups_path: Option<String>,
    pub resources: Option<Resources>,
    pub sysctl: Option<BTreeMap<String, String>>,
    pub rlimits: Option<Vec<String>>,
    pub uid_mappings: Option<Vec<IdMapping>>,
    pub gid_mappings: Option<Vec<IdMapping>>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub runtime: Option<Runtime>,
}

/// A device node to make in a container and to allow there; the path `all`
/// allows every device of the type and makes none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// Where, or `all`.
    pub path: String,
    /// `c`, `b`, or `a` for both.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Octal permissions.
    pub mode: String,
}

/// What is done before a container starts (see [`crate::bundle::spec::Runtime`]).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the keys are those of LinuxKit's docs/yaml.md")]
pub struct Runtime {
    pub cgroups: Option<Vec<String>>,
    pub mounts: Option<Vec<Mount>>,
    pub mkdir: Option<Vec<String>>,
    pub interfaces: Option<Vec<Interface>>,
    #[serde(rename = "bindNS")]
    pub bind_ns: BindNs,
    pub namespace: Option<String>,
}

/// A path for each kind of namespace (namespaces(7)).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the names of /proc/PID/ns")]
pub struct BindNs {
    pub cgroup: Option<String>,
    pub ipc: Option<String>,
    pub mnt: Option<String>,
    pub net: Option<String>,
    pub pid: Option<String>,
    pub user: Option<String>,
    pub uts: Option<String>,
}

/// A configuration and the text it was read from.
pub struct Source {
    /// What it says.
    pub config: Config,
    text: String,
}

impl Source {
    /// Reads the file at `path`. An error is one line: the file, the place in
    /// it, and what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || Self::parse(std::fs::read_to_string(path)?);
        read().with_context(|| path.display().to_string())
    }

    /// Reads `text`.
    pub fn parse(text: String) -> Result<Self> {
        let config: Config = from_str(&text)?;
        check(&config)?;
        Ok(Self { config, text })
    }

    /// The configuration with every image's reference in full, as `yaml` or
    /// `json`, for a file in the image.
    pub fn metadata(&self, format: &str) -> Result<String> {
        use serde_yaml::Value;
        fn expand(value: Option<&mut Value>) {
            if let Some(Value::String(reference)) = value {
                *reference = oci::normalize(reference);
            }
        }
        let mut all: Value = serde_yaml::from_str(&self.text)?;
        expand(all.get_mut("kernel").and_then(|k| k.get_mut("image")));
        for section in ["init", "onboot", "onshutdown", "services", "volumes"] {
            let entries = all.get_mut(section).and_then(Value::as_sequence_mut);
            for entry in entries.into_iter().flatten() {
                match entry {
                    Value::String(_) => expand(Some(entry)),
                    _ => expand(entry.get_mut("image")),
                }
            }
        }
        match format {
            "yaml" => Ok(serde_yaml::to_string(&all)?),
            "json" => Ok(serde_json::to_string_pretty(&all)?),
            other => bail!("metadata is yaml or json, not {other:?}"),
        }
    }
}

/// The defaults an image brings in its label.
pub fn label(text: &str) -> Result<Container> {
    let label: Container = from_str(text)?;
    ensure!(label.name.is_empty() && label.image.is_empty(), "name and image cannot be set here");
    Ok(label)
}

/// Values merged in by `<<` are resolved on the untyped tree, which has no
/// places any more; so only a text that uses them goes that way.
fn from_str<T: DeserializeOwned + Default>(text: &str) -> Result<T> {
    let parsed = if text.contains("<<:") {
        let mut value: serde_yaml::Value = serde_yaml::from_str(text).map_err(one_line)?;
        value.apply_merge().map_err(one_line)?;
        serde_yaml::from_value::<Option<T>>(value)
    } else {
        serde_yaml::from_str::<Option<T>>(text)
    };
    Ok(parsed.map_err(one_line)?.unwrap_or_default())
}

/// The fault on one line, with its place: the library leaves line 1 column 1
/// out.
fn one_line(error: serde_yaml::Error) -> anyhow::Error {
    let text = error.to_string().replace('\n', " ");
    match error.location() {
        Some(at) if !text.contains(" line ") => {
            anyhow!("{text} at line {} column {}", at.line(), at.column())
        }
        _ => anyhow!("{text}"),
    }
}

/// What can be wrong in a well-formed file.
fn check(config: &Config) -> Result<()> {
    let named = |place: String, image: &str| {
        ensure!(!image.starts_with('@'), "{place}: {image}: templates are not supported, name the image");
        Ok(())
    };
    named("kernel".into(), &config.kernel.image)?;
    config.init.iter().enumerate().try_for_each(|(i, image)| named(format!("init[{i}]"), image))?;
    for (section, index, container) in config.containers() {
        let place = format!("{section}[{index}]");
        ensure!(!container.name.is_empty(), "{place}: no name");
        ensure!(!container.name.contains('/'), "{place}: name {:?} contains /", container.name);
        ensure!(!matches!(container.name.as_str(), "." | ".."), "{place}: {:?} is no name", container.name);
        ensure!(!container.image.is_empty(), "{place} {}: no image", container.name);
        named(place, &container.image)?;
    }
    let mut names = HashSet::new();
    for service in &config.services {
        ensure!(names.insert(&service.name), "services: two are called {}", service.name);
    }
    let mut names = HashSet::new();
    for (index, volume) in config.volumes.iter().enumerate() {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        let name = &volume.name;
        ensure!(!name.is_empty() && name.chars().all(valid), "volumes[{index}]: bad name {name:?}");
        ensure!(names.insert(name), "volumes[{index}]: a second {name}");
        ensure!(
            matches!(volume.format.as_str(), "" | "filesystem"),
            "volumes[{index}]: format {:?} is not supported",
            volume.format
        );
    }
    Ok(())
}

impl Config {
    /// Every container with its section and its index there, in boot order.
    pub fn containers(&self) -> impl Iterator<Item = (&'static str, usize, &Container)> {
        [("onboot", &self.onboot), ("onshutdown", &self.onshutdown), ("services", &self.services)]
            .into_iter()
            .flat_map(|(section, list)| list.iter().enumerate().map(move |(i, c)| (section, i, c)))
    }
}
