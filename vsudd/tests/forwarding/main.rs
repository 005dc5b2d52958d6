// SPDX-License-Identifier: Apache-2.0
//! Forwarding, tried on the running program: between unix sockets everywhere,
//! over vsock's loopback where `VSUDD_ON_VSOCK` names a program to try there.
//!
//! Without libtest: the program under test may be this one (see [`serve`]),
//! and the same file runs in a virtual machine that has nothing else.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod ends;
mod fixture;
mod load;
mod messages;
mod refusals;
mod serve;

use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use fixture::{Fixture, Transport};

/// A name, and what is tried.
type Case = (&'static str, fn(&Fixture));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--serve", directory, ..] => return serve::serve(Path::new(directory), &arguments[2..]),
        ["--read", path] => return refusals::read(path),
        _ => {}
    }
    let wanted: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    // What needs a tracer: the code is the same over vsock.
    let traced = if matches!(Transport::chosen(), Transport::Unix) { refusals::TRACED } else { &[] };
    let cases = [ends::CASES, load::CASES, messages::CASES, refusals::CASES, traced].concat();
    let cases: Vec<Case> = cases
        .into_iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())))
        .collect();
    let transport = match Transport::chosen() {
        Transport::Unix => "unix sockets in place of vsock".to_owned(),
        Transport::Vsock(program) => format!("vsock, {}", program.display()),
    };
    println!("{} cases over {transport}", cases.len());
    let mut failed = Vec::new();
    for (name, case) in &cases {
        let start = Instant::now();
        let passed = catch_unwind(|| case(&Fixture::new())).is_ok();
        let seconds = start.elapsed().as_secs_f32();
        println!("test {name} ... {} ({seconds:.2} s)", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    println!("{} passed, {} failed {failed:?}", cases.len() - failed.len(), failed.len());
    if failed.is_empty() && !cases.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
