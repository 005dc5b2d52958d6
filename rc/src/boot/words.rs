// SPDX-License-Identifier: Apache-2.0
//! The words of the kernel command line that are ours, looked at once: a
//! misspelt one would otherwise be silence. docs/command-line.md has them all.

use init::cmdline::Cmdline;
use init::console::Level;

use crate::logs::settings;

/// Every word of ours that has a value.
const WORDS: [&str; 9] = [
    "lkinit.break",
    "lkinit.engine",
    "lkinit.log",
    settings::FILES_KEY,
    settings::SIZE_KEY,
    "lkinit.root",
    "lkinit.shell",
    "lkinit.shutdown-timeout",
    "lkinit.watchdog",
];

/// LinuxKit's switches.
const SWITCHES: [&str; 3] =
    ["linuxkit.runc_console", "linuxkit.runc_debug", "linuxkit.unified_cgroup_hierarchy"];

/// A line for each word that has no meaning. What reads the values of the
/// other words says what is wrong with them itself.
pub(super) fn problems(cmdline: &Cmdline) -> Vec<String> {
    let mut problems = Vec::new();
    for (key, value) in cmdline.words() {
        let word = match value {
            Some(value) => format!("{key}={value}"),
            None => key.to_owned(),
        };
        if SWITCHES.contains(&key) {
            if cmdline.flag(key).is_none() {
                problems.push(format!("{word}: neither 0 nor 1; ignored"));
            }
        } else if WORDS.contains(&key) {
            match value {
                None | Some("") => problems.push(format!("{word}: needs a value; ignored")),
                Some(level) if key == "lkinit.log" && Level::by_word(level).is_none() => {
                    let levels = Level::WORDS.map(|(name, _)| name).join(", ");
                    problems.push(format!("{word}: none of {levels}; using info"));
                }
                Some(_) => {}
            }
        } else if key.starts_with("lkinit.") {
            problems.push(format!("{word}: no word of lkinit's; there are {}; ignored", WORDS.join(", ")));
        }
    }
    problems.extend(settings::Limits::problems(cmdline));
    // The same word twice is one mistake.
    problems.sort();
    problems.dedup();
    problems.into_iter().map(|problem| format!("kernel command line: {problem}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<String> {
        let found = problems(&Cmdline::parse(line));
        found.iter().map(|line| line.strip_prefix("kernel command line: ").unwrap().to_owned()).collect()
    }

    #[test]
    fn what_has_a_meaning_is_not_told_of() {
        let line = "console=ttyS0 quiet lkinit.engine=direct lkinit.log=debug lkinit.shell=early,failure \
                    lkinit.log-size=1M lkinit.watchdog=30 linuxkit.runc_debug=1 linuxkit.runc_console \
                    linuxkit.unified_cgroup_hierarchy=0 linuxkit.other=x virtio_net.napi_tx=0 panic=-1";
        assert_eq!(found(line), [""; 0]);
    }

    #[test]
    fn each_mistake_is_one_line() {
        let line = "lkinit.engien=direct lkinit.log=loud lkinit.engine lkinit.engine lkinit.log-files=0 \
                    linuxkit.unified_cgroup_hierarchy=v1";
        let found = found(line);
        let begins = [
            "linuxkit.unified_cgroup_hierarchy=v1: neither 0 nor 1",
            "lkinit.engien=direct: no word of lkinit's",
            "lkinit.engine: needs a value",
            "lkinit.log-files=\"0\": not a number from 1 to 100",
            "lkinit.log=loud: none of debug, info",
        ];
        assert_eq!(found.len(), begins.len(), "{found:#?}");
        for (line, begin) in found.iter().zip(begins) {
            assert!(line.starts_with(begin), "{line} | {begin}");
        }
    }
}
