// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::http::Limits;
use metadata::http::message::Reader;

const LIMITS: Limits = Limits { head: 4096, body: 4096 };

// Responses on one connection. Cut into pieces they must be the same ones.
fuzz_target!(|input: &[u8]| {
    let mut whole = Reader::new(input);
    let mut pieces = Reader::new(Pieces(input));
    loop {
        let (a, b) = (whole.response("GET", LIMITS), pieces.response("GET", LIMITS));
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
        let Ok(response) = a else { return };
        assert!(response.body.len() <= LIMITS.body);
    }
});

struct Pieces<'a>(&'a [u8]);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.len().min(7).min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}
