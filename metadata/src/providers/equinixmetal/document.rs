// SPDX-License-Identifier: Apache-2.0
//! The service's document, as far as it is used.

use std::net::IpAddr;

use serde::Deserialize;

use crate::errors;
use crate::providers::leaves::or_default;

/// `/metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Document {
    id: String,
    /// The host name.
    #[serde(deserialize_with = "or_default")]
    pub hostname: String,
    /// SSH keys.
    #[serde(deserialize_with = "or_default")]
    pub ssh_keys: Vec<String>,
    /// What the machine's network is to be.
    #[serde(deserialize_with = "or_default")]
    pub network: Network,
    /// Whom to tell that the machine is up.
    pub phone_home_url: Option<String>,
}

/// What the machine's network is to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    /// How interfaces are bonded.
    #[serde(deserialize_with = "or_default")]
    pub bonding: Bonding,
    /// The interfaces.
    #[serde(deserialize_with = "or_default")]
    pub interfaces: Vec<Interface>,
    /// The addresses, of all interfaces together.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<Address>,
}

/// How interfaces are bonded.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Bonding {
    /// The mode's number (Documentation/networking/bonding.rst).
    pub mode: Option<u8>,
}

/// An interface.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// What it is to be called.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Its hardware address, by which it is known.
    #[serde(deserialize_with = "or_default")]
    pub mac: String,
    /// The bond it belongs to.
    pub bond: Option<String>,
}

/// An address.
#[derive(Debug, Clone, Deserialize)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// How many of its leading bits are the network's.
    pub cidr: u8,
    /// The router of its network.
    pub gateway: Option<IpAddr>,
    /// Whether it is an address of the internet.
    #[serde(default)]
    pub public: bool,
    /// Whether it is in use.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl Document {
    /// Reads the document. One without an id is somebody else's, or says that
    /// the caller is not known.
    ///
    /// # Errors
    /// In words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| errors::json(&error))?;
        if document.id.is_empty() {
            return Err("it has no id".to_owned());
        }
        Ok(document)
    }
}
