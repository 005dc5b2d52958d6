// SPDX-License-Identifier: Apache-2.0
//! Kernel settings from configuration files: LinuxKit's `sysctl`, with the
//! rules of sysctl.d(5).
//!
//! [`files::find`] says which files count, [`entry::read`] turns one into
//! entries, [`plan::Plan::new`] into the list of keys to write with the line
//! that won for each, and [`tree::Tree`] reads and writes the keys.

pub mod arguments;
pub mod entry;
pub mod files;
pub mod key;
pub mod plan;
pub mod policy;
pub mod run;
pub mod tree;
