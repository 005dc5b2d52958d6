// SPDX-License-Identifier: Apache-2.0
//! OpenStack: a config drive where there is one, else the service on the
//! network.
//!
//! Source: "Metadata" and "Config drives" of the Nova documentation.

mod document;

use super::leaves::{user_data, value};
use super::session::Certainty;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::facts::media;
use crate::http::{Client, Request};
use crate::volume::{Source, Volume};
use document::{Ec2, MetaData};

/// The row of the table.
pub static ROW: Row = Row {
    name: "openstack",
    aliases: &["configdrive"],
    class: Class::Network,
    guess: true,
    media: true,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &OpenStack,
};

/// The label of a config drive.
const LABEL: &str = "config-2";
const ADDRESS: &str = "http://169.254.169.254";
/// `latest` is the newest of the versions that are named by dates. What is
/// read here has been in all of them, and some clouds have no other.
const META_DATA: &str = "openstack/latest/meta_data.json";
const USER_DATA: &str = "openstack/latest/user_data";
/// EC2's form of the same, which has what Nova's own has not.
const EC2_FILE: &str = "ec2/latest/meta-data.json";
const EC2_LEAVES: &[(&str, &str)] = &[
    ("/latest/meta-data/local-hostname", "local_hostname"),
    ("/latest/meta-data/public-ipv4", "public_ipv4"),
    ("/latest/meta-data/local-ipv4", "local_ipv4"),
    ("/latest/meta-data/instance-type", "instance_type"),
    ("/latest/meta-data/instance-id", "instance_id"),
];
/// Most bytes of a document of a drive.
const LIMIT: usize = 4 << 20;

struct OpenStack;

impl Provider for OpenStack {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        match from_drive(session) {
            Some(Ok(found)) => return Ok(found),
            Some(Err(error)) => crate::error!(session.log(), "openstack: config drive: {error}"),
            None => {}
        }
        from_network(session)
    }
}

/// `None` if there is no config drive.
fn from_drive(session: &Session) -> Option<Result<Found, ProviderError>> {
    // Where nobody can tell who will answer, a drive has been looked for and
    // found already.
    let medium = session.facts().media().iter().find(|medium| medium.is_labelled(LABEL))?;
    let error = |source| ProviderError::File { path: medium.device.clone(), source };
    let result = media::open(&medium.device).map_err(error).and_then(|(volume, _)| {
        drive(&volume, session.surroundings.userdata_limit).map_err(|source| match source {
            DriveError::Volume(source) => ProviderError::Medium { device: medium.device.clone(), source },
            DriveError::Provider(error) => error,
        })
    });
    Some(result)
}

/// Why a config drive is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// It cannot be read.
    #[error(transparent)]
    Volume(#[from] crate::volume::VolumeError),
    /// What is on it makes no sense.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// Everything a config drive has.
///
/// # Errors
/// [`DriveError`].
pub fn drive<S: Source>(volume: &Volume<S>, userdata_limit: usize) -> Result<Found, DriveError> {
    let bytes = volume.read(META_DATA, LIMIT)?;
    let bytes = bytes.ok_or_else(|| ProviderError::Absent(format!("there is no {META_DATA} on it")))?;
    let document = MetaData::parse(META_DATA, &bytes)?;
    let mut found = Found::from_provider("openstack");
    document.fill(&mut found);
    match volume.read(EC2_FILE, LIMIT) {
        Ok(Some(bytes)) => match Ec2::parse(EC2_FILE, &bytes) {
            Ok(ec2) => ec2.fill(&mut found),
            Err(error) => found.problem(error),
        },
        Ok(None) => {}
        Err(error) => found.problem(error),
    }
    if found.files.get("instance_id").is_none() {
        found.file("instance_id", document.uuid.as_deref());
    }
    match volume.read(USER_DATA, userdata_limit) {
        Ok(bytes) => found.userdata = bytes,
        Err(error) => found.missing_user_data(error),
    }
    Ok(found)
}

fn from_network(session: &Session) -> Result<Found, ProviderError> {
    let mut addresses = vec![ADDRESS.to_owned()];
    // The same service for networks without IPv4 is at a link-local address,
    // so there is one for each interface.
    let interfaces = crate::news::interfaces_up().unwrap_or_default();
    addresses.extend(interfaces.iter().map(|name| format!("http://[fe80::a9fe:a9fe%25{name}]")));
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut service = session.client("openstack", &addresses);

    let path = format!("/{META_DATA}");
    let absent = || ProviderError::Absent(format!("{}: not found", service.url(&path)));
    let response = service.get(&path)?.ok_or_else(absent)?;
    let document = MetaData::parse(&service.url(&path), &response.body)?;
    session.claim(&mut service, Certainty::Certain)?;

    let mut found = Found::from_provider("openstack");
    document.fill(&mut found);
    ask_for_the_rest(&service, &mut found, session.surroundings.userdata_limit);
    if found.files.get("instance_id").is_none() {
        found.file("instance_id", document.uuid.as_deref());
    }
    Ok(found)
}

fn ask_for_the_rest(service: &Client, found: &mut Found, userdata_limit: usize) {
    let path = format!("/{USER_DATA}");
    let mut requests: Vec<Request> = EC2_LEAVES.iter().map(|(path, _)| Request::get(*path)).collect();
    requests.push(Request::get(&path).up_to(userdata_limit));
    let mut results = service.send_all(&requests, requests.len());
    found.user_data(results.pop().map_or(Ok(None), |result| user_data(service, &path, result)));
    for ((path, name), result) in EC2_LEAVES.iter().zip(results) {
        match value(service, path, result) {
            Ok(bytes) => found.file(name, bytes),
            Err(error) => found.problem(error),
        }
    }
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    /// Clouds that are OpenStack under another name.
    const TAGS: &[&str] = &[
        "OpenStack Nova",
        "OpenStack Compute",
        "OpenTelekomCloud",
        "SAP CCloud VM",
        "HUAWEICLOUD",
        "Samsung Cloud Platform",
    ];
    if let Some(dmi) = facts.dmi() {
        if let Some(name @ ("OpenStack Nova" | "OpenStack Compute")) = dmi.product_name.as_deref() {
            return Evidence::vendor(format!("SMBIOS product_name is {name}"));
        }
        if let Some(tag) = dmi.chassis_asset_tag.as_deref().filter(|tag| TAGS.contains(tag)) {
            return Evidence::vendor(format!("SMBIOS chassis_asset_tag is {tag}"));
        }
    }
    if facts.openstack_container {
        return Evidence::vendor("the environment of PID 1 says product_name=OpenStack Nova");
    }
    let medium = facts.media().iter().find(|medium| medium.is_labelled(LABEL))?;
    Evidence::medium(format!("{} is labelled {LABEL}", medium.device.display()))
}

#[cfg(test)]
mod tests;
