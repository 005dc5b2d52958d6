// SPDX-License-Identifier: Apache-2.0
//! The instance metadata service's document.
//!
//! Every value is a string, and one that there is not is an empty string.
//! Interfaces come in any order.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use crate::errors;
use crate::providers::leaves::or_default;

/// `/metadata/instance`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Document {
    /// The machine.
    #[serde(deserialize_with = "or_default")]
    pub compute: Compute,
    /// Its network.
    #[serde(deserialize_with = "or_default")]
    pub network: Network,
    /// What newer versions add.
    #[serde(deserialize_with = "or_default")]
    pub extended: Extended,
}

/// The machine.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Compute {
    #[serde(deserialize_with = "text")]
    vm_id: String,
    #[serde(deserialize_with = "text")]
    vm_size: String,
    #[serde(deserialize_with = "text")]
    location: String,
    #[serde(deserialize_with = "text")]
    zone: String,
    #[serde(deserialize_with = "text")]
    user_data: String,
    #[serde(deserialize_with = "or_default")]
    os_profile: OsProfile,
    #[serde(deserialize_with = "or_default")]
    public_keys: Vec<PublicKey>,
}

/// What its owner wanted it to be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OsProfile {
    #[serde(deserialize_with = "text")]
    computer_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PublicKey {
    #[serde(deserialize_with = "text")]
    key_data: String,
}

/// Its network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    #[serde(deserialize_with = "or_default")]
    interface: Vec<Interface>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Interface {
    #[serde(deserialize_with = "text")]
    mac_address: String,
    #[serde(deserialize_with = "or_default")]
    ipv4: Addresses,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Addresses {
    #[serde(deserialize_with = "or_default")]
    ip_address: Vec<Address>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Address {
    #[serde(deserialize_with = "text")]
    private_ip_address: String,
    #[serde(deserialize_with = "text")]
    public_ip_address: String,
}

/// What newer versions add.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Extended {
    #[serde(deserialize_with = "or_default")]
    compute: ExtendedCompute,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExtendedCompute {
    #[serde(deserialize_with = "text")]
    has_custom_data: String,
    #[serde(deserialize_with = "text")]
    pps_type: String,
}

impl Document {
    /// Reads the document; one without `vmId` is somebody else's.
    ///
    /// # Errors
    /// In words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| errors::json(&error))?;
        if document.compute.vm_id.is_empty() {
            return Err("it has no compute.vmId".to_owned());
        }
        Ok(document)
    }

    /// The values that become files, by the file's name. `mac` is the address
    /// of the interface that the default route leads over.
    pub fn files(&self, mac: Option<&str>) -> Vec<(&'static str, &str)> {
        let compute = &self.compute;
        let mut files = vec![
            ("instance_id", compute.vm_id.as_str()),
            ("instance_type", &compute.vm_size),
            ("region", &compute.location),
            ("availability_zone", &compute.zone),
        ];
        let interfaces = &self.network.interface;
        let primary = mac.and_then(|mac| interfaces.iter().find(|own| bare(&own.mac_address) == bare(mac)));
        let first = primary.or(interfaces.first()).and_then(|interface| interface.ipv4.ip_address.first());
        if let Some(address) = first {
            files.push(("local_ipv4", &address.private_ip_address));
            files.push(("public_ipv4", &address.public_ip_address));
        }
        files
    }

    /// The host name; empty if there is none.
    pub fn hostname(&self) -> &str {
        &self.compute.os_profile.computer_name
    }

    /// SSH keys. A line break inside one is an editor's; certificates and
    /// other things that are no line for sshd(8) are left out.
    pub fn keys(&self) -> Vec<String> {
        let keys = self.compute.public_keys.iter().map(|key| key.key_data.replace(['\r', '\n'], ""));
        keys.filter(|key| !key.contains("-----") && !key.trim_start().starts_with('{')).collect()
    }

    /// User data, decoded.
    pub fn user_data(&self) -> Option<Vec<u8>> {
        let text = self.compute.user_data.as_str();
        (!text.is_empty()).then(|| super::ovf::decode(text))
    }

    /// Whether there is custom data, which only the provisioning disk has.
    pub fn has_custom_data(&self) -> bool {
        self.extended.compute.has_custom_data.eq_ignore_ascii_case("true")
    }

    /// Whether the machine was made for a pool and is yet to get its identity.
    pub fn is_pool_machine(&self) -> bool {
        let kind = &self.extended.compute.pps_type;
        !kind.is_empty() && !kind.eq_ignore_ascii_case("none")
    }
}

/// A hardware address without its colons.
fn bare(mac: &str) -> String {
    mac.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// A text, or what some versions have in place of one.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Any {
        Text(String),
        Truth(bool),
        Number(i64),
        Other(IgnoredAny),
    }
    Ok(match Any::deserialize(deserializer)? {
        Any::Text(text) => text,
        Any::Truth(truth) => truth.to_string(),
        Any::Number(number) => number.to_string(),
        Any::Other(_) => String::new(),
    })
}
