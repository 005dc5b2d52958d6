// SPDX-License-Identifier: Apache-2.0
//! Instance metadata and user data: finds the platform without a packet,
//! asks its metadata service, and writes what it says as files.

pub mod errors;
pub mod facts;
pub mod hostname;
pub mod http;
pub mod keys;
pub mod network;
pub mod tree;
pub mod userdata;
pub mod volume;

#[cfg(test)]
#[path = "../tests/support/server.rs"]
mod testing;
