// SPDX-License-Identifier: Apache-2.0
//! Says whether a kernel has what lkinit needs, and what will not work without.

mod config;
mod extract;
mod options;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

pub use config::{Config, Value};
pub use extract::{Found, extract};
pub use options::{Level, REQUIREMENTS, Requirement, Rule};

/// The oldest release lkinit is tried on.
const OLDEST_TRIED: (u32, u32) = (6, 1);
/// The first release with every system call it makes: openat2(2), pidfds.
const OLDEST: (u32, u32) = (5, 6);

/// How a requirement is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is.
    Met,
    /// It is there as a module, and that is too late.
    TooLate(&'static str),
    /// It is not there.
    Missing,
    /// It is set, and should not be, or not so.
    Unwelcome,
}

/// A kernel's configuration held against the [`REQUIREMENTS`].
#[derive(Debug)]
pub struct Report {
    /// The kernel's version, where the configuration says it.
    pub version: Option<String>,
    release: Option<(u32, u32)>,
    /// Each requirement, in the order of the list, and how it is met.
    pub findings: Vec<(&'static Requirement, State)>,
}

/// Reads a file's configuration, whatever the file is: a configuration, one
/// compressed with gzip, xz, zstd or lz4, or a kernel that holds its own.
pub fn read(file: &Path) -> Result<Config> {
    let name = file.display();
    let bytes = fs::read(file).with_context(|| format!("reading {name}"))?;
    match extract(&bytes) {
        Found::Config(config) => Ok(config),
        Found::Kernel => bail!(
            "{name} is a kernel that does not hold its configuration (built without CONFIG_IKCONFIG): \
             give the configuration's own file, such as /boot/config-RELEASE"
        ),
        Found::Nothing => bail!("{name} is neither a kernel nor a kernel's configuration"),
    }
}

/// Holds a configuration against the requirements.
pub fn check(config: &Config) -> Report {
    Report {
        version: config.version.clone(),
        release: config.release(),
        findings: REQUIREMENTS
            .iter()
            .map(|requirement| (requirement, state(config, requirement.rule)))
            .collect(),
    }
}

fn state(config: &Config, rule: Rule) -> State {
    let module =
        |names: &[&'static str]| names.iter().copied().find(|name| config.get(name) == Value::Module);
    let built_in = |names: &[&'static str]| names.iter().any(|name| config.get(name) == Value::BuiltIn);
    match rule {
        Rule::BuiltIn(names) | Rule::Present(names) if built_in(names) => State::Met,
        Rule::BuiltIn(names) => module(names).map_or(State::Missing, State::TooLate),
        Rule::Present(names) => module(names).map_or(State::Missing, |_| State::Met),
        Rule::Unset(name) if config.get(name) == Value::Unset => State::Met,
        Rule::Text(name, text)
            if [Value::Unset, Value::Text(""), Value::Text(text)].contains(&config.get(name)) =>
        {
            State::Met
        }
        Rule::Unset(_) | Rule::Text(..) => State::Unwelcome,
    }
}

impl Report {
    /// The requirements of a level that are not met.
    pub fn unmet(&self, level: Level) -> impl Iterator<Item = &(&'static Requirement, State)> {
        self.findings
            .iter()
            .filter(move |(requirement, state)| requirement.level == level && *state != State::Met)
    }

    /// Whether images boot and containers start on such a kernel.
    pub fn is_enough(&self) -> bool {
        self.unmet(Level::Need).next().is_none() && self.release.is_none_or(|release| release >= OLDEST)
    }

    fn write_release(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(release) = self.release else { return Ok(()) };
        if release < OLDEST {
            writeln!(f, "need  Linux {}.{}: system calls made at every boot", OLDEST.0, OLDEST.1)?;
        } else if release < OLDEST_TRIED {
            writeln!(f, "want  Linux {}.{}: the oldest this is tried on", OLDEST_TRIED.0, OLDEST_TRIED.1)?;
        }
        Ok(())
    }
}

/// What is not met, the worst first, each with its reason and consequence;
/// then a verdict.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_release(f)?;
        for level in [Level::Need, Level::Want, Level::Use] {
            for (requirement, state) in self.unmet(level) {
                let Requirement { rule, reason, without, .. } = requirement;
                writeln!(f, "{level:<5} {}", Line(*rule, *state))?;
                writeln!(f, "        why: {reason}")?;
                writeln!(f, "        else: {without}")?;
            }
        }
        let version = self.version.as_deref().unwrap_or("of unknown version");
        write!(f, "Linux {version}:")?;
        for level in [Level::Need, Level::Want, Level::Use] {
            let all = self.findings.iter().filter(|(requirement, _)| requirement.level == level).count();
            write!(f, " {level} {} of {all};", all - self.unmet(level).count())?;
        }
        f.write_str(if self.is_enough() { " lkinit boots" } else { " lkinit does not boot" })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Need => "need",
            Self::Want => "want",
            Self::Use => "use",
        })
    }
}

/// What would meet a rule, and what stands in its way.
struct Line(Rule, State);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rule, state) = self;
        match rule {
            Rule::BuiltIn(names) => write!(f, "CONFIG_{}=y", names.join(" or CONFIG_"))?,
            Rule::Present(names) => {
                write!(f, "CONFIG_{}, built in or as a module", names.join(" or CONFIG_"))?
            }
            Rule::Unset(name) => write!(f, "CONFIG_{name} not set")?,
            Rule::Text(name, text) => write!(f, "CONFIG_{name}={text:?}")?,
        }
        match state {
            State::Met => Ok(()),
            State::TooLate(name) => write!(f, " (CONFIG_{name} is a module, which comes too late)"),
            State::Missing => f.write_str(" (not set)"),
            State::Unwelcome => f.write_str(" (set otherwise)"),
        }
    }
}
