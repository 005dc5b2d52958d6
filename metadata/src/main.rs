// SPDX-License-Identifier: Apache-2.0
//! The program: see the library.
fn main() {}
