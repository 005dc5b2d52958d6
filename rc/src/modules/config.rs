// SPDX-License-Identifier: Apache-2.0
//! modprobe.d(5) and the words of the kernel command line that modprobe reads.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use init::cmdline::Cmdline;

use super::complaint::{Complaint, Origin, fold, shown};
use super::glob;
use super::name::{ModuleName, normalise_alias};

/// Where configuration is, the first before the others: of files with the same
/// name only the one in the earliest directory counts.
pub(super) const DIRECTORIES: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// How many lines of a file are told of: people write them, and may have made
/// more than one mistake.
const MISTAKES: usize = 10;

/// A module that is not to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// Who says so.
    pub origin: Origin,
    /// The `install` command that stands for it, `/bin/true` or `/bin/false`;
    /// empty for the kernel's `module_blacklist=`.
    pub command: String,
}

/// `softdep NAME pre: ... post: ...`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Softdep {
    pattern: String,
    /// Modules or aliases to load before.
    pub pre: Vec<String>,
    /// Modules or aliases to load after.
    pub post: Vec<String>,
}

/// Everything the configuration says.
#[derive(Debug, Default)]
pub(super) struct Config {
    aliases: Vec<(String, ModuleName)>,
    options: HashMap<String, Vec<String>>,
    blacklist: HashSet<ModuleName>,
    disabled: Vec<(String, Disabled)>,
    softdeps: Vec<Softdep>,
}

impl Config {
    /// The modules that `alias` lines give a name; `off`, the idiom for "none", among them.
    pub(super) fn aliases<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a ModuleName> {
        self.aliases
            .iter()
            .filter(move |(pattern, _)| glob::matches(pattern, wanted))
            .map(|(_, module)| module)
    }

    /// The options for a module that was asked for by `asked` (its own name, or an alias).
    pub(super) fn options(&self, name: &ModuleName, asked: Option<&str>) -> String {
        let by_alias =
            asked.filter(|asked| *asked != name.as_str()).and_then(|asked| self.options.get(asked));
        let all = self.options.get(name.as_str()).into_iter().chain(by_alias).flatten();
        all.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Whether the aliases inside the module are to be ignored.
    pub(super) fn is_blacklisted(&self, name: &ModuleName) -> bool {
        self.blacklist.contains(name)
    }

    /// Whether the module is never to be loaded, and who says so.
    pub(super) fn disabled(&self, name: &ModuleName) -> Option<&Disabled> {
        self.disabled
            .iter()
            .find(|(pattern, _)| glob::matches(pattern, name.as_str()))
            .map(|(_, disabled)| disabled)
    }

    /// The soft dependencies of a module; those of several lines add up.
    pub(super) fn softdeps<'a>(&'a self, name: &'a ModuleName) -> impl Iterator<Item = &'a Softdep> {
        self.softdeps.iter().filter(|softdep| glob::matches(&softdep.pattern, name.as_str()))
    }

    /// Forgets which modules are not to be loaded: `modprobe --ignore-install`.
    pub(super) fn ignore_disabled(&mut self) {
        self.disabled.clear();
    }

    /// Reads every `*.conf` of the directories, in the order of the files'
    /// names. Directories that do not exist are none.
    pub(super) fn read_directories<P: AsRef<Path>>(
        &mut self,
        directories: &[P],
        complaints: &mut Vec<Complaint>,
    ) {
        let mut files: Vec<PathBuf> = Vec::new();
        for directory in directories.iter().map(AsRef::as_ref) {
            let found = match fs::read_dir(directory) {
                Ok(entries) => entries.flatten().map(|entry| entry.path()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    complaints.push(Complaint::new(
                        &directory.to_string_lossy(),
                        0,
                        format!("cannot be read: {error}; its files are left out"),
                    ));
                    continue;
                }
            };
            for path in found.filter(|path| path.extension().is_some_and(|end| end == "conf")) {
                if !files.iter().any(|file| file.file_name() == path.file_name()) {
                    files.push(path);
                }
            }
        }
        files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        for path in files {
            let name = path.to_string_lossy();
            match fs::read(&path) {
                Ok(bytes) => self.parse(&name, &String::from_utf8_lossy(&bytes), complaints),
                Err(error) => complaints.push(Complaint::new(
                    &name,
                    0,
                    format!("cannot be read: {error}; it is left out"),
                )),
            }
        }
    }

    /// Reads one file; `file` is what complaints name.
    pub(super) fn parse(&mut self, file: &str, text: &str, complaints: &mut Vec<Complaint>) {
        self.statements(file, text, complaints, MISTAKES);
    }

    /// Reads modules.softdep, which has the same form, and is depmod(8)'s.
    pub(super) fn parse_softdeps(&mut self, file: &str, text: &str, complaints: &mut Vec<Complaint>) {
        self.statements(file, text, complaints, 1);
    }

    fn statements(&mut self, file: &str, text: &str, complaints: &mut Vec<Complaint>, most: usize) {
        let first = complaints.len();
        for (number, line) in logical_lines(text) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let origin = Origin { file: file.to_owned(), line: number };
            if let Err(what) = self.statement(line, &origin) {
                complaints.push(Complaint { origin, what });
            }
        }
        fold(complaints, first, most);
    }

    fn statement(&mut self, line: &str, origin: &Origin) -> Result<(), String> {
        let (keyword, rest) = cut_word(line);
        let (name, value) = cut_word(rest);
        let needs = |what: &str, given: bool| {
            given.then_some(()).ok_or_else(|| format!("`{keyword}` needs {what}; the line is left out"))
        };
        match keyword {
            "alias" => {
                needs("an alias and a module", !value.is_empty())?;
                if name.matches('[').count() != name.matches(']').count() {
                    return Err(
                        "the alias has brackets without a counterpart; the line is left out".to_owned()
                    );
                }
                self.aliases.push((normalise_alias(name), ModuleName::new(value)));
            }
            "options" => {
                needs("a module and an option", !value.is_empty())?;
                self.options.entry(normalise_alias(name)).or_default().push(value.to_owned());
            }
            "blacklist" => {
                needs("a module", !name.is_empty())?;
                self.blacklist.insert(ModuleName::new(name));
            }
            "softdep" => {
                needs("a module and `pre:` or `post:`", !value.is_empty())?;
                self.softdeps.push(parse_softdep(name, value));
            }
            "install" | "remove" => {
                needs("a module and a command", !value.is_empty())?;
                if keyword == "install" && is_off_switch(value) {
                    let disabled = Disabled { origin: origin.clone(), command: value.to_owned() };
                    self.disabled.push((normalise_alias(name), disabled));
                } else {
                    return Err(format!(
                        "`{keyword}` commands are not run; {} is handled as if the line were not there",
                        shown(name)
                    ));
                }
            }
            // Only a hint for those who build an initrd.
            "weakdep" => {}
            other => {
                let other = shown(other);
                return Err(format!("`{other}` is no statement of modprobe.d; the line is left out"));
            }
        }
        Ok(())
    }

    /// Reads the words of the kernel command line that are for modules:
    /// `MODULE.OPTION=VALUE`, `modprobe.blacklist=A,B`, and the kernel's own
    /// `module_blacklist=A,B`, whose modules it would refuse anyway.
    pub(super) fn read_cmdline(&mut self, cmdline: &Cmdline) {
        for (key, value) in cmdline.words() {
            let names = || value.unwrap_or_default().split(',').filter(|name| !name.is_empty());
            match (key, key.split_once('.')) {
                ("modprobe.blacklist", _) => self.blacklist.extend(names().map(ModuleName::new)),
                ("module_blacklist", _) => self.disabled.extend(names().map(|name| {
                    let origin =
                        Origin { file: "module_blacklist= of the kernel command line".to_owned(), line: 0 };
                    (normalise_alias(name), Disabled { origin, command: String::new() })
                })),
                (_, Some((module, option))) if !module.is_empty() && !option.is_empty() => {
                    // The quotes are gone, and the kernel's parser of module
                    // options needs them again around blanks.
                    let word = match value {
                        None => option.to_owned(),
                        Some(value) if value.contains(char::is_whitespace) => format!("{option}=\"{value}\""),
                        Some(value) => format!("{option}={value}"),
                    };
                    self.options.entry(normalise_alias(module)).or_default().push(word);
                }
                _ => {}
            }
        }
    }
}

/// The first word, and what follows it without the blanks between.
fn cut_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

/// `install NAME /bin/true` or `/bin/false`: the usual way to say "do not load".
fn is_off_switch(command: &str) -> bool {
    let (program, rest) = cut_word(command);
    let program = program.strip_prefix("/usr").unwrap_or(program);
    matches!(program, "/bin/true" | "/bin/false" | "true" | "false" | ":")
        && (rest.is_empty() || rest.starts_with('#'))
}

/// Words before the first `pre:` or `post:` mean nothing, as for modprobe.
fn parse_softdep(name: &str, words: &str) -> Softdep {
    let mut softdep = Softdep { pattern: normalise_alias(name), ..Softdep::default() };
    let mut list: Option<&mut Vec<String>> = None;
    for word in words.split_ascii_whitespace() {
        match word {
            "pre:" => list = Some(&mut softdep.pre),
            "post:" => list = Some(&mut softdep.post),
            word => {
                if let Some(list) = &mut list {
                    list.push(normalise_alias(word));
                }
            }
        }
    }
    softdep
}

/// Lines, joined where one ends with a backslash, under the number of the first.
fn logical_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (index, line) = lines.next()?;
        let mut whole = line.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            match lines.next() {
                Some((_, line)) => whole.push_str(line),
                None => break,
            }
        }
        Some((index + 1, whole))
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
