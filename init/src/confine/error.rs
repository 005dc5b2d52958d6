// SPDX-License-Identifier: Apache-2.0
//! Why a process could not be confined.

use std::io;
use std::path::PathBuf;

/// Why a process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has more than one thread.
    #[error("cannot confine this process: it has several threads already; nothing was changed")]
    Threads,
    /// prctl(2) refused `PR_SET_NO_NEW_PRIVS`.
    #[error("cannot confine this process: prctl(PR_SET_NO_NEW_PRIVS)")]
    NoNewPrivs(#[source] io::Error),
    /// A set of capabilities could not be cut down.
    #[error("cannot confine this process: cutting down its {set} capabilities")]
    Capabilities {
        /// Which set.
        set: &'static str,
        /// Why.
        source: caps::errors::CapsError,
    },
    /// A path that exists could not be granted.
    #[error("cannot confine this process: granting access to {}", path.display())]
    Grant {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel has Landlock and refused the rules.
    #[error("cannot confine this process: Landlock")]
    Landlock(#[source] landlock::RulesetError),
    /// This machine's architecture, or the list of calls, cannot be made into a filter.
    #[error("cannot confine this process: compiling its seccomp filter")]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel has seccomp and refused the filter.
    #[error("cannot confine this process: seccomp")]
    Seccomp(#[source] seccompiler::Error),
}
