// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::facts::Facts;
use metadata::facts::dmi::Dmi;
use metadata::identify::identify;
use metadata::plan::{Named, plan};
use metadata::providers::nocloud::Seed;

// SMBIOS fields and a kernel command line, separated by line breaks.
fuzz_target!(|input: &[u8]| {
    let fields: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let names = [
        "sys_vendor", "product_name", "product_serial", "product_uuid", "chassis_asset_tag", "board_asset_tag",
        "bios_vendor", "bios_version",
    ];
    let field = |name: &str| {
        let index = names.iter().position(|own| *own == name)?;
        fields.get(index).filter(|bytes| !bytes.is_empty()).map(|bytes| bytes.to_vec())
    };
    let line = fields.get(names.len()).copied().unwrap_or_default();
    let facts = Facts {
        dmi: Some(Dmi::from_fields(field)),
        cmdline: init::cmdline::Cmdline::parse(&String::from_utf8_lossy(line)),
        ..Facts::default()
    };
    let _ = Seed::of(&facts);
    let identification = identify(&facts);
    let _ = plan(&identification, &Named::default());
});
