// SPDX-License-Identifier: Apache-2.0
//! `format`, `mountie` and `swap.sh`: one file by three names.

use std::process::ExitCode;

fn main() -> ExitCode {
    disk::main(std::env::args_os())
}
