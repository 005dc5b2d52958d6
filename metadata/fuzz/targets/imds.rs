// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::providers::azure::imds::Document;

// Azure's metadata document.
fuzz_target!(|input: &[u8]| {
    if let Ok(document) = Document::parse(input) {
        let _ = document.files(Some("00:0d:3a:00:00:01"));
        let _ = (document.keys(), document.user_data(), document.hostname());
    }
});
