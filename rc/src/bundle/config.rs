// SPDX-License-Identifier: Apache-2.0
//! The part of `config.json` (OCI runtime specification) that rc itself
//! reads. The rest is the runtime's business and goes to it as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// What rc reads of `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `ociVersion`; empty if absent.
    pub oci_version: String,
    /// `process.args`: the command, for messages. Empty if absent.
    pub args: Vec<String>,
    /// `process.terminal`.
    pub terminal: bool,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `annotations`, those that are text.
    pub annotations: BTreeMap<String, String>,
    /// `linux.namespaces`.
    pub namespaces: Vec<Namespace>,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<String>,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Namespace {
    /// `network`, `pid`, `mount`, … as the OCI specification calls them.
    #[serde(rename = "type")]
    pub kind: String,
    /// The namespace to join instead of a new one.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// `config.json` as it is on disk: each level may be absent or `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    oci_version: Option<String>,
    pub(super) root: Option<Root>,
    process: Option<Process>,
    hostname: Option<String>,
    annotations: Option<BTreeMap<String, Value>>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
pub(super) struct Root {
    pub(super) path: PathBuf,
}

#[derive(Deserialize)]
struct Process {
    args: Option<Vec<String>>,
    terminal: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Option<Vec<Namespace>>,
    cgroups_path: Option<String>,
}

impl Document {
    /// What rc needs, and a warning for each annotation that is no text.
    pub(super) fn config(self) -> (Config, Vec<String>) {
        let mut warnings = Vec::new();
        let mut annotations = BTreeMap::new();
        for (key, value) in self.annotations.unwrap_or_default() {
            match value {
                Value::String(text) => drop(annotations.insert(key, text)),
                other => {
                    warnings.push(format!("annotation {key}: {other} is no text, so it is not used"));
                }
            }
        }
        let (args, terminal) = self.process.map_or_else(Default::default, |it| (it.args, it.terminal));
        let (namespaces, cgroups_path) =
            self.linux.map_or_else(Default::default, |it| (it.namespaces, it.cgroups_path));
        let config = Config {
            oci_version: self.oci_version.unwrap_or_default(),
            args: args.unwrap_or_default(),
            terminal: terminal.unwrap_or_default(),
            hostname: self.hostname,
            annotations,
            namespaces: namespaces.unwrap_or_default(),
            cgroups_path,
        };
        (config, warnings)
    }
}
