// SPDX-License-Identifier: Apache-2.0
//! Instance metadata and user data: finds the platform without a packet,
//! asks its metadata service, and writes what it says as files.

pub mod hostname;
pub mod keys;
pub mod tree;
pub mod userdata;
pub mod volume;
