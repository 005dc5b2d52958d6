// SPDX-License-Identifier: Apache-2.0
//! Kernel images for LinuxKit, made from a distribution's kernel package.
//!
//! LinuxKit's image builder takes two files from a kernel image: `kernel`,
//! which it boots, and `kernel.tar`, which it unpacks over the root and which
//! brings `/lib/modules`. A distribution's package has both under other names,
//! and far more modules than a virtual machine can use: [`modules`] lists
//! those that stay, [`index`] adds what they depend on, [`image`] writes the
//! two files.
//!
//! [`check`] says whether a kernel, this one or another, has what lkinit needs.

pub mod check;
pub mod image;
pub mod index;
pub mod modules;
