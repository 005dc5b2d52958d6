// SPDX-License-Identifier: Apache-2.0
//! Hetzner Cloud.
//!
//! Source: "Server metadata" of the Hetzner Cloud API documentation.

use super::leaves::{Lines, files, user_data, value};
use super::session::Certainty;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::http::Request;

/// The row of the table.
pub static ROW: Row = Row {
    name: "hetzner",
    aliases: &[],
    class: Class::Network,
    guess: true,
    media: false,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &Hetzner,
};

const ADDRESSES: &[&str] = &["http://169.254.169.254"];
const INSTANCE_ID: &str = "/hetzner/v1/metadata/instance-id";
const PUBLIC_KEYS: &str = "/hetzner/v1/metadata/public-keys";
const USER_DATA: &str = "/hetzner/v1/userdata";
const LEAVES: &[(&str, &str)] = &[
    ("/hetzner/v1/metadata/hostname", "hostname"),
    ("/hetzner/v1/metadata/public-ipv4", "public_ipv4"),
    ("/hetzner/v1/metadata/local-ipv4", "local_ipv4"),
];

struct Hetzner;

impl Provider for Hetzner {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let mut service = session.client("hetzner", ADDRESSES);
        let absent = || ProviderError::Absent(format!("{}: not found", service.url(INSTANCE_ID)));
        let id = service.get(INSTANCE_ID)?.ok_or_else(absent)?;
        if id.text().trim().parse::<u64>().is_err() {
            return Err(service.unexpected(INSTANCE_ID, "the answer is no instance id").into());
        }
        session.claim(&mut service, Certainty::Certain)?;

        let mut found = Found::from_provider("Hetzner");
        if let Some(serial) = facts_serial(session.facts()).filter(|serial| *serial != id.text().trim()) {
            found.problem(format!("instance {} answers, and this machine is {serial}", id.text().trim()));
        }
        found.file("instance_id", Some(id.body));
        files(&service, &mut found, LEAVES);
        let requests =
            [Request::get(PUBLIC_KEYS), Request::get(USER_DATA).up_to(session.surroundings.userdata_limit)];
        let mut results = service.send_all(&requests, requests.len()).into_iter();
        match results.next().map_or(Ok(None), |result| value(&service, PUBLIC_KEYS, result)) {
            Ok(keys) => found.keys(key_list(&keys.unwrap_or_default()).as_slice()),
            Err(error) => found.problem(error),
        }
        found.user_data(results.next().map_or(Ok(None), |result| user_data(&service, USER_DATA, result)));
        Ok(found)
    }
}

/// A list in JSON (which is YAML too), or one key a line.
fn key_list(bytes: &[u8]) -> Lines {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Lines::Text(String::from_utf8_lossy(bytes).into_owned()))
}

/// The serial number of a Hetzner machine is its instance id.
fn facts_serial(facts: &Facts) -> Option<&str> {
    evidence(facts)?;
    facts.dmi()?.product_serial.as_deref().filter(|serial| !serial.is_empty())
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    let vendor = facts.dmi()?.sys_vendor.as_deref()?;
    if vendor == "Hetzner" { Evidence::vendor("SMBIOS sys_vendor is Hetzner") } else { None }
}

#[cfg(test)]
mod tests;
