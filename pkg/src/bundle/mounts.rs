// SPDX-License-Identifier: Apache-2.0
//! The mounts inside a container: defaults, then `tmpfs`, `binds` and `mounts`,
//! each taking the place of what had its destination before.
use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::spec::Mount;
use crate::yaml::{Container, Volume};

/// Type (and source), destination, options, and whether a read-only container
/// has it read-only. `/dev/shm` and `/dev/mqueue` are not among them.
const DEFAULTS: [(&str, &str, &[&str], bool); 5] = [
    ("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"], true),
    ("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"], false),
    ("proc", "/proc", &["nosuid", "nodev", "noexec", "relatime"], false),
    ("sysfs", "/sys", &["nosuid", "noexec", "nodev"], true),
    ("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"], false),
];

/// All mounts of a container, in the order of their destinations: so a mount
/// comes before those inside it.
pub fn mounts(container: &Container, volumes: &[Volume]) -> Result<Vec<Mount>> {
    let readonly = container.readonly.unwrap_or_default();
    let mut all = BTreeMap::new();
    let mut put = |mount: Mount| all.insert(mount.destination.clone(), mount);
    for (kind, destination, options, follows_root) in DEFAULTS {
        let ro = (readonly && follows_root).then_some("ro");
        put(mount(kind, kind, destination, options.iter().copied().chain(ro)));
    }
    for text in container.tmpfs.iter().flatten() {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        ensure!(!options.contains(':'), "tmpfs {text:?}: too many colons");
        put(mount("tmpfs", "tmpfs", destination, options.split(',').filter(|o| !o.is_empty())));
    }
    for text in container.binds.iter().flatten() {
        put(bind(text, volumes)?);
    }
    for given in container.mounts.iter().flatten() {
        put(full(given, volumes)?);
    }
    Ok(all.into_values().collect())
}

fn mount<'a>(kind: &str, source: &str, destination: &str, options: impl Iterator<Item = &'a str>) -> Mount {
    Mount {
        kind: kind.into(),
        source: source.into(),
        destination: destination.into(),
        options: options.map(Into::into).collect(),
        ..Mount::default()
    }
}

/// `source:destination[:options]`.
fn bind(text: &str, volumes: &[Volume]) -> Result<Mount> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, vec!["rw", "rbind", "rshared"]),
        [source, destination, options] => {
            (source, destination, options.split(',').chain(["rbind"]).collect())
        }
        _ => bail!("binds: {text:?} is not source:destination or source:destination:options"),
    };
    let source = source_path(source, &options, volumes)?;
    Ok(mount("bind", &source, destination, options.into_iter()))
}

/// A mount in full, with what is left out filled in where it is clear.
fn full(given: &Mount, volumes: &[Volume]) -> Result<Mount> {
    let mut mount = given.clone();
    if mount.kind.is_empty() {
        mount.kind = match (mount.source.as_str(), mount.destination.as_str()) {
            ("mqueue" | "devpts" | "proc" | "sysfs" | "cgroup", _) => mount.source.clone(),
            (_, "/dev") => "tmpfs".into(),
            (_, destination) => bail!("mounts: the mount on {destination:?} has no type"),
        };
    }
    if mount.source.is_empty() {
        mount.source = mount.kind.clone();
    }
    if mount.destination.is_empty() {
        mount.destination = match mount.kind.as_str() {
            "proc" => "/proc",
            "devpts" => "/dev/pts",
            "sysfs" => "/sys",
            "cgroup" => "/sys/fs/cgroup",
            "mqueue" => "/dev/mqueue",
            kind => bail!("mounts: a mount of type {kind} has no destination"),
        }
        .into();
    }
    if mount.kind == "bind" {
        let options: Vec<_> = mount.options.iter().map(String::as_str).collect();
        mount.source = source_path(&mount.source, &options, volumes)?;
    }
    Ok(mount)
}

/// What is not a path is the name of a volume; a read-only one may only be
/// bound read-only.
fn source_path(source: &str, options: &[&str], volumes: &[Volume]) -> Result<String> {
    if source.starts_with('/') {
        return Ok(source.into());
    }
    let Some(volume) = volumes.iter().find(|v| v.name == source) else {
        bail!("{source:?} is neither a path nor a volume");
    };
    let ro = options.iter().find(|o| matches!(**o, "ro" | "rw")) == Some(&"ro");
    ensure!(ro || !volume.readonly, "the volume {source} is read-only: bind it with the option ro");
    Ok(format!("/containers/volumes/{source}/merged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(yaml: &str) -> Result<Mount> {
        let container: Container = serde_yaml::from_str(yaml).unwrap();
        let volumes = [Volume { name: "ro".into(), readonly: true, ..Volume::default() }];
        let all = mounts(&container, &volumes)?;
        let usual = DEFAULTS.map(|d| d.1);
        let Some(own) = all.iter().find(|m| !usual.contains(&m.destination.as_str())) else {
            bail!("only the usual mounts");
        };
        Ok(own.clone())
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let got = one("mounts: [{type: mqueue}]").unwrap();
        assert_eq!(got, mount("mqueue", "mqueue", "/dev/mqueue", [].into_iter()));
        let got = one("mounts: [{source: proc, destination: /x}]").unwrap();
        assert_eq!(got, mount("proc", "proc", "/x", [].into_iter()));
        let got = one("tmpfs: ['/x:size=1m,noexec']").unwrap();
        assert_eq!(got, mount("tmpfs", "tmpfs", "/x", ["size=1m", "noexec"].into_iter()));
        let got = one("binds: ['ro:/x:ro']").unwrap();
        assert_eq!(got, mount("bind", "/containers/volumes/ro/merged", "/x", ["ro", "rbind"].into_iter()));
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error() {
        for (yaml, part) in [
            ("mounts: [{source: x, destination: /x}]", "\"/x\" has no type"),
            ("mounts: [{type: tmpfs}]", "tmpfs has no destination"),
            ("binds: [/x]", "\"/x\" is not source:destination"),
            ("binds: ['/x:/y:ro:z']", "is not source:destination"),
            ("binds: ['x:/y']", "neither a path nor a volume"),
            ("binds: ['ro:/y']", "read-only"),
            ("mounts: [{type: bind, source: ro, destination: /y, options: [rw]}]", "read-only"),
            ("tmpfs: ['/x:a:b']", "too many colons"),
        ] {
            let error = one(yaml).unwrap_err().to_string();
            assert!(error.contains(part), "{yaml}: {error}");
        }
    }
}
