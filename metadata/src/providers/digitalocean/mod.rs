// SPDX-License-Identifier: Apache-2.0
//! DigitalOcean droplets.
//!
//! Source: "Droplet metadata API" of the DigitalOcean documentation.

use serde::Deserialize;

use super::leaves::{Lines, Scalar, document, or_default, user_data};
use super::session::Certainty;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::http::Request;

/// The row of the table.
pub static ROW: Row = Row {
    name: "digitalocean",
    aliases: &[],
    class: Class::Network,
    guess: true,
    media: false,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &DigitalOcean,
};

const ADDRESSES: &[&str] = &["http://169.254.169.254"];
const PATH: &str = "/metadata/v1.json";
/// The document has the user data too, as text; this has it as bytes.
const USER_DATA: &str = "/metadata/v1/user-data";

#[derive(Debug, Deserialize)]
struct Document {
    droplet_id: Scalar,
    #[serde(default, deserialize_with = "or_default")]
    hostname: String,
    #[serde(default, deserialize_with = "or_default")]
    region: String,
    #[serde(default)]
    public_keys: Lines,
    #[serde(default, deserialize_with = "or_default")]
    interfaces: Interfaces,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interfaces {
    #[serde(deserialize_with = "or_default")]
    public: Vec<Interface>,
    #[serde(deserialize_with = "or_default")]
    private: Vec<Interface>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    ipv4: Option<Ipv4>,
}

#[derive(Debug, Deserialize)]
struct Ipv4 {
    ip_address: String,
}

struct DigitalOcean;

impl Provider for DigitalOcean {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let mut service = session.client("digitalocean", ADDRESSES);
        let document: Document = document(&service, PATH, service.get(PATH)?.as_ref())?;
        session.claim(&mut service, Certainty::Certain)?;

        let mut found = Found::from_provider("DigitalOcean");
        found.file("hostname", Some(document.hostname));
        found.file("id", Some(document.droplet_id.to_string()));
        found.file("region", Some(document.region));
        let first = |list: Vec<Interface>| list.into_iter().next()?.ipv4.map(|ipv4| ipv4.ip_address);
        found.file("public_ipv4", first(document.interfaces.public));
        found.file("private_ipv4", first(document.interfaces.private));
        found.keys(document.public_keys.as_slice());
        let request = Request::get(USER_DATA).up_to(session.surroundings.userdata_limit);
        found.user_data(user_data(&service, USER_DATA, service.send(&request)));
        Ok(found)
    }
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    let vendor = facts.dmi()?.sys_vendor.as_deref()?;
    if vendor == "DigitalOcean" { Evidence::vendor("SMBIOS sys_vendor is DigitalOcean") } else { None }
}

#[cfg(test)]
mod tests;
