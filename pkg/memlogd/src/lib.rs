// SPDX-License-Identifier: Apache-2.0
//! The last lines of output of a whole machine, in memory: `memlogd` keeps
//! them, `logread` shows them, `logwrite` writes them to files. One program by
//! several names; docs/logging.md has sockets and formats.

pub mod arguments;
pub mod client;
pub mod daemon;
pub mod entry;
pub mod logread;
pub mod logwrite;
pub mod ring;
pub mod wrap;
