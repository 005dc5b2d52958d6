// SPDX-License-Identifier: Apache-2.0
//! Joins vsock ports with unix sockets, both ways: what runs in a virtual
//! machine is reached from its host without a network.
//!
//! Flags become [`rule::Rule`]s, each rule becomes a task of the event loop
//! ([`engine`]): a [`forward`] with its [`door`] and a [`link`] for each
//! connection, a [`syslog`] forward, or the announcement that everything is
//! [`ready`]. Everything is bound first; then the program gives up all it does
//! not need ([`policy`]) and runs in one thread.

pub mod arguments;
pub mod buffer;
pub mod door;
pub mod endpoint;
pub mod engine;
pub mod flow;
pub mod forward;
pub mod frame;
pub mod gate;
pub mod link;
pub mod log;
pub mod policy;
pub mod port;
pub mod ready;
pub mod retry;
pub mod rule;
pub mod run;
pub mod slab;
pub mod syslog;
pub mod window;
