// SPDX-License-Identifier: Apache-2.0
#![no_main]

use init::net::Address;
use libfuzzer_sys::fuzz_target;
use metadata::providers::equinixmetal::document::Document;
use metadata::providers::equinixmetal::network::{LinkState, Machine, plan};

// Equinix Metal's document, and the plan for the network that follows from it.
fuzz_target!(|input: &[u8]| {
    let Ok(document) = Document::parse(input) else { return };
    let link = |index: u32, name: &str| LinkState {
        index,
        name: name.to_owned(),
        mac: format!("b4:96:91:00:00:{index:02x}"),
        up: true,
        addresses: vec![Address::new(index, "192.0.2.2".parse().unwrap(), 31)],
        ..LinkState::default()
    };
    let machine = Machine { links: vec![link(1, "eth0"), link(2, "eth1"), link(3, "bond0")], routes: Vec::new() };
    if let Ok(actions) = plan(&document.network, &machine) {
        for action in actions {
            assert_eq!(action.inverse().inverse(), action);
            let _ = action.to_string();
        }
    }
});
