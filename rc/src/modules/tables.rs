// SPDX-License-Identifier: Apache-2.0
//! Everything that is known of modules before one is loaded: depmod(8)'s
//! tables and the configuration, and how a name or modalias is looked up.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use init::cmdline::Cmdline;
use init::sys::module;

use super::alias::AliasTable;
use super::complaint::Complaint;
use super::config::{Config, DIRECTORIES};
use super::dep::{self, DepTable};
use super::name::{ModuleName, normalise_alias};

/// Where to look.
#[derive(Debug, Clone)]
pub struct Place {
    /// The modules' directory, `/lib/modules/$(uname -r)`.
    pub modules: PathBuf,
    /// The directories of modprobe.d(5), the first before the others.
    pub config: Vec<PathBuf>,
    /// The kernel command line.
    pub cmdline: Cmdline,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
}

impl Place {
    /// The running kernel's.
    ///
    /// # Errors
    /// That of uname(2). A command line that cannot be read counts as empty.
    pub fn running() -> io::Result<Self> {
        Ok(Self {
            modules: Path::new("/lib/modules").join(module::kernel_release()?),
            config: DIRECTORIES.iter().map(PathBuf::from).collect(),
            cmdline: Cmdline::current().unwrap_or_default(),
            sys: PathBuf::from("/sys"),
        })
    }
}

/// depmod's tables and the configuration.
#[derive(Debug, Default)]
pub(super) struct Tables {
    directory: PathBuf,
    deps: DepTable,
    aliases: AliasTable,
    builtin: HashSet<ModuleName>,
    config: Config,
    complaints: Vec<Complaint>,
}

/// What a name or modalias stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A module of exactly this name.
    Module(ModuleName),
    /// The modules with such an alias.
    ByAlias(Vec<ModuleName>),
    /// Something that is part of the kernel.
    Builtin,
    /// Nothing.
    Nothing,
}

impl Tables {
    /// Reads all of it. Whatever cannot be read is a complaint, and the rest counts.
    pub(super) fn read(place: &Place) -> Self {
        let mut complaints = Vec::new();
        let mut tables = Self { directory: place.modules.clone(), ..Self::default() };
        tables.config.read_directories(&place.config, &mut complaints);
        tables.config.read_cmdline(&place.cmdline);
        // A kernel without modules is no fault.
        if place.modules.is_dir() {
            let mut read = |file: &str, loss: Option<&str>| {
                let path = place.modules.join(file);
                let name = path.to_string_lossy().into_owned();
                match fs::read(&path) {
                    Ok(bytes) => Some((name, String::from_utf8_lossy(&bytes).into_owned())),
                    Err(error) => {
                        let missing = error.kind() == io::ErrorKind::NotFound;
                        if let Some(loss) = loss.or((!missing).then_some("it is left out")) {
                            complaints.push(Complaint::new(
                                &name,
                                0,
                                format!("cannot be read: {error}; {loss}"),
                            ));
                        }
                        None
                    }
                }
            };
            let deps = read("modules.dep", Some("no module can be loaded (depmod(8) writes it)"));
            let aliases = read("modules.alias", Some("modules are found by name only (depmod(8) writes it)"));
            let softdeps = read("modules.softdep", None);
            let builtin = read("modules.builtin", None);
            if let Some((file, text)) = deps {
                tables.deps = DepTable::parse(&file, text, &mut complaints);
            }
            if let Some((file, text)) = aliases {
                tables.aliases = AliasTable::parse(&file, &text, &mut complaints);
            }
            if let Some((file, text)) = softdeps {
                tables.config.parse_softdeps(&file, &text, &mut complaints);
            }
            if let Some((_, text)) = builtin {
                tables.builtin = dep::parse_builtin(&text);
            }
        }
        tables.complaints = complaints;
        tables
    }

    /// What was wrong with the files.
    pub(super) fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// What the configuration says.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The same, to be changed.
    pub(super) fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// The modules' directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of a module, and the modules it needs in the order of loading.
    pub(super) fn module(&self, name: &ModuleName) -> Option<(PathBuf, Vec<ModuleName>)> {
        let dep = self.deps.get(name.as_str())?;
        Some((dep.path(&self.directory), dep.needs().collect()))
    }

    /// Whether the module is part of the kernel.
    pub(super) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    /// Looks up a module's name or an alias, in the order of modprobe:
    /// configured aliases, modules, symbols, aliases inside modules, built-ins.
    pub(super) fn lookup(&self, wanted: &str) -> Found {
        let wanted = normalise_alias(wanted);
        let configured: Vec<ModuleName> = self.config.aliases(&wanted).cloned().collect();
        if !configured.is_empty() {
            return Found::ByAlias(configured);
        }
        if self.deps.get(&wanted).is_some() {
            return Found::Module(ModuleName::new(&wanted));
        }
        let modules = match wanted.strip_prefix("symbol:") {
            Some(_) => self.symbols().lookup(&wanted),
            None => self.aliases.lookup(&wanted),
        };
        if !modules.is_empty() {
            return Found::ByAlias(modules);
        }
        if self.is_builtin(&wanted) { Found::Builtin } else { Found::Nothing }
    }

    /// Whether a part of the kernel has this alias. It reads a file for each
    /// call: for a person who asks, not for cold plug.
    pub(super) fn is_builtin_alias(&self, wanted: &str) -> bool {
        fs::read(self.directory.join("modules.builtin.modinfo"))
            .is_ok_and(|modinfo| dep::builtin_has_alias(&modinfo, wanted))
    }

    /// modules.symbols, which only the kernel's `symbol_request()` asks for.
    fn symbols(&self) -> AliasTable {
        let text = fs::read_to_string(self.directory.join("modules.symbols")).unwrap_or_default();
        AliasTable::parse("modules.symbols", &text, &mut Vec::new())
    }
}
