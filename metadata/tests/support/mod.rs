// SPDX-License-Identifier: Apache-2.0
//! What several tests need.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests"
)]

pub mod hypervisor;
pub mod image;
pub mod namespace;
pub mod program;
pub mod server;
pub mod tls;
