// SPDX-License-Identifier: Apache-2.0
//! Google Compute Engine. One request brings everything.
//!
//! Source: "About VM metadata" of the Compute Engine documentation.

mod keys;

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use serde::Deserialize;

use super::leaves::{Scalar, or_default, parse};
use super::session::Certainty;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::http::{Request, Settings};

/// The row of the table.
pub static ROW: Row = Row {
    name: "gcp",
    aliases: &["gce"],
    class: Class::Network,
    guess: true,
    media: false,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &Gcp,
};

/// The address behind metadata.google.internal, and that of machines without IPv4.
const ADDRESSES: &[&str] = &["http://169.254.169.254", "http://[fd20:ce::254]"];
const PATH: &str = "/computeMetadata/v1/?recursive=true&alt=json";
/// Google's limit for all values of a project and an instance is 512 KiB each.
const LIMIT: usize = 4 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    #[serde(deserialize_with = "or_default")]
    instance: Instance,
    #[serde(deserialize_with = "or_default")]
    project: Project,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Instance {
    id: Option<Scalar>,
    #[serde(deserialize_with = "or_default")]
    hostname: String,
    #[serde(deserialize_with = "or_default")]
    attributes: Attributes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Project {
    #[serde(deserialize_with = "or_default")]
    attributes: Attributes,
}

type Attributes = BTreeMap<String, String>;

struct Gcp;

impl Provider for Gcp {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let settings =
            Settings { fields: vec![("Metadata-Flavor", "Google".to_owned())], ..Settings::default() };
        let mut service = session.client_with("gcp", ADDRESSES, settings);
        let response = service.send(&Request::get(PATH).up_to(LIMIT))?;
        let response = service.found(response, "GET", PATH)?;
        let google = response.filter(|response| response.field("metadata-flavor") == Some("Google"));
        // Others at this address do not answer with the field of the request.
        let response =
            google.ok_or_else(|| service.unexpected(PATH, "this is not Google's metadata service"))?;
        session.claim(&mut service, Certainty::Certain)?;
        let document: Document = parse(&service.url(PATH), &response.body)?;
        if document.instance.id.is_none() {
            return Err(service.unexpected(PATH, "the instance has no id").into());
        }
        Ok(found(&document, SystemTime::now()))
    }
}

fn found(document: &Document, now: SystemTime) -> Found {
    let (instance, project) = (&document.instance, &document.project);
    let mut found = Found::from_provider("GCP");
    found.file("hostname", Some(instance.hostname.as_str()));
    found.keys(keys::all(&instance.attributes, &project.attributes, now));
    if let Some(text) = instance.attributes.get("user-data") {
        found.userdata = Some(text.as_bytes().to_vec());
        if instance.attributes.get("user-data-encoding").is_some_and(|encoding| encoding == "base64") {
            let bare: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            match base64::engine::general_purpose::STANDARD.decode(bare) {
                Ok(bytes) => found.userdata = Some(bytes),
                Err(error) => found.problem(format!("user-data is kept as it is: not base64: {error}")),
            }
        }
    }
    found
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    let dmi = facts.dmi()?;
    match (dmi.product_name.as_deref(), dmi.product_serial.as_deref()) {
        (Some(name @ ("Google Compute Engine" | "Google")), _) => {
            Evidence::vendor(format!("SMBIOS product_name is {name}"))
        }
        (_, Some(serial)) if serial.starts_with("GoogleCloud-") => {
            Evidence::vendor(format!("SMBIOS product_serial {serial} begins with GoogleCloud-"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
