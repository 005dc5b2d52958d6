// SPDX-License-Identifier: Apache-2.0
//! `config.json` (OCI runtime specification 1.2, config.md and config-linux.md)
//! and LinuxKit's `runtime.json`, as far as a LinuxKit YAML can fill them. What
//! is empty is left out where the specification's own Go types leave it out.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the specification LinuxKit declares.
pub const OCI_VERSION: &str = "1.2.1";

/// `config.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "config.md")]
pub struct Spec {
    pub oci_version: &'static str,
    pub process: Process,
    pub root: Root,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    pub mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub linux: Linux,
}

/// The program to run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "config.md, process")]
pub struct Process {
    pub user: User,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    pub cwd: String,
    pub capabilities: Capabilities,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

/// Whom it runs as.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "config.md, process.user")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// Its capability sets (capabilities(7)).
#[derive(Debug, Default, Serialize)]
#[expect(missing_docs, reason = "capabilities(7)")]
pub struct Capabilities {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// A resource limit (getrlimit(2)).
#[derive(Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "config.md, process.rlimits")]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    pub hard: u64,
    pub soft: u64,
}

/// The root file system.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "config.md, root")]
pub struct Root {
    pub path: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// A mount. In a YAML's `mounts` the type can be left out where source or
/// destination tell it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "config.md, mounts")]
pub struct Mount {
    pub destination: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    #[serde(rename = "uidMappings", alias = "uidmappings", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(rename = "gidMappings", alias = "gidmappings", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// A range of ids inside and outside a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "config-linux.md, user namespace mappings")]
pub struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: u32,
    #[serde(rename = "hostID")]
    pub host_id: u32,
    pub size: u32,
}

/// What only Linux has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "config-linux.md")]
pub struct Linux {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    pub resources: Resources,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroups_path: String,
    pub namespaces: Vec<Namespace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rootfs_propagation: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
}

/// A namespace to be in: a new one, or that of a path.
#[derive(Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "config-linux.md, namespaces")]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// A device node to make.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "config-linux.md, devices")]
pub struct Device {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub major: i64,
    pub minor: i64,
    pub file_mode: u32,
}

/// A struct of optional values, written and read by the same names.
macro_rules! optional {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase", default)]
        #[expect(missing_docs, reason = "config-linux.md, control groups")]
        pub struct $name {
            $($(#[$attr])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$kind>,)*
        }
    };
}

optional! {
    /// Limits, carried out by control groups. Unlike LinuxKit, whose YAML reader
    /// drops some of these keys, all of them are passed on.
    Resources {
        devices: Vec<DeviceCgroup>,
        memory: Memory,
        cpu: Cpu,
        pids: Pids,
        #[serde(rename = "blockIO", alias = "blockio")] block_io: BlockIo,
        hugepage_limits: Vec<HugepageLimit>,
        network: Network,
    }
}
optional! {
    /// Memory limits, in bytes.
    Memory {
        limit: i64,
        reservation: i64,
        swap: i64,
        kernel: i64,
        #[serde(rename = "kernelTCP")] kernel_tcp: i64,
        swappiness: u64,
        #[serde(rename = "disableOOMKiller")] disable_oom_killer: bool,
    }
}
optional! {
    /// Processor time, in microseconds where it is a time.
    Cpu {
        shares: u64,
        quota: i64,
        period: u64,
        realtime_runtime: i64,
        realtime_period: u64,
        cpus: String,
        mems: String,
    }
}
optional! {
    /// How many processes.
    Pids { limit: i64, }
}
optional! {
    /// Block devices.
    BlockIo {
        weight: u16,
        leaf_weight: u16,
        weight_device: Vec<WeightDevice>,
        throttle_read_bps_device: Vec<ThrottleDevice>,
        throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice")] throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice")] throttle_write_iops_device: Vec<ThrottleDevice>,
    }
}
optional! {
    /// The share of one block device.
    WeightDevice { major: i64, minor: i64, weight: u16, leaf_weight: u16, }
}
optional! {
    /// The limit of one block device, in bytes or operations a second.
    ThrottleDevice { major: i64, minor: i64, rate: u64, }
}
optional! {
    /// How much of one size of huge pages, in bytes.
    HugepageLimit { page_size: String, limit: u64, }
}
optional! {
    /// Network priorities.
    Network { #[serde(rename = "classID")] class_id: u32, priorities: Vec<Priority>, }
}
optional! {
    /// The priority of one network interface.
    Priority { name: String, priority: u32, }
}

/// A rule of the device control group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "config-linux.md, allowed device list")]
pub struct DeviceCgroup {
    pub allow: bool,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access: String,
}

/// `runtime.json`: what LinuxKit's init does before it starts the container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Control groups to make.
    pub cgroups: Vec<String>,
    /// Mounts to make outside the container, its root first.
    pub mounts: Vec<Mount>,
    /// Directories to make outside the container.
    pub mkdir: Vec<String>,
    /// Network interfaces to make or to move in.
    pub interfaces: Vec<Interface>,
    /// Where to keep the container's namespaces; empty: nowhere.
    #[serde(rename = "bindNS")]
    pub bind_ns: BTreeMap<&'static str, String>,
    /// The containerd namespace of a service; empty: the usual one.
    pub namespace: String,
}

/// A network interface of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Interface {
    /// Its name inside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The kind of link to make; empty moves an existing one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub add: String,
    /// The other end of a veth, which stays outside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Make it outside, then move it in.
    pub create_in_root: bool,
}
