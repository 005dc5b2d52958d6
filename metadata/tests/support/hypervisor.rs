// SPDX-License-Identifier: Apache-2.0
//! VMware's hypervisor as its guests see it.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests"
)]

use std::collections::HashMap;

use init::sys::backdoor::Registers;

/// A hypervisor as its clients see it: registers in, registers out. Written
/// from the protocol's description and not from the code under test.
#[derive(Default)]
pub struct Hypervisor {
    /// What `info-get` finds.
    pub values: HashMap<&'static str, Vec<u8>>,
    request: Vec<u8>,
    wanted: usize,
    answer: Vec<u8>,
    given: usize,
    open: bool,
    /// Steps until a snapshot comes between.
    pub snapshot: Option<usize>,
}

const COOKIE: (u32, u32) = (0xC001, 0xC002);
const CHANNEL: u32 = 3 << 16;

impl Hypervisor {
    pub fn new(values: HashMap<&'static str, Vec<u8>>) -> Self {
        Self { values, ..Self::default() }
    }

    /// One call.
    pub fn call(&mut self, registers: Registers) -> Registers {
        let Registers { ebx, ecx, edx, esi, edi, .. } = registers;
        let (command, step) = (ecx & 0xFFFF, ecx >> 16);
        if command == 10 {
            return Registers { eax: 6, ebx: 0x564D_5868, ecx: 2, ..registers };
        }
        assert_eq!(command, 30);
        let status = |bits: u32, ebx, edx| Registers { eax: 0, ebx, ecx: bits << 16 | 30, edx, esi, edi };
        if step == 0 {
            assert_eq!(ebx, 0x4943_5052 | 0x8000_0000);
            assert!(!self.open, "opened twice without closing");
            self.open = true;
            return Registers { esi: COOKIE.0, edi: COOKIE.1, ..status(1, 0, CHANNEL) };
        }
        assert_eq!((edx & 0xFFFF_0000, esi, edi), (CHANNEL, COOKIE.0, COOKIE.1));
        if step != 6 {
            match &mut self.snapshot {
                Some(0) => {
                    self.snapshot = None;
                    return status(0x10, 0, edx);
                }
                Some(left) => *left -= 1,
                None => {}
            }
        }
        match step {
            1 => {
                (self.wanted, self.request) = (ebx as usize, Vec::new());
                status(1, 0, edx)
            }
            2 => {
                let left = self.wanted - self.request.len();
                self.request.extend(ebx.to_le_bytes().iter().take(left));
                status(1, 0, edx)
            }
            3 => {
                assert_eq!(self.request.len(), self.wanted);
                let request = String::from_utf8(self.request.clone()).unwrap();
                let key = request.strip_prefix("info-get ").unwrap();
                self.answer = match self.values.get(key) {
                    Some(value) => [b"1 ", value.as_slice()].concat(),
                    None => b"0 No value found".to_vec(),
                };
                self.given = 0;
                status(1 | 2, self.answer.len() as u32, 1 << 16)
            }
            4 => {
                assert_eq!(ebx, 1);
                let mut word = [0; 4];
                let rest = &self.answer[self.given..];
                word[..rest.len().min(4)].copy_from_slice(&rest[..rest.len().min(4)]);
                self.given += 4;
                status(1, u32::from_le_bytes(word), 2 << 16)
            }
            5 => {
                assert!(self.given >= self.answer.len());
                status(1, 0, 3 << 16)
            }
            6 => {
                self.open = false;
                status(1, 0, edx)
            }
            other => panic!("step {other}"),
        }
    }
}
