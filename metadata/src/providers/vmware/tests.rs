// SPDX-License-Identifier: Apache-2.0
use super::*;
use hypervisor::Hypervisor;
use init::sys::backdoor::Registers;
use std::collections::HashMap;
use std::io::Write as _;

#[path = "../../../tests/support/hypervisor.rs"]
mod hypervisor;

impl Port for Hypervisor {
    fn call(&mut self, registers: Registers) -> Registers {
        Self::call(self, registers)
    }
}

fn info(values: &[(&'static str, &[u8])]) -> Result<Found, ProviderError> {
    let values = values.iter().map(|(key, value)| (*key, value.to_vec())).collect();
    guest_info(&mut Rpc::new(Hypervisor::new(values)).unwrap(), 1 << 20)
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
        let mut port = Hypervisor::new(values.clone());
        port.snapshot = Some(steps);
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
