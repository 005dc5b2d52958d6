// SPDX-License-Identifier: Apache-2.0
//! `rc.init`, `rc.shutdown`, `service`: see the library.

fn main() -> std::process::ExitCode {
    rc::cli::main()
}
