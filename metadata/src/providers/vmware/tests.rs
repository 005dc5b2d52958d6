// SPDX-License-Identifier: Apache-2.0
use super::*;
use init::sys::backdoor::Registers;
use std::collections::HashMap;
use std::io::Write as _;

/// A hypervisor as its clients see it: registers in, registers out. Written
/// from the protocol's description and not from the code under test.
#[derive(Default)]
struct Hypervisor {
    values: HashMap<&'static str, Vec<u8>>,
    request: Vec<u8>,
    wanted: usize,
    answer: Vec<u8>,
    given: usize,
    open: bool,
    /// Steps until a snapshot comes between.
    snapshot: Option<usize>,
}

const COOKIE: (u32, u32) = (0xC001, 0xC002);
const CHANNEL: u32 = 3 << 16;

impl Port for Hypervisor {
    fn call(&mut self, registers: Registers) -> Registers {
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

fn info(values: &[(&'static str, &[u8])]) -> Result<Found, ProviderError> {
    let values = values.iter().map(|(key, value)| (*key, value.to_vec())).collect();
    guest_info(&mut Rpc::new(Hypervisor { values, ..Hypervisor::default() }).unwrap(), 1 << 20)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn b64(bytes: &[u8]) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.encode(bytes).into_bytes()
}

#[test]
fn keys_in_every_encoding() {
    let packed = b64(&gzip(b"packed"));
    let found = info(&[
        ("guestinfo.userdata", b"cGxh\naW4="),
        ("guestinfo.userdata.encoding", b"B64 "),
        ("guestinfo.metadata", &packed),
        ("guestinfo.metadata.encoding", b"gzip+base64"),
        ("guestinfo.vendordata", b"  as it is\n"),
    ])
    .unwrap();
    assert_eq!(found.userdata.unwrap(), b"plain");
    assert_eq!(found.files.get("metadata").unwrap(), b"packed");
    assert_eq!(found.files.get("vendordata").unwrap(), b"  as it is\n");
    assert_eq!(found.provider, "VMWARE");
}

#[test]
fn blank_and_cleared_keys_are_not_set() {
    assert!(matches!(info(&[]), Err(ProviderError::Absent(_))));
    assert!(matches!(
        info(&[("guestinfo.userdata", b"---"), ("guestinfo.metadata", b" \n")]),
        Err(ProviderError::Absent(_))
    ));
    // A blank encoding is none.
    let found = info(&[("guestinfo.userdata", b"x"), ("guestinfo.userdata.encoding", b" ")]).unwrap();
    assert_eq!(found.userdata.unwrap(), b"x");
}

#[test]
fn what_cannot_be_decoded_is_said() {
    let text = |values: &[(&'static str, &[u8])]| info(values).unwrap().problems.remove(0).text;
    let with = |value: &'static [u8], encoding: &'static [u8]| {
        text(&[("guestinfo.userdata", value), ("guestinfo.userdata.encoding", encoding)])
    };
    assert!(with(b"?", b"base64").contains("guestinfo.userdata: it is not base64"));
    assert!(with(b"aGk=", b"gz+b64").contains("it does not unpack"));
    assert!(with(b"x", b"rot13").contains("\"rot13\" is not an encoding that is known"));
}

#[test]
fn a_bomb_is_not_unpacked() {
    let bomb = b64(&gzip(&vec![0; 64 << 20]));
    let found = info(&[("guestinfo.userdata", &bomb), ("guestinfo.userdata.encoding", b"gz+b64")]).unwrap();
    assert!(found.problems[0].text.contains("more than 1048576 bytes"), "{}", found.problems[0].text);
}

#[test]
fn a_snapshot_in_between_is_survived() {
    let values: HashMap<&'static str, Vec<u8>> = [("guestinfo.userdata", b"value".to_vec())].into();
    for steps in 0..12 {
        let port = Hypervisor { values: values.clone(), snapshot: Some(steps), ..Hypervisor::default() };
        let found = guest_info(&mut Rpc::new(port).unwrap(), 100).unwrap();
        assert_eq!(found.userdata.as_deref(), Some(b"value".as_slice()), "after {steps}");
    }
}

#[test]
fn a_value_may_be_large_but_not_too_large() {
    let large = vec![b'x'; 300_001];
    let found = info(&[("guestinfo.userdata", &large)]).unwrap();
    assert_eq!(found.userdata.unwrap().len(), large.len());
    let huge = vec![b'x'; LIMIT + 1];
    let found = info(&[("guestinfo.userdata", &huge)]).unwrap();
    assert!(found.problems[0].text.contains("more than are read"));
}

#[test]
fn nobody_answers_on_other_machines() {
    struct Bus;
    impl Port for Bus {
        fn call(&mut self, registers: Registers) -> Registers {
            Registers { eax: u32::MAX, ..registers }
        }
    }
    assert!(Rpc::new(Bus).is_err());
    if init::sys::cpu::hypervisor().as_deref() != Some("VMwareVMware") {
        assert!(Backdoor::open().is_none());
    }
}
