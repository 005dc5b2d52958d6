// SPDX-License-Identifier: Apache-2.0
//! Names and modaliases in, an ordered list of modules to load out.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use super::config::Disabled;
use super::name::{ModuleName, normalise_alias};
use super::tables::{Found, Tables};

/// One module to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub name: ModuleName,
    /// Its file.
    pub file: PathBuf,
    /// The file's size in bytes, which is what it costs to load it: the kernel
    /// takes most of its time for the signature. 0 where there is none.
    pub size: u64,
    /// Its options, as the kernel takes them.
    pub options: String,
    /// The modules without which it cannot be loaded.
    pub needs: Vec<ModuleName>,
    /// The modules that come before it if they can be loaded (softdep).
    pub after: Vec<ModuleName>,
    /// Set when the configuration forbids to load it. Whatever needs it waits
    /// for it all the same: it may be loaded already.
    pub disabled: Option<Disabled>,
    /// The modalias, name or module that wants it.
    pub wanted_by: String,
}

impl fmt::Display for Step {
    /// As modprobe(8) shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.disabled {
            Some(disabled) if disabled.command.is_empty() => {
                write!(f, "# {}: {}", self.name, disabled.origin)
            }
            Some(disabled) => write!(f, "install {} ", disabled.command),
            None => write!(f, "insmod {} {}", self.file.display(), self.options),
        }
    }
}

/// What to load, in an order that keeps to every dependency.
#[derive(Debug, Default)]
pub struct Plan {
    /// Each module once, after all that it needs.
    pub steps: Vec<Step>,
    /// Modules that an alias named and that are blacklisted.
    pub blacklisted: Vec<ModuleName>,
}

/// What the blacklist applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blacklist {
    /// To modules that an alias stands for.
    Aliases,
    /// To those named outright too: `modprobe -b`.
    Names,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Begun,
    Placed,
}

/// Puts a plan together.
pub(super) struct Planner<'a> {
    tables: &'a Tables,
    plan: Plan,
    progress: HashMap<ModuleName, Progress>,
    deferred: Vec<(ModuleName, String)>,
}

impl<'a> Planner<'a> {
    /// An empty plan by these tables.
    pub(super) fn new(tables: &'a Tables) -> Self {
        Self { tables, plan: Plan::default(), progress: HashMap::new(), deferred: Vec::new() }
    }

    /// Adds what a name or modalias stands for. Says what that is, with the
    /// modules that are left out by the blacklist still in it.
    pub(super) fn want(&mut self, wanted: &str, blacklist: Blacklist) -> Found {
        let found = self.tables.lookup(wanted);
        let (names, by_alias) = match &found {
            Found::Module(name) => (std::slice::from_ref(name), false),
            Found::ByAlias(names) => (names.as_slice(), true),
            Found::Builtin | Found::Nothing => return found,
        };
        let asked = normalise_alias(wanted);
        for name in names {
            if (by_alias || blacklist == Blacklist::Names) && self.tables.config().is_blacklisted(name) {
                if !self.plan.blacklisted.contains(name) {
                    self.plan.blacklisted.push(name.clone());
                }
            } else {
                self.place(name, Some(&asked), wanted);
                while let Some((name, by)) = self.deferred.pop() {
                    self.place(&name, None, &by);
                }
            }
        }
        found
    }

    /// The plan.
    pub(super) fn finish(self) -> Plan {
        self.plan
    }

    /// Puts a module and all that belongs to it into the plan. False if that
    /// is not possible, or only later.
    fn place(&mut self, name: &ModuleName, asked: Option<&str>, wanted_by: &str) -> bool {
        match self.progress.get(name) {
            Some(Progress::Placed) => return true,
            Some(Progress::Begun) => return false,
            None => {}
        }
        let Some((file, needs)) = self.tables.module(name) else { return false };
        // A soft dependency may lead in a circle back to a module that is
        // being placed. What needs that one comes after it.
        if needs.iter().any(|need| self.progress.get(need) == Some(&Progress::Begun)) {
            self.deferred.push((name.clone(), wanted_by.to_owned()));
            return false;
        }
        self.progress.insert(name.clone(), Progress::Begun);
        for need in &needs {
            self.place(need, None, name.as_str());
        }
        let config = self.tables.config();
        let disabled = config.disabled(name).cloned();
        let mut after = Vec::new();
        if disabled.is_none() {
            for pre in config.softdeps(name).flat_map(|softdep| &softdep.pre) {
                for module in self.soft(pre) {
                    if self.place(&module, None, name.as_str())
                        && !needs.contains(&module)
                        && !after.contains(&module)
                    {
                        after.push(module);
                    }
                }
            }
        }
        let forbidden = disabled.is_some();
        self.plan.steps.push(Step {
            name: name.clone(),
            size: std::fs::metadata(&file).map_or(0, |data| data.len()),
            file,
            options: config.options(name, asked),
            needs,
            after,
            disabled,
            wanted_by: wanted_by.to_owned(),
        });
        self.progress.insert(name.clone(), Progress::Placed);
        if !forbidden {
            for post in config.softdeps(name).flat_map(|softdep| &softdep.post) {
                for module in self.soft(post) {
                    self.place_after(&module, name);
                }
            }
        }
        true
    }

    /// Places a module that is to follow another.
    fn place_after(&mut self, module: &ModuleName, leader: &ModuleName) {
        let fresh = !self.progress.contains_key(module);
        if fresh
            && self.place(module, None, leader.as_str())
            && let Some(step) = self.plan.steps.iter_mut().rev().find(|step| step.name == *module)
            && !step.needs.contains(leader)
        {
            step.after.push(leader.clone());
        }
    }

    /// The modules of a soft dependency, which may be an alias.
    fn soft(&self, wanted: &str) -> Vec<ModuleName> {
        match self.tables.lookup(wanted) {
            Found::Module(name) => vec![name],
            Found::ByAlias(mut names) => {
                names.retain(|name| !self.tables.config().is_blacklisted(name));
                names
            }
            Found::Builtin | Found::Nothing => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
