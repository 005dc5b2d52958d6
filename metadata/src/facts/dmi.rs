// SPDX-License-Identifier: Apache-2.0
//! SMBIOS as the kernel shows it in `/sys/class/dmi/id` (drivers/firmware/dmi-id.c).

use std::fs;
use std::path::Path;

/// The fields the identification looks at. One the kernel does not show is
/// `None` and nothing is concluded from it. `product_uuid` and
/// `product_serial` are shown to root alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dmi {
    /// System manufacturer.
    pub sys_vendor: Option<String>,
    /// System product name.
    pub product_name: Option<String>,
    /// System serial number.
    pub product_serial: Option<String>,
    /// System UUID.
    pub product_uuid: Option<String>,
    /// Chassis asset tag.
    pub chassis_asset_tag: Option<String>,
    /// Baseboard asset tag.
    pub board_asset_tag: Option<String>,
    /// Firmware vendor.
    pub bios_vendor: Option<String>,
    /// Firmware version.
    pub bios_version: Option<String>,
}

/// Longest value that is kept, in bytes: SMBIOS strings are shorter.
const MAX_VALUE: usize = 4096;

impl Dmi {
    /// Reads the directory; `None` where it does not exist.
    pub fn read(dir: &Path) -> Option<Self> {
        if !dir.is_dir() {
            return None;
        }
        Some(Self::from_fields(|name| fs::read(dir.join(name)).ok()))
    }

    /// The fields from wherever `read` gets the bytes of the named file.
    pub fn from_fields(read: impl Fn(&str) -> Option<Vec<u8>>) -> Self {
        let field = |name| read(name).map(|bytes| value(&bytes));
        Self {
            sys_vendor: field("sys_vendor"),
            product_name: field("product_name"),
            product_serial: field("product_serial"),
            product_uuid: field("product_uuid"),
            chassis_asset_tag: field("chassis_asset_tag"),
            board_asset_tag: field("board_asset_tag"),
            bios_vendor: field("bios_vendor"),
            bios_version: field("bios_version"),
        }
    }

    /// Every field with its name in sysfs.
    pub fn fields(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("sys_vendor", self.sys_vendor.as_deref()),
            ("product_name", self.product_name.as_deref()),
            ("product_serial", self.product_serial.as_deref()),
            ("product_uuid", self.product_uuid.as_deref()),
            ("chassis_asset_tag", self.chassis_asset_tag.as_deref()),
            ("board_asset_tag", self.board_asset_tag.as_deref()),
            ("bios_vendor", self.bios_vendor.as_deref()),
            ("bios_version", self.bios_version.as_deref()),
        ]
    }
}

fn value(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MAX_VALUE).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_trimmed_and_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("sys_vendor"), "Hetzner \n").unwrap();
        fs::write(dir.path().join("product_serial"), b"\xff\n").unwrap();
        let dmi = Dmi::read(dir.path()).unwrap();
        assert_eq!(dmi.sys_vendor.as_deref(), Some("Hetzner"));
        assert_eq!(dmi.product_serial.as_deref(), Some("\u{fffd}"));
        assert_eq!(dmi.product_name, None);
        assert_eq!(Dmi::read(&dir.path().join("absent")), None);
    }
}
