// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::providers::{nocloud, openstack};
use metadata::volume::Volume;
use metadata_fuzz::Sparse;

const LIMIT: usize = 64 << 10;

// A disk of any format, as every provider that reads disks sees it.
fuzz_target!(init: metadata_fuzz::seeds(), |input: &[u8]| {
    let (volume, _) = Volume::open(Sparse::new(input));
    let _ = nocloud::drive(&volume, "CDROM", LIMIT);
    let _ = openstack::drive(&volume, LIMIT);
    if let Ok(Some(bytes)) = volume.read("ovf-env.xml", LIMIT) {
        assert!(bytes.len() <= LIMIT);
    }
});
