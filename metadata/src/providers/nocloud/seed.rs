// SPDX-License-Identifier: Apache-2.0
//! `ds=nocloud;KEY=VALUE;...` on the kernel command line, or as the serial
//! number of the machine.
//!
//! Source: "NoCloud" of the cloud-init documentation.

use crate::facts::Facts;
use crate::facts::dmi::Dmi;

/// What it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Where `user-data` and `meta-data` are: a prefix, which ends in `/`.
    pub from: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// The instance's id.
    pub instance_id: Option<String>,
}

impl Seed {
    /// From the command line, else from the serial number. `None` if neither
    /// says anything of NoCloud.
    pub fn of(facts: &Facts) -> Option<Self> {
        let keys = ["ds", "ci.ds", "ci.datasource"];
        let serial = || facts.dmi()?.product_serial.as_deref()?.strip_prefix("ds=");
        let words = keys.iter().filter_map(|key| facts.cmdline.get(key)).chain(serial());
        words.into_iter().find_map(|word| Self::parse(word, facts.dmi()))
    }

    fn parse(word: &str, dmi: Option<&Dmi>) -> Option<Self> {
        let mut parts = word.split(';');
        let name = parts.next()?.to_ascii_lowercase();
        if name != "nocloud" && name != "nocloud-net" {
            return None;
        }
        let mut seed = Self::default();
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key {
                "s" | "seedfrom" => seed.from = Some(filled_in(value, dmi)),
                "h" | "local-hostname" => seed.hostname = Some(value.to_owned()),
                "i" | "instance-id" => seed.instance_id = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(seed)
    }
}

/// Replaces `__dmi.NAME__` by the SMBIOS field, under the names that
/// dmidecode(8) has for them. A field that is not there leaves nothing.
fn filled_in(text: &str, dmi: Option<&Dmi>) -> String {
    let fields = dmi.map(|dmi| {
        [
            ("system-manufacturer", &dmi.sys_vendor),
            ("system-product-name", &dmi.product_name),
            ("system-serial-number", &dmi.product_serial),
            ("system-uuid", &dmi.product_uuid),
            ("chassis-asset-tag", &dmi.chassis_asset_tag),
            ("baseboard-asset-tag", &dmi.board_asset_tag),
            ("bios-vendor", &dmi.bios_vendor),
            ("bios-version", &dmi.bios_version),
        ]
    });
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("__dmi.") {
        let Some((name, after)) = after.split_once("__") else { break };
        let known = fields.iter().flatten().find(|(own, _)| *own == name);
        out.push_str(before);
        out.push_str(known.and_then(|(_, value)| value.as_deref()).unwrap_or_default());
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use init::cmdline::Cmdline;

    fn seed(line: &str, serial: Option<&str>) -> Option<Seed> {
        let dmi = Dmi { product_serial: serial.map(str::to_owned), ..Dmi::default() };
        Seed::of(&Facts { cmdline: Cmdline::parse(line), dmi: Some(dmi), ..Facts::default() })
    }

    #[test]
    fn from_the_command_line_or_the_serial_number() {
        let expected = Seed {
            from: Some("http://10.0.0.1/seed/".into()),
            hostname: Some("h".into()),
            instance_id: Some("i-1".into()),
        };
        let tail = "s=http://10.0.0.1/seed/;h=h;i=i-1";
        assert_eq!(seed(&format!("quiet ds=nocloud;{tail}"), None), Some(expected.clone()));
        assert_eq!(seed(&format!("ds=nocloud-net;{tail}"), None), Some(expected.clone()));
        assert_eq!(seed("", Some(&format!("ds=nocloud;{tail}"))), Some(expected));
        assert_eq!(seed("ds=nocloud", None), Some(Seed::default()));
        assert_eq!(seed("ds=ec2", Some("4711")), None);
    }

    #[test]
    fn smbios_fields_are_filled_in() {
        let from = |text: &str| seed(&format!("ds=nocloud;s={text}"), Some("77")).unwrap().from.unwrap();
        assert_eq!(from("http://h/__dmi.system-serial-number__/"), "http://h/77/");
        assert_eq!(from("http://h/__dmi.system-uuid__/__dmi.x__/"), "http://h///");
        assert_eq!(from("http://h/__dmi.broken/"), "http://h/__dmi.broken/");
    }
}
