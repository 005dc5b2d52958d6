// SPDX-License-Identifier: Apache-2.0
//! One container: its YAML entry over its image's label over the image's
//! configuration makes `config.json`.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use super::spec::*;
use crate::oci::{DEFAULTS_LABEL, ImageConfig};
use crate::yaml::{self, Container, Device as YamlDevice, Id};

/// The numbers allotted to containers, by name.
pub type Ids = BTreeMap<String, u32>;

/// In the order of their numbers (linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The limits of getrlimit(2), without `RLIMIT_`.
const RLIMITS: [&str; 16] = [
    "AS",
    "CORE",
    "CPU",
    "DATA",
    "FSIZE",
    "LOCKS",
    "MEMLOCK",
    "MSGQUEUE",
    "NICE",
    "NOFILE",
    "NPROC",
    "RSS",
    "RTPRIO",
    "RTTIME",
    "SIGPENDING",
    "STACK",
];

/// The container as its author and its image together want it.
pub fn with_defaults(entry: &Container, image: &ImageConfig) -> Result<Container> {
    let label = match image.labels.get(DEFAULTS_LABEL) {
        Some(text) if !text.is_empty() => {
            yaml::label(text).with_context(|| format!("label {DEFAULTS_LABEL} of {}", entry.image))?
        }
        _ => Container::default(),
    };
    Ok(entry.clone().over(label))
}

impl Container {
    /// This entry where it says something, `label` where it does not. `binds`
    /// and `capabilities` replace the label's; `binds.add` and
    /// `capabilities.add` come after them.
    fn over(self, label: Self) -> Self {
        let said = |ours: Option<String>, theirs: Option<String>| {
            ours.filter(|s| !s.is_empty()).or(theirs).filter(|s| !s.is_empty())
        };
        let added = |theirs: Option<Vec<String>>, more: Option<Vec<String>>| match (theirs, more) {
            (None, more) => more,
            (theirs, None) => theirs,
            (Some(theirs), Some(more)) => Some([theirs, more].concat()),
        };
        Self {
            name: self.name,
            image: self.image,
            capabilities: self.capabilities.or(added(label.capabilities, self.capabilities_add)),
            capabilities_add: None,
            ambient: self.ambient.or(label.ambient),
            mounts: self.mounts.or(label.mounts),
            binds: self.binds.or(added(label.binds, self.binds_add)),
            binds_add: None,
            tmpfs: self.tmpfs.or(label.tmpfs),
            devices: self.devices.or(label.devices),
            command: self.command.or(label.command),
            env: self.env.or(label.env),
            cwd: said(self.cwd, label.cwd),
            net: said(self.net, label.net),
            pid: said(self.pid, label.pid),
            ipc: said(self.ipc, label.ipc),
            uts: said(self.uts, label.uts),
            userns: said(self.userns, label.userns),
            hostname: said(self.hostname, label.hostname),
            readonly: self.readonly.or(label.readonly),
            masked_paths: self.masked_paths.or(label.masked_paths),
            readonly_paths: self.readonly_paths.or(label.readonly_paths),
            uid: self.uid.or(label.uid),
            gid: self.gid.or(label.gid),
            additional_gids: self.additional_gids.or(label.additional_gids),
            no_new_privileges: self.no_new_privileges.or(label.no_new_privileges),
            oom_score_adj: self.oom_score_adj.or(label.oom_score_adj),
            rootfs_propagation: self.rootfs_propagation.or(label.rootfs_propagation),
            cgroups_path: self.cgroups_path.or(label.cgroups_path),
            resources: self.resources.or(label.resources),
            sysctl: self.sysctl.or(label.sysctl),
            rlimits: self.rlimits.or(label.rlimits),
            uid_mappings: self.uid_mappings.or(label.uid_mappings),
            gid_mappings: self.gid_mappings.or(label.gid_mappings),
            annotations: self.annotations.or(label.annotations),
            runtime: match (self.runtime, label.runtime) {
                (Some(ours), Some(theirs)) => Some(ours.over(theirs)),
                (ours, theirs) => ours.or(theirs),
            },
        }
    }
}

impl yaml::Runtime {
    fn over(self, label: Self) -> Self {
        Self {
            cgroups: self.cgroups.or(label.cgroups),
            mounts: self.mounts.or(label.mounts),
            mkdir: self.mkdir.or(label.mkdir),
            interfaces: self.interfaces.or(label.interfaces),
            bind_ns: yaml::BindNs {
                cgroup: self.bind_ns.cgroup.or(label.bind_ns.cgroup),
                ipc: self.bind_ns.ipc.or(label.bind_ns.ipc),
                mnt: self.bind_ns.mnt.or(label.bind_ns.mnt),
                net: self.bind_ns.net.or(label.bind_ns.net),
                pid: self.bind_ns.pid.or(label.bind_ns.pid),
                user: self.bind_ns.user.or(label.bind_ns.user),
                uts: self.bind_ns.uts.or(label.bind_ns.uts),
            },
            namespace: self.namespace.or(label.namespace),
        }
    }
}

/// `config.json` of a container that has its defaults already.
pub fn spec(container: &Container, image: &ImageConfig, mounts: Vec<Mount>, ids: &Ids) -> Result<Spec> {
    let c = container.clone();
    let namespaces = namespaces(&c);
    let capabilities = capabilities(c.capabilities.unwrap_or_default(), c.ambient.unwrap_or_default())?;
    let (devices, allowed) = devices(&c.devices.unwrap_or_default())?;
    let mut resources = c.resources.unwrap_or_default();
    if !allowed.is_empty() {
        resources.devices.get_or_insert_default().extend(allowed);
    }
    let image_cwd = Some(image.working_dir.clone()).filter(|dir| !dir.is_empty());
    Ok(Spec {
        oci_version: OCI_VERSION,
        process: Process {
            user: User {
                uid: numeric(c.uid.as_ref(), ids).context("uid")?,
                gid: numeric(c.gid.as_ref(), ids).context("gid")?,
                additional_gids: (c.additional_gids.iter().flatten())
                    .map(|id| numeric(Some(id), ids))
                    .collect::<Result<_>>()
                    .context("additionalGids")?,
            },
            args: c.command.unwrap_or_else(|| [image.entrypoint.clone(), image.cmd.clone()].concat()),
            env: c.env.unwrap_or_else(|| image.env.clone()),
            cwd: c.cwd.or(image_cwd).unwrap_or_else(|| "/".into()),
            capabilities,
            rlimits: c.rlimits.iter().flatten().map(|text| rlimit(text)).collect::<Result<_>>()?,
            no_new_privileges: c.no_new_privileges.unwrap_or_default(),
            oom_score_adj: c.oom_score_adj,
        },
        root: Root { path: "rootfs", readonly: c.readonly.unwrap_or_default() },
        hostname: c.hostname.unwrap_or_default(),
        mounts,
        annotations: c.annotations.unwrap_or_default(),
        linux: Linux {
            uid_mappings: c.uid_mappings.unwrap_or_default(),
            gid_mappings: c.gid_mappings.unwrap_or_default(),
            sysctl: c.sysctl.unwrap_or_default(),
            resources,
            cgroups_path: c.cgroups_path.unwrap_or_default(),
            namespaces,
            devices,
            rootfs_propagation: c.rootfs_propagation.unwrap_or_default(),
            masked_paths: c.masked_paths.unwrap_or_default(),
            readonly_paths: c.readonly_paths.unwrap_or_default(),
        },
    })
}

/// `runtime.json`, the mounts of its root first.
pub fn runtime(container: &Container, root: Vec<Mount>) -> Runtime {
    let r = container.runtime.clone().unwrap_or_default();
    let ns = r.bind_ns;
    let bind_ns = [
        ("cgroup", ns.cgroup),
        ("ipc", ns.ipc),
        ("mnt", ns.mnt),
        ("net", ns.net),
        ("pid", ns.pid),
        ("user", ns.user),
        ("uts", ns.uts),
    ];
    Runtime {
        cgroups: r.cgroups.unwrap_or_default(),
        mounts: [root, r.mounts.unwrap_or_default()].concat(),
        mkdir: r.mkdir.unwrap_or_default(),
        interfaces: r.interfaces.unwrap_or_default(),
        bind_ns: bind_ns.map(|(kind, path)| (kind, path.unwrap_or_default())).into(),
        namespace: r.namespace.unwrap_or_default(),
    }
}

/// The number `id` stands for.
pub fn numeric(id: Option<&Id>, ids: &Ids) -> Result<u32> {
    match id {
        None => Ok(0),
        Some(Id::Number(number)) => Ok(*number),
        Some(Id::Name(name)) if name.is_empty() || name == "root" => Ok(0),
        Some(Id::Name(name)) => {
            ids.get(name).copied().with_context(|| format!("no container is called {name:?}"))
        }
    }
}

/// Network, IPC and UTS are the host's unless asked for; a PID namespace is new
/// unless the host's is asked for; a mount namespace is always new.
fn namespaces(c: &Container) -> Vec<Namespace> {
    let kinds = [
        ("network", &c.net, "host"),
        ("ipc", &c.ipc, "host"),
        ("uts", &c.uts, "host"),
        ("pid", &c.pid, "new"),
        ("user", &c.userns, "host"),
        ("mount", &None, "new"),
    ];
    kinds
        .into_iter()
        .filter_map(|(kind, asked, default)| match asked.as_deref().unwrap_or(default) {
            "host" | "root" => None,
            "new" => Some(Namespace { kind, path: String::new() }),
            "none" if kind == "network" => Some(Namespace { kind, path: String::new() }),
            path => Some(Namespace { kind, path: path.into() }),
        })
        .collect()
}

fn capabilities(effective: Vec<String>, ambient: Vec<String>) -> Result<Capabilities> {
    let expand = |names: Vec<String>| -> Result<Vec<String>> {
        match names.as_slice() {
            [one] if one.eq_ignore_ascii_case("all") => Ok(CAPABILITIES.map(String::from).to_vec()),
            [one] if one.eq_ignore_ascii_case("none") => Ok(Vec::new()),
            _ => match names.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
                Some(unknown) => bail!("unknown capability {unknown}"),
                None => Ok(names),
            },
        }
    };
    let effective = expand(effective).context("capabilities")?;
    let ambient = expand(ambient).context("ambient")?;
    // An ambient capability must be permitted and inheritable (capabilities(7)).
    let all: BTreeSet<_> = effective.iter().chain(&ambient).cloned().collect();
    let all: Vec<_> = all.into_iter().collect();
    Ok(Capabilities { bounding: all.clone(), inheritable: all.clone(), permitted: all, effective, ambient })
}

/// `name,soft,hard`.
fn rlimit(text: &str) -> Result<Rlimit> {
    let parse = || -> Option<Rlimit> {
        let mut parts = text.splitn(3, ',').map(|part| part.trim().to_ascii_uppercase());
        let (name, soft, hard) = (parts.next()?, parts.next()?, parts.next()?);
        let name = name.strip_prefix("RLIMIT_").unwrap_or(&name);
        let value = |v: String| if v == "UNLIMITED" { Some(u64::MAX) } else { v.parse().ok() };
        let known = RLIMITS.contains(&name);
        known.then_some(())?;
        Some(Rlimit { kind: format!("RLIMIT_{name}"), soft: value(soft)?, hard: value(hard)? })
    };
    parse().with_context(|| format!("rlimits: {text:?} is not name,soft,hard with a limit of getrlimit(2)"))
}

/// Device nodes to make, and rules that allow their use.
fn devices(asked: &[YamlDevice]) -> Result<(Vec<Device>, Vec<DeviceCgroup>)> {
    let (mut nodes, mut rules) = (Vec::new(), Vec::new());
    for YamlDevice { path, kind, major, minor, mode } in asked {
        let mut rule =
            DeviceCgroup { allow: true, kind: kind.clone(), access: "rwm".into(), ..DeviceCgroup::default() };
        ensure!(!path.is_empty(), "devices: a device without a path");
        if path != "all" {
            let file_mode = u32::from_str_radix(mode, 8)
                .with_context(|| format!("devices: {path}: mode {mode:?} is not an octal number"))?;
            nodes.push(Device {
                path: path.clone(),
                kind: kind.clone(),
                major: *major,
                minor: *minor,
                file_mode,
            });
            (rule.major, rule.minor) = (Some(*major), Some(*minor));
        }
        rules.push(rule);
    }
    Ok((nodes, rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_and_without_prefix() {
        let nofile = Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 100, hard: u64::MAX };
        assert_eq!(rlimit("nofile,100,unlimited").unwrap(), nofile);
        assert_eq!(rlimit(" RLIMIT_NOFILE , 100, UNLIMITED").unwrap(), nofile);
        for bad in ["nofile,100", "nofiles,1,2", "nofile,x,2", "nofile,1,2,3", ""] {
            let error = rlimit(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn all_and_none_are_words_only_when_alone() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(capabilities(list(&["ALL"]), vec![]).unwrap().bounding.len(), 41);
        assert!(capabilities(list(&["none"]), vec![]).unwrap().permitted.is_empty());
        assert!(capabilities(list(&["all", "CAP_CHOWN"]), vec![]).is_err());
        let both = capabilities(list(&["CAP_SYS_TIME"]), list(&["CAP_CHOWN"])).unwrap();
        assert_eq!(both.effective, ["CAP_SYS_TIME"]);
        assert_eq!(both.ambient, ["CAP_CHOWN"]);
        assert_eq!(both.inheritable, ["CAP_CHOWN", "CAP_SYS_TIME"]);
    }
}
