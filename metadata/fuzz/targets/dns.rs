// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::http::dns::{Resolver, read_answer};

// A name server's datagram, and the files that say where servers are.
fuzz_target!(|input: &[u8]| {
    let _ = read_answer(input, 7, "metadata.example", metadata::http::dns::TYPE::A);
    let text = String::from_utf8_lossy(input);
    let _ = Resolver::parse(&text, &text);
    let _ = text.parse::<metadata::http::Url>();
});
