// SPDX-License-Identifier: Apache-2.0
//! Instance metadata and user data: finds the platform without a packet,
//! asks its metadata service, and writes what it says as files.
//!
//! [`facts`] are looked up, [`identify`] concludes from them, [`plan`] says
//! who is asked, [`providers`] ask, [`tree`] is what they bring, and [`run`]
//! leads from one to the next.

pub mod cli;
pub mod confine;
pub mod errors;
pub mod explain;
pub mod facts;
pub mod file;
pub mod hostname;
pub mod http;
pub mod identify;
pub mod keys;
pub mod log;
pub mod news;
pub mod plan;
pub mod providers;
pub mod race;
pub mod run;
pub mod time;
pub mod tree;
pub mod userdata;
pub mod volume;

#[cfg(test)]
mod testing;
