// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::providers::azure::ovf::Ovf;

// Azure's provisioning document.
fuzz_target!(|input: &[u8]| {
    let _ = Ovf::parse(input);
});
