// SPDX-License-Identifier: Apache-2.0
//! The program: find and read the files, give up everything but the tree, then
//! look at what the files say.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::arguments::{Arguments, Mode, USAGE};
use crate::entry;
use crate::files::{self, Failure};
use crate::plan::Plan;
use crate::policy::policy;
use crate::tree::Tree;

/// Does what was asked. As with LinuxKit's program, lines that fail are
/// warnings, and only a directory or file that cannot be read makes it fail.
pub fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { directories, tree, mode } = arguments;
    if *mode == Mode::Help {
        print(&USAGE.trim_end());
        return ExitCode::SUCCESS;
    }
    let mut found = files::find(directories);
    let mut texts = Vec::new();
    for file in found.files {
        match fs::read(&file) {
            Ok(text) => texts.push((file, text)),
            Err(error) => found.failures.push(Failure::File(file, error)),
        }
    }
    let mut status = ExitCode::SUCCESS;
    for failure in &found.failures {
        if failure.is_fatal() {
            complain("error", failure);
            status = ExitCode::FAILURE;
        } else {
            complain("warning", failure);
        }
    }

    let policy = policy(tree, *mode == Mode::Apply);
    match policy.apply() {
        Ok(confined) if *mode == Mode::Explain => print(&format_args!("{policy}\n{confined}\n")),
        Ok(_) => {}
        // The files come with the image, from root: a machine with all its
        // settings and this program loose is safer than one with none.
        Err(error) => warn(&error),
    }

    let mut entries = Vec::new();
    for (file, text) in &texts {
        let (read, unreadable) = entry::read(file, text);
        entries.extend(read);
        unreadable.iter().for_each(|failure| warn(failure));
    }
    let tree = Tree { root: tree };
    let plan = Plan::new(&entries, |pattern| tree.expand(pattern));
    plan.failures.iter().for_each(|failure| warn(failure));
    match mode {
        Mode::Apply => tree.apply(&plan.decisions).iter().for_each(|refused| warn(refused)),
        Mode::DryRun => plan.decisions.iter().for_each(|decision| print(decision)),
        Mode::Explain => {
            for decision in &plan.decisions {
                print(&format_args!("{decision}{}", decision.explanation()));
            }
            found.replaced.iter().for_each(|replaced| print(replaced));
        }
        Mode::Help => {}
    }
    status
}

/// A reader that has gone away is no reason to stop halfway.
fn print(line: &dyn Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn warn(error: &dyn Error) {
    complain("warning", error);
}

/// Longest line of output, in characters: a value may be as long as a file.
const LONGEST: usize = 1000;
/// What is kept of the end of a longer one.
const TAIL: usize = 80;

/// One line, with every reason behind it.
pub fn complain(kind: &str, error: &dyn Error) {
    let mut line = format!("sysctl: {kind}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(&format!(": {error}"));
        source = error.source();
    }
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        // The kernel's reason is the end of it.
        let tail: Vec<char> = line.chars().rev().take(TAIL).collect();
        line.truncate(end);
        line.push_str(" ... ");
        line.extend(tail.into_iter().rev());
    }
    let _ = writeln!(io::stderr(), "{line}");
}
