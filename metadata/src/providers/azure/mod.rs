// SPDX-License-Identifier: Apache-2.0
//! Microsoft Azure: the metadata service on the network, the provisioning
//! disk, and a second service that wants to be told that the machine is ready.
//!
//! User data comes in two kinds. Custom data is given when the machine is made
//! and is on the disk alone; user data can be changed later and is told by the
//! metadata service alone. Custom data goes first.
//!
//! Source: "Azure Instance Metadata Service" and "Creating generalized images
//! without a provisioning agent" of Microsoft's documentation.

pub mod imds;
pub mod lease;
pub mod ovf;
pub mod wireserver;

use std::time::Duration;

use init::net::{Netlink, Route};

use self::imds::Document;
use self::ovf::Ovf;
use self::wireserver::Report;
use super::session::Certainty;
use super::{Class, Evidence, Found, Outcome, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::facts::media::{self, Medium};
use crate::http::retry::Retry;
use crate::http::{Client, Deadline, Request, Settings};
use crate::news::{News, interfaces_up};

/// The row of the table.
pub static ROW: Row = Row {
    name: "azure",
    aliases: &[],
    class: Class::Network,
    guess: true,
    media: true,
    patience: Duration::from_secs(300),
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &Azure,
};

const IMDS: &[&str] = &["http://169.254.169.254"];
const WIRESERVER: &str = "http://168.63.129.16";
/// The version that has what is used, and an older one for older hosts.
const INSTANCE: &str = "/metadata/instance?api-version=2021-08-01&extended=true";
const INSTANCE_OLD: &str = "/metadata/instance?api-version=2019-06-01";
/// Early in a boot the service says that it, or the machine, does not exist.
const NOT_YET: &[u16] = &[404, 408, 410, 429, 500, 502, 503, 504];
/// The file of the provisioning disk.
const OVF_ENV: &str = "ovf-env.xml";
const OVF_LIMIT: usize = 1 << 20;
/// How long the disk may take to appear where it is known that there is one.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
/// How long telling that the machine is ready may take.
const REPORT_PATIENCE: Duration = Duration::from_secs(120);
/// How long telling that it will never be ready may take.
const LAST_WORD: Duration = Duration::from_secs(10);

struct Azure;

impl Provider for Azure {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let result = look(session);
        if let Err(error) = &result {
            give_up(session, error);
        }
        result
    }
}

fn look(session: &Session) -> Result<Found, ProviderError> {
    let disk = from_media(session.facts().media());
    let instance = instance(session);
    let (document, disk) = match (instance, disk) {
        (Ok(document), disk) => (Some(document), disk),
        // The disk alone will do where it is there.
        (Err(error), Some(Ok(disk))) if !session.is_guess() => {
            crate::error!(session.log(), "azure: {error}");
            (None, Some(Ok(disk)))
        }
        (Err(error), _) => return Err(error),
    };
    let mut found = Found::from_provider("Azure");
    let disk = match (disk, &document) {
        (None, Some(document)) if document.has_custom_data() => wait_for_disk(session),
        (disk, _) => disk,
    };
    fill(&mut found, document.as_ref(), disk);
    found.afterwards("tell the platform that the machine is ready", true, report);
    Ok(found)
}

/// The document of the metadata service.
fn instance(session: &Session) -> Result<Document, ProviderError> {
    let settings = Settings { fields: vec![("Metadata", "true".to_owned())], ..Settings::default() };
    let mut imds = session.client_with("azure", IMDS, settings);
    if !session.is_guess() {
        // It is Azure: the service will come, and says so with many codes.
        imds.set_retry(Retry { codes: NOT_YET, attempts: u32::MAX, ..session.retry });
    }
    let (path, response) = match imds.send(&Request::get(INSTANCE))? {
        response if response.status == 400 => (INSTANCE_OLD, imds.send(&Request::get(INSTANCE_OLD))?),
        response => (INSTANCE, response),
    };
    let absent = || ProviderError::Absent(format!("{}: not found", imds.url(path)));
    let response = imds.found(response, "GET", path)?.ok_or_else(absent)?;
    let document =
        Document::parse(&response.body).map_err(|error| ProviderError::document(imds.url(path), error))?;
    session.claim(&mut imds, Certainty::Certain)?;
    Ok(document)
}

type Disk = Option<Result<Ovf, ProviderError>>;

/// The document of the provisioning disk; `None` if no disk has one. Optical
/// drives go first.
fn from_media(media: &[Medium]) -> Disk {
    let (optical, other): (Vec<_>, Vec<_>) = media.iter().partition(|medium| medium.optical);
    let mut failure = None;
    for medium in optical.into_iter().chain(other) {
        match on_disk(medium) {
            Ok(None) => {}
            Ok(Some(ovf)) => return Some(Ok(ovf)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map(Err)
}

fn on_disk(medium: &Medium) -> Result<Option<Ovf>, ProviderError> {
    let device = || medium.device.clone();
    let (volume, _) =
        media::open(&medium.device).map_err(|source| ProviderError::File { path: device(), source })?;
    let bytes = volume
        .read(OVF_ENV, OVF_LIMIT)
        .map_err(|source| ProviderError::Medium { device: device(), source })?;
    let what = || format!("{}: {OVF_ENV}", medium.device.display());
    bytes.map(|bytes| Ovf::parse(&bytes).map_err(|error| ProviderError::document(what(), error))).transpose()
}

fn wait_for_disk(session: &Session) -> Disk {
    let roots = &session.surroundings.roots;
    let end = Deadline::after(DISK_PATIENCE.min(session.remaining()));
    let events = News::of_devices();
    loop {
        let disk = from_media(&media::scan(&roots.sysfs.join("class/block"), &roots.dev));
        if disk.is_some() || end.remaining().is_zero() {
            return disk;
        }
        events.wait(end.remaining());
    }
}

fn fill(found: &mut Found, document: Option<&Document>, disk: Disk) {
    let mac = default_mac();
    let ovf = match disk {
        Some(Ok(ovf)) => Some(ovf),
        Some(Err(error)) => {
            found.missing_user_data(format!("the provisioning disk is of no use: {error}"));
            None
        }
        None => {
            if document.is_some_and(Document::has_custom_data) {
                found.missing_user_data("the machine has custom data, and no provisioning disk has appeared");
            }
            None
        }
    };
    let pool =
        ovf.as_ref().is_some_and(|ovf| ovf.preprovisioned) || document.is_some_and(Document::is_pool_machine);
    if pool {
        found.problem("this is a machine of a pool, which gets its identity later: that is not supported");
    }
    let own_name = document.map(Document::hostname).filter(|name| !name.is_empty());
    found.file("hostname", own_name.or(ovf.as_ref().map(|ovf| ovf.hostname.as_str())));
    for (name, value) in document.map(|document| document.files(mac.as_deref())).unwrap_or_default() {
        found.file(name, Some(value));
    }
    let keys = document.map(Document::keys).unwrap_or_default();
    found.keys(keys.iter().chain(ovf.iter().flat_map(|ovf| &ovf.keys)));
    let custom = ovf.and_then(|ovf| ovf.custom_data);
    found.userdata = custom.or_else(|| document.and_then(Document::user_data));
}

/// The hardware address of the interface with the default route.
fn default_mac() -> Option<String> {
    let mut netlink = Netlink::open().ok()?;
    let routes = netlink.routes().ok()?;
    let defaults = routes.iter().filter(|route| route.destination == Route::DEFAULT.destination);
    let index = defaults.min_by_key(|route| route.metric.unwrap_or(0))?.index?;
    let link = netlink.links().ok()?.into_iter().find(|link| link.index == index)?;
    Some(link.address.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Tells the second service how it went.
fn report(session: &Session, outcome: &Outcome) -> Result<(), ProviderError> {
    session.hurry(REPORT_PATIENCE);
    let report = match outcome.failures.first() {
        None => Report::Ready,
        Some(failure) => Report::NotReady(failure.clone()),
    };
    wireserver::tell(&wireserver_client(session), &report)
}

/// Where it is known that this is Azure, the platform is told that nothing
/// came of it: it shows the reason to the machine's owner, who otherwise waits
/// for twenty minutes and then learns nothing.
fn give_up(session: &Session, error: &ProviderError) {
    if session.is_guess() || interfaces_up().is_some_and(|names| names.is_empty()) {
        return;
    }
    let time = Deadline::after(LAST_WORD);
    let end = session.surroundings.end.map_or(time, |end| time.min(end));
    // The session's own time may be over.
    let last = Session::alone(session.row, session.surroundings.clone(), end);
    let outcome = Outcome { failures: vec![error.to_string()] };
    match report(&last, &outcome) {
        Ok(()) => crate::info!(session.log(), "azure: the platform was told that the machine is not ready"),
        Err(error) => crate::error!(session.log(), "azure: cannot tell the platform either: {error}"),
    }
}

fn wireserver_client(session: &Session) -> Client {
    let leased = lease::wireserver(&session.surroundings.leases).map(|address| format!("http://{address}"));
    // Whoever gives another address for the one service means both.
    let given = session.address("wireserver").or_else(|| session.address("azure"));
    let mut service = match given {
        Some(url) => session.client_at(vec![url], Settings::default()),
        None => session.client("wireserver", &[leased.as_deref().unwrap_or(WIRESERVER)]),
    };
    service.set_retry(Retry { attempts: u32::MAX, ..Retry::default() });
    service
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    const TAG: &str = "7783-7084-3265-9085-8269-3286-77";
    let tag = facts.dmi()?.chassis_asset_tag.as_deref()?;
    if tag == TAG { Evidence::vendor("SMBIOS chassis_asset_tag is Azure's") } else { None }
}

#[cfg(test)]
mod tests;
