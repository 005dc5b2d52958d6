// SPDX-License-Identifier: Apache-2.0
//! `modprobe` for users' scripts and for the kernel, which runs
//! `/sbin/modprobe -q -- NAME` when it needs a file system, a protocol or a
//! cipher. Output and exit status are those of kmod's modprobe(8): 0, or 1
//! when something could not be done.

mod args;

use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use init::cmdline::Cmdline;
use init::sys::module;

use self::args::{Args, HELP, Parsed, Task, parse};
use super::config::{DIRECTORIES, Disabled};
use super::insert::{InsertError, ModuleKernel, RunningKernel, meaning};
use super::name::ModuleName;
use super::plan::{Blacklist, Planner, Step};
use super::tables::{Found, Place, Tables};

/// The command. `arguments` do not include the program's name.
pub fn modprobe_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match parse(arguments) {
        Ok(Parsed::Run(args)) if !args.words.is_empty() => args,
        Ok(Parsed::Run(_)) => return usage("missing parameters. See -h."),
        Ok(Parsed::Help) => return print(HELP),
        Ok(Parsed::Version) => return print(concat!("modprobe (lkinit) ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => return usage(&error.to_string()),
    };
    // What the kernel starts has no standard error, and kthreadd for a parent.
    let to_kernel_log = args.syslog || nix::unistd::getppid().as_raw() == 2;
    let mut log = Log { to_kernel_log, failed: false };
    let place = match place(&args) {
        Ok(place) => place,
        Err(error) => return usage(&format!("could not find out the kernel's release: {error}")),
    };
    let kernel = RunningKernel::new(&place.sys);
    let mut modprobe = Modprobe {
        args: &args,
        tables: Tables::read(&place),
        sys: &place.sys,
        kernel: &kernel,
        log: &mut log,
    };
    modprobe.run(&mut io::stdout().lock());
    if log.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "modprobe: ERROR: {message}");
    ExitCode::FAILURE
}

fn print(text: &str) -> ExitCode {
    if io::stdout().write_all(text.as_bytes()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn place(args: &Args) -> io::Result<Place> {
    let release = args.release.clone().map_or_else(module::kernel_release, Ok)?;
    let config: Vec<PathBuf> = match args.config.as_slice() {
        [] => DIRECTORIES.iter().map(|directory| args.below_root(directory)).collect(),
        given => given.to_vec(),
    };
    Ok(Place {
        modules: args.below_root("/lib/modules").join(release),
        config,
        cmdline: Cmdline::current().unwrap_or_default(),
        sys: PathBuf::from("/sys"),
    })
}

/// Where messages go, and whether one of them was a failure.
struct Log {
    to_kernel_log: bool,
    failed: bool,
}

impl Log {
    fn line(&self, text: &str) {
        let _ = writeln!(io::stderr(), "modprobe: {text}");
        if self.to_kernel_log
            && let Ok(mut kmsg) = OpenOptions::new().write(true).open("/dev/kmsg")
        {
            // Facility daemon (3), severity error (3).
            let _ = kmsg.write_all(format!("<27>modprobe: {text}\n").as_bytes());
        }
    }

    fn failure(&mut self, text: &str) {
        self.failed = true;
        self.line(text);
    }
}

struct Modprobe<'a> {
    args: &'a Args,
    tables: Tables,
    sys: &'a Path,
    kernel: &'a dyn ModuleKernel,
    log: &'a mut Log,
}

impl Modprobe<'_> {
    fn run(&mut self, out: &mut dyn Write) {
        if !self.args.quiet {
            for complaint in self.tables.complaints() {
                self.log.line(&format!("WARNING: {complaint}"));
            }
        }
        if self.args.ignore_install {
            self.tables.config_mut().ignore_disabled();
        }
        let (names, options) = self.args.split();
        for name in names {
            // A closed pipe is the reader's wish, not a failure.
            let _ = self.one(name, &options, out);
        }
    }

    fn one(&mut self, name: &str, options: &str, out: &mut dyn Write) -> io::Result<()> {
        let mut planner = Planner::new(&self.tables);
        let blacklist = if self.args.blacklist_names { Blacklist::Names } else { Blacklist::Aliases };
        let found = planner.want(name, blacklist);
        let mut steps = planner.finish().steps;
        let targets: Vec<ModuleName> = match found {
            Found::Module(name) => vec![name],
            Found::ByAlias(names) => names,
            Found::Builtin => return self.builtin(name, out),
            Found::Nothing if self.tables.is_builtin_alias(name) => return self.builtin(name, out),
            Found::Nothing => {
                self.not_found(name);
                return Ok(());
            }
        };
        for step in steps.iter_mut().filter(|step| targets.contains(&step.name) && !options.is_empty()) {
            step.options = format!("{} {options}", step.options).trim_start().to_owned();
        }
        match self.args.task {
            Task::Insert => self.insert(&steps, &targets, out),
            Task::Remove => self.remove(&steps, &targets, out),
            Task::ShowDepends => steps.iter().try_for_each(|step| writeln!(out, "{step}")),
            Task::ResolveAlias => targets.iter().try_for_each(|target| writeln!(out, "{target}")),
        }
    }

    fn builtin(&mut self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let name = ModuleName::new(name);
        match self.args.task {
            Task::Insert => Ok(()),
            Task::Remove => {
                self.log.failure(&format!("FATAL: Module {name} is builtin."));
                Ok(())
            }
            Task::ShowDepends => writeln!(out, "builtin {name}"),
            Task::ResolveAlias => writeln!(out, "{name}"),
        }
    }

    fn not_found(&mut self, name: &str) {
        self.log.failed = true;
        if self.args.quiet {
            return;
        }
        let severity = if self.args.all { "WARNING" } else { "FATAL" };
        let place = match self.args.task {
            Task::Remove => String::new(),
            _ => format!(" in directory {}", self.tables.directory().display()),
        };
        self.log.line(&format!("{severity}: Module {name} not found{place}"));
    }

    /// Loads the steps in their order. Only the targets count for the exit
    /// status, with what they need; a soft dependency may fail.
    fn insert(&mut self, steps: &[Step], targets: &[ModuleName], out: &mut dyn Write) -> io::Result<()> {
        let mut counts: HashSet<&ModuleName> = targets.iter().collect();
        for step in steps.iter().filter(|step| targets.contains(&step.name)) {
            counts.extend(&step.needs);
        }
        let mut missing: HashSet<&ModuleName> = HashSet::new();
        for step in steps {
            if self.kernel.is_live(&step.name) {
                if self.args.first_time && targets.contains(&step.name) {
                    self.log.failure(&format!(
                        "ERROR: could not insert '{}': Module already in kernel",
                        step.name
                    ));
                }
                continue;
            }
            if self.args.verbose {
                writeln!(out, "{step}")?;
            }
            if self.args.dry_run {
                continue;
            }
            if let Some(need) = step.needs.iter().find(|need| missing.contains(need)) {
                if counts.contains(&step.name) {
                    self.log.failure(&format!("ERROR: could not insert '{}': it needs {need}", step.name));
                }
                missing.insert(&step.name);
            } else if let Some(reason) = self.try_step(step) {
                missing.insert(&step.name);
                if counts.contains(&step.name) {
                    self.log.failure(&format!("ERROR: could not insert '{}': {reason}", step.name));
                }
            }
        }
        Ok(())
    }

    /// Loads one module; the reason if it cannot be.
    fn try_step(&self, step: &Step) -> Option<String> {
        match &step.disabled {
            Some(Disabled { command, .. }) if command.contains("true") || command.starts_with(':') => None,
            Some(Disabled { origin, .. }) => Some(format!("forbidden by {origin}")),
            None => match self.kernel.insert(step) {
                Ok(()) => None,
                Err(InsertError::Kernel { source, .. }) => Some(meaning(&source)),
                Err(error) => Some(error.to_string()),
            },
        }
    }

    /// Removes the targets, and then what they needed and nobody else uses.
    fn remove(&mut self, steps: &[Step], targets: &[ModuleName], out: &mut dyn Write) -> io::Result<()> {
        for step in steps.iter().rev() {
            let target = targets.contains(&step.name);
            match self.usage(&step.name) {
                Use::Absent if target && self.args.first_time => {
                    self.log.failure(&format!("FATAL: Module {} is not in kernel.", step.name));
                    return Ok(());
                }
                Use::Builtin if target => {
                    self.log.failure(&format!("FATAL: Module {} is builtin.", step.name));
                    return Ok(());
                }
                Use::Used if target => {
                    self.log.failure(&format!("FATAL: Module {} is in use.", step.name));
                    return Ok(());
                }
                Use::Absent | Use::Builtin | Use::Used => continue,
                Use::Idle => {}
            }
            if self.args.verbose {
                writeln!(out, "rmmod {}", step.name)?;
            }
            if self.args.dry_run {
                continue;
            }
            let removed = CString::new(step.name.as_str())
                .map_err(io::Error::from)
                .and_then(|name| module::remove(&name));
            if let (Err(error), true) = (removed, target) {
                self.log.failure(&format!("ERROR: could not remove '{}': {error}", step.name));
                return Ok(());
            }
        }
        Ok(())
    }

    fn usage(&self, name: &ModuleName) -> Use {
        let directory = self.sys.join("module").join(name.as_str());
        if !directory.is_dir() {
            return Use::Absent;
        }
        match fs::read_to_string(directory.join("refcnt")) {
            Ok(count) if count.trim() == "0" => Use::Idle,
            Ok(_) => Use::Used,
            // A kernel without CONFIG_MODULE_UNLOAD counts nothing.
            Err(_) if directory.join("initstate").exists() => Use::Used,
            Err(_) => Use::Builtin,
        }
    }
}

/// Whether a module can be removed.
enum Use {
    Absent,
    Builtin,
    Used,
    Idle,
}

#[cfg(test)]
mod tests;
