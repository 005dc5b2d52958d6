// SPDX-License-Identifier: Apache-2.0
//! Equinix Metal, formerly Packet: bare metal whose network is made as the
//! service says, interfaces bonded. The service knows the caller by its
//! address, so it is asked for everything before the network is touched.
//!
//! Source: "Metadata" of the Equinix Metal documentation.

pub mod apply;
pub mod document;
pub mod network;

use std::time::Duration;

use init::confine::Capability;
use init::net::Netlink;

use self::document::{Document, Network};
use super::leaves::user_data;
use super::session::Certainty;
use super::{Class, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::http::{Request, Settings, Url};

/// The row of the table.
pub static ROW: Row = Row {
    name: "equinixmetal",
    aliases: &["packet"],
    class: Class::Network,
    guess: true,
    media: false,
    patience: PATIENCE,
    evidence: |_| None,
    capabilities: &[Capability::CAP_NET_ADMIN],
    prepare: || {},
    provider: &EquinixMetal,
};

/// Over TLS: the service is on the internet and anybody could answer for it.
const ADDRESSES: &[&str] = &["https://metadata.platformequinix.com"];
const METADATA: &str = "/metadata";
const USER_DATA: &str = "/userdata";
/// Hosts that may be told that the machine is up, beside the service itself.
const HOME: &[&str] = &[".packet.net", ".platformequinix.com"];
/// How long telling may take. Nothing depends on it.
const HOME_PATIENCE: Duration = Duration::from_secs(5);

struct EquinixMetal;

impl Provider for EquinixMetal {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let mut service = session.client("equinixmetal", ADDRESSES);
        let absent = || ProviderError::Absent(format!("{}: the machine is not known", service.url(METADATA)));
        let response = service.get(METADATA)?.ok_or_else(absent)?;
        let document = Document::parse(&response.body)
            .map_err(|error| ProviderError::document(service.url(METADATA), error))?;
        session.claim(&mut service, Certainty::Certain)?;

        let mut found = Found::from_provider("EquinixMetal");
        found.file("hostname", Some(document.hostname));
        found.keys(&document.ssh_keys);
        let request = Request::get(USER_DATA).up_to(session.surroundings.userdata_limit);
        found.user_data(user_data(&service, USER_DATA, service.send(&request)));
        // A script for the network boot loader, which has run by now.
        found.userdata = found.userdata.filter(|bytes| !bytes.starts_with(b"#!ipxe"));

        let network = document.network;
        if session.surroundings.network {
            found.afterwards("set up the network", true, move |session, _| set_up(session, &network));
        }
        if let Some(url) = document.phone_home_url {
            // The call says that the machine is as it should be.
            found.afterwards("phone home", false, move |session, outcome| match outcome.failures.first() {
                None => phone_home(session, &url),
                Some(failure) => Err(ProviderError::Absent(format!("the machine is not ready: {failure}"))),
            });
        }
        Ok(found)
    }
}

fn set_up(session: &Session, network: &Network) -> Result<(), ProviderError> {
    let mut netlink = Netlink::open()?;
    let machine = network::Machine::look(&mut netlink)?;
    let plan = network::plan(network, &machine).map_err(ProviderError::Absent)?;
    for action in &plan {
        crate::debug!(session.log(), "network: {action}");
    }
    apply::apply(&mut netlink, &plan).map_err(|error| ProviderError::document("network", error))
}

/// The address is in the clear and not the service's own: nothing is sent but
/// the fact that the machine is up, and only to where it is expected to go.
fn phone_home(session: &Session, url: &str) -> Result<(), ProviderError> {
    let url: Url = url.parse().map_err(|error| ProviderError::document("phone_home_url", error))?;
    let own = session.address("equinixmetal");
    let host = url.host.to_string();
    let expected =
        HOME.iter().any(|domain| host.ends_with(domain)) || own.is_some_and(|own| own.host == url.host);
    if !expected {
        return Err(ProviderError::document("phone_home_url", format!("{url} is not a host to call")));
    }
    session.hurry(HOME_PATIENCE);
    let path = if url.path.is_empty() { "/".to_owned() } else { url.path.clone() };
    let endpoint = Url { path: String::new(), ..url };
    let service = session.client_at(vec![endpoint], Settings::default());
    let response = service.send(&Request::send("POST", &path, "application/json", ""))?;
    match response.status {
        200..=299 => Ok(()),
        _ => Err(service.refusal(&response, "POST", &path).into()),
    }
}

#[cfg(test)]
mod tests;
