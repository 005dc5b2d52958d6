// SPDX-License-Identifier: Apache-2.0
//! Scaleway. User data is told to root alone: to connections from a port
//! below 1024.
//!
//! Source: "Metadata API" of the Scaleway documentation.

mod conf;

use init::confine::Capability;

use super::leaves::user_data;
use super::session::Certainty;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::http::connect::LocalPort;
use crate::http::{Client, HttpError, Request, Response, Settings};
use conf::Conf;

/// The row of the table.
pub static ROW: Row = Row {
    name: "scaleway",
    aliases: &[],
    class: Class::Network,
    guess: true,
    media: false,
    patience: PATIENCE,
    evidence,
    capabilities: &[Capability::CAP_NET_BIND_SERVICE],
    prepare: || {},
    provider: &Scaleway,
};

const ADDRESSES: &[&str] = &["http://169.254.42.42", "http://[fd00:42::42]"];
const CONF: &str = "/conf?format=json";
/// The older form, in lines of `KEY=value`.
const CONF_LINES: &str = "/conf";
const USER_DATA: &str = "/user_data/cloud-init";

struct Scaleway;

impl Provider for Scaleway {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let mut service = session.client("scaleway", ADDRESSES);
        let conf = read_conf(&service)?;
        session.claim(&mut service, Certainty::Certain)?;

        let mut found = Found::from_provider("Scaleway");
        found.file("hostname", Some(conf.hostname.as_str()));
        found.file("instance_id", Some(conf.id.as_str()));
        found.file("instance_location", conf.location.as_deref());
        found.file("public_ip", conf.public_ip.as_deref());
        found.file("private_ip", conf.private_ip.as_deref());
        found.keys(&conf.keys);
        let settings = Settings { local_port: LocalPort::Privileged, ..Settings::default() };
        let mut privileged = session.client_with("scaleway", ADDRESSES, settings);
        privileged.be_patient();
        let request = Request::get(USER_DATA).up_to(session.surroundings.userdata_limit);
        found.user_data(user_data(&privileged, USER_DATA, privileged.send(&request)));
        found.afterwards("tell that the machine has booted", false, |session, _| booted(session));
        Ok(found)
    }
}

fn read_conf(service: &Client) -> Result<Conf, ProviderError> {
    let conf = |path: &str, response: Response| {
        Conf::parse(&response.body).map_err(|error| ProviderError::document(service.url(path), error))
    };
    match service.get(CONF)? {
        Some(response) => conf(CONF, response),
        None => {
            let absent = || ProviderError::Absent(format!("{}: not found", service.url(CONF_LINES)));
            conf(CONF_LINES, service.get(CONF_LINES)?.ok_or_else(absent)?)
        }
    }
}

/// Ends the state "booting" that the console shows.
fn booted(session: &Session) -> Result<(), ProviderError> {
    const PATH: &str = "/state";
    let service = session.client("scaleway", ADDRESSES);
    let request = Request::send("PATCH", PATH, "application/json", r#"{"state_detail":"booted"}"#);
    match service.send(&request)? {
        response if (200..300).contains(&response.status) => Ok(()),
        response => Err(HttpError::into(service.refusal(&response, "PATCH", PATH))),
    }
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    if facts.dmi().is_some_and(|dmi| dmi.sys_vendor.as_deref() == Some("Scaleway")) {
        return Evidence::vendor("SMBIOS sys_vendor is Scaleway");
    }
    if facts.cmdline.words().any(|word| word == ("scaleway", None)) {
        return Evidence::vendor("the kernel command line has the word scaleway");
    }
    if facts.markers.contains(&"/var/run/scaleway") {
        return Evidence::vendor("there is a file /var/run/scaleway");
    }
    None
}

#[cfg(test)]
mod tests;
