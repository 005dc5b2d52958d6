// SPDX-License-Identifier: Apache-2.0
//! metaldata, a service for bare metal under a name of the local network.
//!
//! The name has no domain: whoever answers for it on this network is believed.
//! So it is asked only when it is named.

use super::leaves::{files, value};
use super::session::Certainty;
use super::{Class, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::http::Request;

/// The row of the table.
pub static ROW: Row = Row {
    name: "metaldata",
    aliases: &[],
    class: Class::Network,
    guess: false,
    media: false,
    patience: PATIENCE,
    evidence: |_| None,
    capabilities: &[],
    prepare: || {},
    provider: &Metaldata,
};

const ADDRESSES: &[&str] = &["http://metaldata"];
const HOSTNAME: &str = "/get/meta/hostname";
const KEYS: &str = "/get/meta/authorized-keys";
const USER_DATA: &str = "/get/user";
const LEAVES: &[(&str, &str)] = &[
    ("/get/meta/public-ipv4", "public_ipv4"),
    ("/get/meta/private-ipv4", "private_ipv4"),
    ("/get/meta/failure-domain", "failure_domain"),
    ("/get/meta/machine-id", "machine_id"),
    ("/get/meta/machine-type", "machine_type"),
];

struct Metaldata;

impl Provider for Metaldata {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let mut service = session.client("metaldata", ADDRESSES);
        let absent = || ProviderError::Absent(format!("{}: not found", service.url(HOSTNAME)));
        let hostname = service.get(HOSTNAME)?.ok_or_else(absent)?;
        if crate::hostname::kernel_name(&hostname.body).is_err() {
            return Err(service.unexpected(HOSTNAME, "the answer is no host name").into());
        }
        session.claim(&mut service, Certainty::Certain)?;

        let mut found = Found::from_provider("metaldata");
        found.file("hostname", Some(hostname.body));
        files(&service, &mut found, LEAVES);
        let requests =
            [Request::get(KEYS), Request::get(USER_DATA).up_to(session.surroundings.userdata_limit)];
        let mut results = service.send_all(&requests, requests.len()).into_iter();
        match results.next().map_or(Ok(None), |result| value(&service, KEYS, result)) {
            Ok(keys) => found.keys(keys.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => found.problem(error),
        }
        found.user_data(results.next().map_or(Ok(None), |result| value(&service, USER_DATA, result)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
