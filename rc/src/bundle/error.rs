// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a bundle. Each message is one line and names the
//! container, the file or the step, and the path it is about.

use std::io;
use std::path::{Path, PathBuf};

/// A bundle that cannot be used, or a step of its preparation that failed.
/// Every variant is about one container (or one volume) only: the others go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder of a stage cannot be listed.
    #[error("cannot list {}: {source}", .dir.display())]
    List {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `config.json` or `runtime.json` cannot be read.
    #[error("{container}: cannot read {}: {source}", .file.display())]
    Read {
        /// Which container, with its stage.
        container: String,
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not JSON, or a value in it has the wrong type.
    #[error("{container}: {}:{line}:{column}: {problem}", .file.display())]
    Syntax {
        /// Which container, with its stage.
        container: String,
        /// Which file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A file is well formed and asks for something that makes no sense.
    #[error("{container}: {}: {problem}", .file.display())]
    Invalid {
        /// Which container, with its stage.
        container: String,
        /// Which file.
        file: PathBuf,
        /// Which key, and what is wrong with it.
        problem: String,
    },
    /// A step of the preparation failed; what this call had mounted by then
    /// is unmounted again.
    #[error("{container}: {step}: {tried}: {source}")]
    Step {
        /// Which container (with its stage) or volume.
        container: String,
        /// The key of `runtime.json` it belongs to.
        step: String,
        /// What was tried, with the path it was tried on.
        tried: String,
        /// That path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused an interface.
    #[error("{container}: interface {name}: {source}")]
    Interface {
        /// Which container, with its stage.
        container: String,
        /// The interface's name inside the container.
        name: String,
        /// What was tried and why it was refused.
        source: init::net::Error,
    },
    /// An interface cannot be had as things are.
    #[error("{container}: interface {name}: {problem}")]
    Unavailable {
        /// Which container, with its stage.
        container: String,
        /// The interface's name inside the container.
        name: String,
        /// What is in the way.
        problem: String,
    },
}

impl Error {
    /// A JSON error with its place taken out of its text, where serde_json
    /// puts it last.
    pub(super) fn syntax(container: &str, file: &Path, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        Self::Syntax {
            container: container.to_owned(),
            file: file.to_owned(),
            line,
            column,
            problem: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
        }
    }
}
