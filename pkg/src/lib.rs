// SPDX-License-Identifier: Apache-2.0
//! Builds lkinit's packages and LinuxKit images without Docker.
pub mod build;
pub mod bundle;
pub mod cpio;
pub mod debian;
pub mod distro;
pub mod oci;
pub mod packages;
pub mod store;
pub mod tarball;
pub mod tree;
pub mod yaml;
