// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::providers::{Found, nocloud};

// NoCloud's meta-data, in YAML.
fuzz_target!(|input: &[u8]| {
    nocloud::meta_data(&mut Found::default(), input);
});
