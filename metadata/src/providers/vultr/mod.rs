// SPDX-License-Identifier: Apache-2.0
//! Vultr.
//!
//! Source: "Metadata" of the Vultr documentation.

use serde::Deserialize;

use super::leaves::{Lines, document, or_default, user_data};
use super::session::Certainty;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::http::Request;

/// The row of the table.
pub static ROW: Row = Row {
    name: "vultr",
    aliases: &[],
    class: Class::Network,
    guess: true,
    media: false,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &Vultr,
};

const ADDRESSES: &[&str] = &["http://169.254.169.254"];
const PATH: &str = "/v1.json";
/// The document has the user data encoded; this has it as it was given.
const USER_DATA: &str = "/latest/user-data";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    instanceid: String,
    interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "or_default")]
    hostname: String,
    #[serde(default)]
    public_keys: Lines,
    #[serde(default, deserialize_with = "or_default")]
    region: Region,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Interface {
    #[serde(default, deserialize_with = "or_default")]
    ipv4: Ipv4,
    network_type: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipv4 {
    #[serde(deserialize_with = "or_default")]
    address: String,
    #[serde(deserialize_with = "or_default")]
    netmask: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Region {
    #[serde(deserialize_with = "or_default")]
    regioncode: String,
}

struct Vultr;

impl Provider for Vultr {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let mut service = session.client("vultr", ADDRESSES);
        let document: Document = document(&service, PATH, service.get(PATH)?.as_ref())?;
        session.claim(&mut service, Certainty::Certain)?;

        let mut found = Found::from_provider("Vultr");
        let request = Request::get(USER_DATA).up_to(session.surroundings.userdata_limit);
        found.user_data(user_data(&service, USER_DATA, service.send(&request)));
        fill(&mut found, document);
        Ok(found)
    }
}

fn fill(found: &mut Found, document: Document) {
    let by_type = |kind: &str, position: usize| {
        let has_type = document.interfaces.iter().any(|interface| interface.network_type.is_some());
        let mut numbered = document.interfaces.iter().enumerate();
        let interface = numbered.find(|(index, interface)| match &interface.network_type {
            Some(own) => own == kind,
            None => !has_type && *index == position,
        });
        interface.map(|(_, interface)| &interface.ipv4)
    };
    let (public, private) = (by_type("public", 0), by_type("private", 1));
    found.file("public_ipv4", public.map(|ipv4| ipv4.address.as_str()));
    found.file("private_ipv4", private.map(|ipv4| ipv4.address.as_str()));
    found.file("private_netmask", private.map(|ipv4| ipv4.netmask.as_str()));
    found.file("hostname", Some(document.hostname));
    found.file("instance_id", Some(document.instanceid));
    found.file("region_code", Some(document.region.regioncode));
    found.keys(document.public_keys.as_slice());
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    if facts.dmi().is_some_and(|dmi| dmi.sys_vendor.as_deref() == Some("Vultr")) {
        return Evidence::vendor("SMBIOS sys_vendor is Vultr");
    }
    // Bare metal has the board's own SMBIOS.
    if facts.cmdline.words().any(|word| word == ("vultr", None)) {
        return Evidence::vendor("the kernel command line has the word vultr");
    }
    if facts.markers.contains(&"/etc/vultr") {
        return Evidence::vendor("there is a file /etc/vultr");
    }
    None
}

#[cfg(test)]
mod tests;
