// SPDX-License-Identifier: Apache-2.0
//! What several tests need.

#![allow(dead_code, unreachable_pub)]

pub mod image;
pub mod server;
