// SPDX-License-Identifier: Apache-2.0
//! `runtime.json`: what LinuxKit wants done around a container that the OCI
//! runtime knows nothing about. `linuxkit build` writes it from the YAML's
//! `runtime:` section.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};

/// The keys of `runtime.json`, in the order they are acted upon. All are
/// optional and `null` is the same as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Runtime {
    /// Mounts made before the container is.
    #[serde(deserialize_with = "or_default")]
    pub mounts: Vec<MountEntry>,
    /// Directories made before the container is; a relative one inside `rootfs`.
    #[serde(deserialize_with = "or_default")]
    pub mkdir: Vec<PathBuf>,
    /// Control groups made before the container is, relative to `/sys/fs/cgroup`.
    #[serde(deserialize_with = "or_default")]
    pub cgroups: Vec<PathBuf>,
    /// Network interfaces the container gets when it exists and has not started.
    #[serde(deserialize_with = "or_default")]
    pub interfaces: Vec<Interface>,
    /// Where the container's namespaces are bound, so that they outlive it.
    #[serde(rename = "bindNS", deserialize_with = "or_default")]
    pub bind_ns: BindNs,
    /// The containerd namespace, if not the stage's own. `linuxkit build`
    /// writes an empty string for "none".
    #[serde(deserialize_with = "or_none")]
    pub namespace: Option<String>,
}

/// One element of `mounts`: the words of an fstab(5) line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MountEntry {
    /// A device, a directory to bind, or any word for filesystems without a source.
    #[serde(deserialize_with = "or_default")]
    pub source: String,
    /// Where; relative to the container's `rootfs` if it does not begin with `/`.
    #[serde(deserialize_with = "or_default")]
    pub destination: PathBuf,
    /// Filesystem type; empty for bind and remount.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub fstype: String,
    /// Option words.
    #[serde(deserialize_with = "or_default")]
    pub options: Vec<String>,
}

/// One element of `interfaces`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Interface {
    /// Its name inside the container.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The kind of link to make (`ip link add type KIND`); without it an
    /// existing link of that name moves in.
    #[serde(deserialize_with = "or_none")]
    pub add: Option<String>,
    /// The name of a veth pair's other end, which stays in the root namespace.
    #[serde(deserialize_with = "or_none")]
    pub peer: Option<String>,
    /// Make the link in the root namespace and move it, for links that keep
    /// a foot in the namespace they were born in (wireguard).
    #[serde(deserialize_with = "or_default")]
    pub create_in_root: bool,
}

/// `bindNS`: a path for each kind of namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct BindNs {
    #[serde(deserialize_with = "or_none")]
    pub cgroup: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub ipc: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub mnt: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub net: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub pid: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub user: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub uts: Option<String>,
}

impl BindNs {
    /// The namespaces to bind: the name each has in `/proc/PID/ns`, and where.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [
            ("cgroup", &self.cgroup),
            ("ipc", &self.ipc),
            ("mnt", &self.mnt),
            ("net", &self.net),
            ("pid", &self.pid),
            ("user", &self.user),
            ("uts", &self.uts),
        ]
        .into_iter()
        .filter_map(|(name, path)| Some((name, Path::new(path.as_deref()?))))
    }
}

impl Runtime {
    /// What is well formed and yet cannot be done, if anything: the key and why.
    pub(super) fn problem(&self) -> Option<String> {
        let mounts = self.mounts.iter().enumerate().find_map(|(index, mount)| {
            let empty = mount.destination.as_os_str().is_empty();
            empty.then(|| format!("mounts[{index}]: a destination is required"))
        });
        let mkdir = self.mkdir.iter().position(|path| path.as_os_str().is_empty());
        let mkdir = mkdir.map(|index| format!("mkdir[{index}]: the path is empty"));
        let cgroups = self.cgroups.iter().enumerate().find_map(|(index, path)| {
            let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir | Component::CurDir);
            let inside = path.components().all(plain)
                && path.components().any(|part| matches!(part, Component::Normal(_)));
            (!inside).then(|| {
                format!("cgroups[{index}]: {:?} is no path below /sys/fs/cgroup", path.display().to_string())
            })
        });
        let interfaces = (0..self.interfaces.len()).find_map(|index| self.interface_problem(index));
        let relative = self.bind_ns.paths().find(|(_, path)| !path.is_absolute());
        let relative = relative.map(|(name, path)| {
            format!("bindNS.{name}: {:?} is no absolute path", path.display().to_string())
        });
        let namespace = self.namespace.as_deref().filter(|name| !super::is_id(name));
        let namespace = namespace.map(|name| {
            format!("namespace: {name:?} is no namespace of containerd's (letters and digits with single '.', '_' or '-' between, at most 76)")
        });
        mounts.or(mkdir).or(cgroups).or(interfaces).or(relative).or(namespace)
    }

    /// The same for one interface.
    fn interface_problem(&self, index: usize) -> Option<String> {
        let (before, interface) = (self.interfaces.get(..index)?, self.interfaces.get(index)?);
        let at = |key: &str, why: String| Some(format!("interfaces[{index}].{key}: {why}"));
        if let Some(why) = name_problem(&interface.name) {
            return at("name", why);
        }
        if before.iter().any(|other| other.name == interface.name) {
            return at("name", format!("{:?} is there twice", interface.name));
        }
        let Some(peer) = &interface.peer else {
            // The kernel would make up a name for the other end, and leave it inside.
            let lonely = interface.add.as_deref() == Some("veth");
            return lonely
                .then(|| at("peer", "a veth pair needs a name for its other end".to_owned()))
                .flatten();
        };
        if let Some(why) = name_problem(peer) {
            return at("peer", why);
        }
        let taken = before.iter().any(|other| other.peer.as_ref() == Some(peer));
        taken.then(|| at("peer", format!("{peer:?} is there twice"))).flatten()
    }

    /// Keys that contradict each other, and which one counts.
    pub(super) fn warnings(&self) -> Vec<String> {
        let odd = self.interfaces.iter().enumerate().filter_map(|(index, interface)| {
            let kind = interface.add.as_deref().filter(|kind| interface.peer.is_some() && *kind != "veth")?;
            Some(format!("interfaces[{index}].add: {kind:?} is ignored, because peer means a veth pair"))
        });
        odd.collect()
    }
}

/// The kernel's own rule for names of network devices (`dev_valid_name`).
fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a name is required".to_owned());
    }
    let odd = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0;
    let bad = name.len() > 15 || name == "." || name == ".." || name.bytes().any(odd);
    bad.then(|| format!("{name:?} is no name for an interface (at most 15 bytes, no space, slash or colon)"))
}

/// `null` is the type's default.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// `null` and the empty string are "none".
fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// The keys of an object that this version knows: (path pattern, keys). An
/// element of an array is `[]` in the pattern.
const KNOWN: &[(&str, &[&str])] = &[
    ("", &["cgroups", "mounts", "mkdir", "interfaces", "bindNS", "namespace"]),
    ("mounts[].", &["source", "destination", "type", "options"]),
    ("interfaces[].", &["name", "add", "peer", "createInRoot"]),
    ("bindNS.", &["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]),
];

/// The keys nobody reads, by their full path: a misspelt key would otherwise
/// be silence.
pub(super) fn unknown_keys(value: &serde_json::Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, "", "", &mut found);
    // An object's order is whatever serde_json was built to keep.
    found.sort_unstable();
    found
}

fn walk(value: &serde_json::Value, path: &str, pattern: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            let Some((_, keys)) = KNOWN.iter().find(|(known, _)| *known == pattern) else { return };
            for (key, value) in map {
                if keys.contains(&key.as_str()) {
                    let dot = if value.is_object() { "." } else { "" };
                    walk(value, &format!("{path}{key}{dot}"), &format!("{pattern}{key}{dot}"), found);
                } else {
                    found.push(format!("{path}{key}"));
                }
            }
        }
        serde_json::Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(value, &format!("{path}[{index}]."), &format!("{pattern}[]."), found);
            }
        }
        _ => {}
    }
}
