// SPDX-License-Identifier: Apache-2.0
//! Images that run: in machines, and where that proves the same, natively.
//!
//! One program, so that whatever test is next takes the place of a machine that
//! has ended: `cargo test -p tests --test boots` tries all, `... --test boots
//! crash::` a module, and a failure says how one is repeated. Tests begin in the
//! order of their names, and what comes last here is short: a long one would be
//! alone at the end. What measures times is a program of its own.

mod agent;
mod boot;
mod bundles;
mod callers;
mod console;
mod crash;
mod examples;
mod examples_metadata;
mod faults;
mod forwarding;
mod harness;
mod init;
mod interrupted;
mod logging;
mod metadata;
mod metadata_packet;
mod open_ports;
mod outage;
mod packages;
mod places;
mod restarts;
mod service;
mod shutdown;
mod supervision;
mod survival;
mod variants;

// Discs and servers that metadata's own tests are made of, too.
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../../metadata/tests/support/image.rs"]
mod discs;
#[path = "../../../metadata/tests/support/server.rs"]
mod server;
#[path = "../../../metadata/tests/support/tls.rs"]
mod tls;
