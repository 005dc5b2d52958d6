// SPDX-License-Identifier: Apache-2.0
//! A program to run, as data.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// A program, its arguments and what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The program, found by the path.
    pub program: String,
    /// Its arguments.
    pub words: Vec<String>,
    /// Its standard input.
    pub input: String,
    /// The largest exit status that is success: e2fsck(8) has several.
    pub accepted: i32,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The program cannot be run.
    #[error("cannot run {0}")]
    Run(String, #[source] io::Error),
    /// It ended otherwise than well.
    #[error("{0}: {1}{2}")]
    Failed(String, ExitStatus, String),
}

impl Step {
    /// `program` with `words`.
    pub fn new<'a>(program: &str, words: impl IntoIterator<Item = &'a str>) -> Self {
        let words = words.into_iter().map(str::to_owned).collect();
        Self { program: program.to_owned(), words, input: String::new(), accepted: 0 }
    }

    /// With one more argument, a path.
    #[must_use]
    pub fn path(mut self, path: &Path) -> Self {
        self.words.push(path.display().to_string());
        self
    }

    /// With something to read.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = text.into();
        self
    }

    /// Runs it to its end. What it says is shown when it fails, and otherwise
    /// when `verbose`.
    ///
    /// # Errors
    /// When it cannot be run, or ends with a status that is not success.
    pub fn run(&self, verbose: bool) -> Result<(), StepError> {
        let failed = |error| StepError::Run(self.to_string(), error);
        let mut child = Command::new(&self.program)
            .args(&self.words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read it says why by its status.
            let _ = stdin.write_all(self.input.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        let mut said = String::new();
        for stream in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(stream).lines().filter(|line| !line.trim().is_empty()) {
                said.push_str(&format!("\n    {line}"));
            }
        }
        if output.status.code().is_none_or(|code| code > self.accepted) {
            return Err(StepError::Failed(self.to_string(), output.status, said));
        }
        if verbose {
            crate::say(format_args!("{self}{said}"));
        }
        Ok(())
    }
}

/// As one would type it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        for word in &self.words {
            write!(f, " {word}")?;
        }
        if !self.input.is_empty() {
            write!(f, " <<< {:?}", self.input.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_its_input_and_its_status_counts() {
        Step::new("sh", ["-c", "read a; test \"$a\" = text"]).input("text\n").run(false).unwrap();
        let mut step = Step::new("sh", ["-c", "echo out; echo err >&2; exit 3"]);
        let error = step.run(false).unwrap_err().to_string();
        assert_eq!(error, "sh -c echo out; echo err >&2; exit 3: exit status: 3\n    out\n    err");
        step.accepted = 3;
        step.run(false).unwrap();
        let error = Step::new("/nonexistent", []).input("a\nb\n").run(false).unwrap_err().to_string();
        assert_eq!(error, "cannot run /nonexistent <<< \"a\\nb\"");
    }
}
