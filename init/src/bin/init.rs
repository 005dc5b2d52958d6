// SPDX-License-Identifier: Apache-2.0
//! `/init`, `/sbin/init` and `/sbin/usermode-helper`: see [`init::multicall`].
#![no_main]

init::entry!(init::multicall::main);
