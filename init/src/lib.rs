// SPDX-License-Identifier: Apache-2.0
//! The base every guest program of lkinit stands on: the kernel seam, mounts,
//! the kernel command line, the console, and PID 1 itself.
//!
//! A boot is a plan: inputs (the command line, `/proc` text, bundles) become a
//! list of [`action::Action`]s that can be printed and compared, and one thin
//! layer, [`sys`], carries them out. All `unsafe` code of the project is in
//! [`sys`].

pub mod action;
pub mod cmdline;
#[cfg(feature = "confine")]
pub mod confine;
pub mod console;
#[cfg(all(feature = "test-tools", target_arch = "x86_64"))]
pub mod inject;
pub mod line;
pub mod log;
pub mod mount;
pub mod mountinfo;
pub mod multicall;
#[cfg(feature = "net")]
pub mod net;
pub mod pid1;
pub mod reaped;
pub mod root;
pub mod sys;
#[cfg(feature = "test-tools")]
pub mod testing;
pub mod usermode;
