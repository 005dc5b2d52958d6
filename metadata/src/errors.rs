// SPDX-License-Identifier: Apache-2.0
//! Errors that belong to no module of their own.

use std::io;
use std::path::PathBuf;

/// Something the identification wanted to look at.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}
