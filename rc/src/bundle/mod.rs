// SPDX-License-Identifier: Apache-2.0
//! Bundles: the containers `linuxkit build` puts under `/containers`, and
//! everything that is done around one before it starts. See docs/bundles.md.
//!
//! In the order of LinuxKit's contract: [`Bundle::prepare`] (mounts,
//! directories, control groups), then the engine creates the container, then
//! [`Bundle::connect`] (interfaces) and [`Bundle::bind_namespaces`], then the
//! engine starts it. All three may be repeated for a container that is
//! started again. [`Prepared::undo`] and [`Bundle::unbind_namespaces`] are for
//! a start that failed, and [`Bundle::unprepare`] for a container that is over.

mod apply;
mod config;
mod error;
mod interfaces;
mod namespaces;
mod plan;
mod runtime;
mod shape;
#[cfg(test)]
mod tests;
pub mod volumes;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use apply::Prepared;
pub use config::{Config, Namespace};
pub use error::Error;
pub use interfaces::Link;
pub use namespaces::NamespaceBind;
pub use plan::{Hierarchy, Step};
pub use runtime::{BindNs, Interface, MountEntry, Runtime};

/// When a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Once, one after the other, before the services.
    Onboot,
    /// Once, one after the other, when the machine goes down.
    Onshutdown,
    /// All the time.
    Services,
}

impl Stage {
    /// The stage's folder under `/containers`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Onboot => "onboot",
            Self::Onshutdown => "onshutdown",
            Self::Services => "services",
        }
    }
}

/// As a message names a container of the stage: `onboot 000-sysctl`, `service getty`.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Services => "service",
            other => other.folder(),
        })
    }
}

/// One container on disk: a folder with `config.json`, `runtime.json` and `rootfs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The folder's name, `000-sysctl` or `getty`: the container's id.
    pub name: String,
    /// When it runs.
    pub stage: Stage,
    /// The folder.
    pub path: PathBuf,
    /// The container's root directory, absolute.
    pub rootfs: PathBuf,
    /// What rc reads of `config.json`.
    pub config: Config,
    /// `runtime.json`; all defaults where there is none.
    pub runtime: Runtime,
    /// What was odd and did not stop the container from being read: one line
    /// each, without the container's name.
    pub warnings: Vec<String>,
    spec: serde_json::Value,
}

impl Bundle {
    /// Reads the bundle in `path`.
    ///
    /// # Errors
    /// A file that cannot be read, is no JSON of the right shape, or asks for
    /// what makes no sense. A `runtime.json` that is not there is no error.
    pub fn load(path: &Path, stage: Stage) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let container = format!("{stage} {name}");

        let file = path.join("config.json");
        let text = fs::read(&file).map_err(|source| Error::Read {
            container: container.clone(),
            file: file.clone(),
            source,
        })?;
        // Twice from the same text: a typed value knows line and column of
        // what is wrong, the untyped one keeps all that rc does not know.
        let spec: serde_json::Value = parse(&container, &file, &text)?;
        if let Some(problem) = shape::problem(&spec, shape::CONFIG) {
            return Err(Error::Invalid { container, file, problem });
        }
        let document: config::Document = parse(&container, &file, &text)?;
        let Some(root) = document.root.as_ref().filter(|root| !root.path.as_os_str().is_empty()) else {
            let problem = "root.path is missing".to_owned();
            return Err(Error::Invalid { container, file, problem });
        };
        let rootfs = path.join(&root.path);
        let (config, mut warnings) = document.config();

        let file = path.join("runtime.json");
        let runtime = match fs::read(&file) {
            Ok(text) => {
                let value: serde_json::Value = parse(&container, &file, &text)?;
                if let Some(problem) = shape::problem(&value, shape::RUNTIME) {
                    return Err(Error::Invalid { container, file, problem });
                }
                let runtime: Runtime = parse::<Option<_>>(&container, &file, &text)?.unwrap_or_default();
                let unknown = runtime::unknown_keys(&value).into_iter();
                let unknown = unknown.map(|key| format!("unknown key {key}, not used"));
                let odd = unknown.chain(runtime.warnings());
                warnings.extend(odd.map(|warning| format!("{}: {warning}", file.display())));
                runtime
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Runtime::default(),
            Err(source) => return Err(Error::Read { container, file, source }),
        };
        if let Some(problem) = runtime.problem() {
            return Err(Error::Invalid { container, file, problem });
        }
        Ok(Self { name, stage, path: path.to_owned(), rootfs, config, runtime, warnings, spec })
    }

    /// The container in a message: `onboot 000-sysctl`.
    pub fn label(&self) -> String {
        format!("{} {}", self.stage, self.name)
    }

    /// Whether all of the container's processes end with its first: it has a
    /// pid namespace of its own.
    pub fn has_own_processes(&self) -> bool {
        self.config.namespaces.iter().any(|namespace| namespace.kind == "pid" && namespace.path.is_none())
    }

    /// The OCI annotations: where lkinit's own settings of a container are.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.config.annotations
    }

    /// `config.json` as it was written, except that `root.path` is absolute:
    /// a containerd shim resolves a relative one in a folder of its own.
    pub fn spec(&self) -> serde_json::Value {
        let mut spec = self.spec.clone();
        if let Some(path) = spec.pointer_mut("/root/path") {
            *path = self.rootfs.to_string_lossy().into();
        }
        spec
    }

    /// What [`Bundle::prepare`], [`Bundle::connect`] and
    /// [`Bundle::bind_namespaces`] will do, one line each.
    pub fn describe(&self, hierarchy: &Hierarchy) -> Vec<String> {
        let steps = self.plan(hierarchy).into_iter().map(|step| step.to_string());
        let links = self.links().into_iter().map(|link| link.to_string());
        let binds = self.namespace_binds().into_iter().map(|bind| bind.to_string());
        steps.chain(["create the container".to_owned()]).chain(links).chain(binds).collect()
    }
}

fn parse<T: serde::de::DeserializeOwned>(container: &str, file: &Path, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| Error::syntax(container, file, &error))
}

/// The bundles of one stage, not yet read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Their folders, in the order of their names; each is for [`Bundle::load`].
    pub paths: Vec<PathBuf>,
    /// What is in the stage's folder and is no bundle: one line each.
    pub warnings: Vec<String>,
}

/// Lists the bundles of `stage` under `containers` (`/containers` in an
/// image). A stage without a folder has no bundles.
///
/// # Errors
/// The folder is there and cannot be read.
pub fn list(containers: &Path, stage: Stage) -> Result<Listing, Error> {
    folders(&containers.join(stage.folder()), "a bundle", |name| {
        let problem =
            "is no container id (letters and digits with single '.', '_' or '-' between, at most 76)";
        (!is_id(name)).then_some(problem)
    })
}

/// The folders in `dir` by name, without those `problem` objects to.
fn folders(dir: &Path, what: &str, problem: impl Fn(&str) -> Option<&'static str>) -> Result<Listing, Error> {
    let failed = |source| Error::List { dir: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Listing::default()),
        Err(source) => return Err(failed(source)),
    };
    let mut listing = Listing::default();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.is_dir() {
            listing.warnings.push(format!("{} is no folder, so it is not {what}: skipped", path.display()));
        } else if let Some(problem) = problem(&name) {
            listing.warnings.push(format!("{}: {name:?} {problem}: skipped", path.display()));
        } else {
            listing.paths.push(path);
        }
    }
    listing.paths.sort();
    listing.warnings.sort();
    Ok(listing)
}

/// containerd's rule for container ids (`pkg/identifiers` of containerd).
pub(crate) fn is_id(name: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 76 && name.split(['.', '_', '-']).all(word)
}
