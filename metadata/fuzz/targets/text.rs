// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;

// Host names, keys and dates: small texts that strangers write.
fuzz_target!(|input: &[u8]| {
    if let Ok(name) = metadata::hostname::kernel_name(input) {
        assert!((1..=64).contains(&name.len()));
    }
    let text = String::from_utf8_lossy(input);
    if let (Some(keys), _) = metadata::keys::authorized_keys([&text]) {
        assert!(keys.ends_with(b"\n") && !keys.contains(&0));
    }
    let _ = metadata::http::retry::retry_after(&text, Some(&text));
});
