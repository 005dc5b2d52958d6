// SPDX-License-Identifier: Apache-2.0
//! Builds lkinit's packages and LinuxKit images without Docker.
pub mod bundle;
pub mod debian;
pub mod distro;
pub mod oci;
pub mod packages;
pub mod tarball;
pub mod tree;
pub mod yaml;
