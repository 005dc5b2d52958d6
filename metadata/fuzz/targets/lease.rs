// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::providers::azure::lease::{in_packet, in_text};

// DHCP leases, as packets and as text.
fuzz_target!(|input: &[u8]| {
    let _ = in_packet(input);
    let _ = in_packet(&[&[0; 236], [99, 130, 83, 99].as_slice(), input].concat());
    let _ = in_text(&String::from_utf8_lossy(input));
});
