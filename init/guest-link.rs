// SPDX-License-Identifier: Apache-2.0
//! The build script of every guest program: links it without tables for
//! unwinding the stack. They are an eighth of a program, and nobody reads
//! them: a panic in a guest program aborts it.

use std::env;
use std::path::PathBuf;

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let script = package.ancestors().map(|folder| folder.join("init/no-unwinding.ld")).find(|it| it.exists());
    let Some(script) = script else {
        return println!("cargo::error=no init/no-unwinding.ld above {}", package.display());
    };
    println!("cargo::rerun-if-changed={}", script.display());
    println!("cargo::rerun-if-changed={}", script.with_file_name("guest-link.rs").display());
    // Cargo tells a build script no profile of our own; the guest's alone is
    // optimised for size. Programs of other profiles do unwind.
    if env::var("OPT_LEVEL").is_ok_and(|level| level == "z") {
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{}", script.display());
    }
}
