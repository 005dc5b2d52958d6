// SPDX-License-Identifier: Apache-2.0
//! Boots images in QEMU and watches them on the serial console.
//!
//! A [`machine::Machine`] says what to boot, a [`vm::Vm`] is one that runs.
//! What a test waits for has a deadline, and silence is failure: an error
//! carries the end of the transcript, where the whole of it is, and the command
//! that repeats the test. Every machine is emulated (TCG), has a folder of its
//! own below `target/tests`, and ends with its test.

pub mod bench;
pub mod console;
pub mod control;
pub mod examples;
pub mod image;
pub mod inside;
pub mod late;
pub mod load;
pub mod machine;
pub mod native;
pub mod network;
pub mod paths;
pub mod picture;
pub mod platform;
pub mod samples;
pub mod slots;
pub mod vhost;
pub mod vm;
