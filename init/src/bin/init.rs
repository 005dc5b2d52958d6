// SPDX-License-Identifier: Apache-2.0
//! PID 1 and the first program of an initrd.
fn main() {}
