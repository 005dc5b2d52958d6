// SPDX-License-Identifier: Apache-2.0
//! Amazon EC2 and those that imitate its metadata service (IMDS).
//!
//! Version 2 of the service wants a token with every request, which a PUT
//! gives; version 1 does not. The token is asked for first. Version 1 is used
//! where the service does not know what a token is (404, 405, 501), as
//! imitators do not, or where the PUT is never answered and a request without
//! a token is. A service that is switched off says 403.
//!
//! Source: "Use the Instance Metadata Service" of the EC2 User Guide.

use std::time::Duration;

use super::leaves::value;
use super::session::Certainty;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::http::{Client, HttpError, Request, Response};

/// The row of the table.
pub static ROW: Row = Row {
    name: "aws",
    aliases: &["ec2"],
    class: Class::Network,
    guess: true,
    media: false,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &Aws,
};

/// Where the service is; the second on Nitro instances in IPv6 subnets.
const ADDRESSES: &[&str] = &["http://169.254.169.254", "http://[fd00:ec2::254]"];

/// How long a token lives, in seconds. A boot takes less.
const TOKEN_TTL: &str = "300";
/// How long an answer to the PUT may take before version 1 is tried.
const TOKEN_PATIENCE: Duration = Duration::from_secs(2);

const META_DATA: &str = "/latest/meta-data/";
const USER_DATA: &str = "/latest/user-data";
/// Values with the files they go into.
const LEAVES: &[(&str, &str)] = &[
    ("hostname", "hostname"),
    ("local-hostname", "local_hostname"),
    ("public-ipv4", "public_ipv4"),
    ("local-ipv4", "local_ipv4"),
    ("placement/availability-zone", "availability_zone"),
    ("instance-type", "instance_type"),
    ("instance-id", "instance_id"),
];
/// Most keys that are asked for: each is a request.
const MAX_KEYS: usize = 64;

struct Aws;

impl Provider for Aws {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let mut imds = session.client("aws", ADDRESSES);
        let certainty = match authenticate(session, &mut imds)? {
            Version::Two => Certainty::Certain,
            Version::One => Certainty::Likely,
        };
        session.claim(&mut imds, certainty)?;
        Ok(instance(session, &imds, "AWS"))
    }
}

enum Version {
    One,
    Two,
}

/// Gets a token, or finds out that none is needed.
fn authenticate(session: &Session, imds: &mut Client) -> Result<Version, ProviderError> {
    /// How often silence is taken for a lost packet.
    const ROUNDS: u32 = 3;
    if imitator(session.facts()).is_some() {
        return version_one(imds);
    }
    imds.give_up_on_silence();
    let mut round = 1;
    loop {
        let put = Request { method: "PUT", path: "/latest/api/token".into(), ..Request::default() }
            .field("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL)
            .within(TOKEN_PATIENCE.min(session.remaining() / 2));
        let error = match imds.send(&put) {
            Ok(response) => return token(imds, &put.path, &response),
            Err(error @ HttpError::Message { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        let last = session.is_guess() || round >= ROUNDS || session.remaining() < TOKEN_PATIENCE;
        match version_one(imds) {
            Ok(version) => return Ok(version),
            Err(_) if !last => round += 1,
            // Packets with the token live for one hop unless the instance is
            // set up otherwise; all others have no such limit.
            Err(ProviderError::Http(HttpError::Status { status: 401, .. })) => {
                let reason = format!(
                    "a token is needed and the request for one is not answered ({error}): is the hop limit of \
                     the instance's metadata service (HttpPutResponseHopLimit) too low for where this runs?"
                );
                return Err(imds.unexpected(&put.path, reason).into());
            }
            Err(_) => return Err(error.into()),
        }
    }
}

fn token(imds: &mut Client, path: &str, response: &Response) -> Result<Version, ProviderError> {
    match response.status {
        200 => {
            let token = response.text().trim().to_owned();
            if token.is_empty() || token.len() > 1024 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(imds.unexpected(path, "the answer is no token").into());
            }
            imds.add_field("X-aws-ec2-metadata-token", token);
            Ok(Version::Two)
        }
        404 | 405 | 501 => version_one(imds),
        403 => Err(imds.unexpected(path, "status 403: the service is switched off").into()),
        _ => Err(imds.refusal(response, "PUT", path).into()),
    }
}

/// Whether a request without a token is answered as EC2 does it: with the list
/// of what there is, or at least with an id.
fn version_one(imds: &Client) -> Result<Version, ProviderError> {
    let is_word = |line: &str| {
        (1..=128).contains(&line.len())
            && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    };
    let id = format!("{META_DATA}instance-id");
    for path in [META_DATA, &id] {
        let Some(response) = imds.get(path)? else { continue };
        let text = response.text();
        if text.trim().is_empty() || !text.trim().lines().all(is_word) {
            return Err(imds.unexpected(path, "the answer is not EC2's").into());
        }
        return Ok(Version::One);
    }
    Err(ProviderError::Absent(format!("{}: not found", imds.url(META_DATA))))
}

/// Everything the service has. Others have it in the same form.
pub(super) fn instance(session: &Session, imds: &Client, provider: &str) -> Found {
    let mut found = Found::from_provider(provider);
    // Nearly every instance has one key, number 0: asking for it at once
    // instead of after the list of keys saves a round trip.
    let more = ["public-keys/", "public-keys/0/openssh-key"];
    let paths: Vec<String> =
        LEAVES.iter().map(|(path, _)| *path).chain(more).map(|path| format!("{META_DATA}{path}")).collect();
    let mut requests: Vec<Request> = paths.iter().map(Request::get).collect();
    requests.push(Request::get(USER_DATA).up_to(session.surroundings.userdata_limit));
    let mut results = imds.send_all(&requests, requests.len());

    found.user_data(results.pop().map_or(Ok(None), |result| value(imds, USER_DATA, result)));
    let first_key = results.pop();
    let list = results.pop();
    for ((path, (_, name)), result) in paths.iter().zip(LEAVES).zip(results) {
        match value(imds, path, result) {
            Ok(bytes) => found.file(name, bytes),
            Err(error) => found.problem(error),
        }
    }
    if let (Some(list), Some(first)) = (list, first_key) {
        keys(imds, &mut found, list, first);
    }
    found
}

/// All keys of a list of `NUMBER=NAME` lines.
fn keys(
    imds: &Client,
    found: &mut Found,
    list: Result<Response, HttpError>,
    first: Result<Response, HttpError>,
) {
    let list = match value(imds, &format!("{META_DATA}public-keys/"), list) {
        Ok(Some(list)) => list,
        Ok(None) => return,
        Err(error) => return found.problem(error),
    };
    let mut numbers = key_numbers(&String::from_utf8_lossy(&list));
    if numbers.len() > MAX_KEYS {
        found.problem(format!("{} SSH keys are left out: more than {MAX_KEYS}", numbers.len() - MAX_KEYS));
        numbers.truncate(MAX_KEYS);
    }
    let path = |number: &u32| format!("{META_DATA}public-keys/{number}/openssh-key");
    let others: Vec<u32> = numbers.iter().copied().filter(|number| *number != 0).collect();
    let requests: Vec<Request> = others.iter().map(|number| Request::get(path(number))).collect();
    let first = numbers.contains(&0).then_some((0, first));
    let results = others.iter().copied().zip(imds.send_all(&requests, 8));
    let mut texts = Vec::new();
    for (number, result) in first.into_iter().chain(results) {
        match value(imds, &path(&number), result) {
            Ok(bytes) => texts.extend(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => found.problem(error),
        }
    }
    found.keys(texts);
}

/// The numbers of a list of keys. Nothing but a number gets into a path.
fn key_numbers(list: &str) -> Vec<u32> {
    let number = |line: &str| -> Option<u32> {
        let digits = line.split('=').next()?.trim();
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    list.lines().filter_map(number).collect()
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    let starts = |text: &str| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ec2"));
    if let Some(uuid) = facts.hypervisor_uuid.as_deref().filter(|uuid| starts(uuid)) {
        return Evidence::pattern(format!("hypervisor UUID {uuid} begins with ec2"));
    }
    let dmi = facts.dmi()?;
    if dmi.sys_vendor.as_deref() == Some("Amazon EC2") {
        return Evidence::vendor("SMBIOS sys_vendor is Amazon EC2");
    }
    if let Some(who) = imitator(facts) {
        return Evidence::vendor(format!("SMBIOS says {who}, which has EC2's metadata service"));
    }
    let uuid = dmi.product_uuid.as_deref()?;
    if starts(uuid) {
        return Evidence::pattern(format!("SMBIOS product_uuid {uuid} begins with ec2"));
    }
    // The same with the first field in the other byte order: 45E12AEC is EC2AE145.
    let first = uuid.split('-').next().filter(|first| first.len() == 8)?;
    let swapped = first.get(4..)?.bytes().collect::<Vec<u8>>();
    match swapped.as_slice() {
        [b'2', digit, e, c] if digit.is_ascii_hexdigit() && [*e, *c].eq_ignore_ascii_case(b"ec") => {
            Evidence::pattern(format!("SMBIOS product_uuid {uuid} begins with ec2 in the other byte order"))
        }
        _ => None,
    }
}

/// Clouds with EC2's service of before 2019, which knows no tokens.
fn imitator(facts: &Facts) -> Option<&'static str> {
    let dmi = facts.dmi()?;
    let is = |field: &Option<String>, text: &str| field.as_deref() == Some(text);
    let ends = |field: &Option<String>, text: &str| field.as_deref().is_some_and(|own| own.ends_with(text));
    if ends(&dmi.product_serial, ".brightbox.com") {
        Some("Brightbox")
    } else if ends(&dmi.chassis_asset_tag, ".zstack.io") {
        Some("ZStack")
    } else if is(&dmi.sys_vendor, "e24cloud") {
        Some("e24cloud")
    } else if is(&dmi.sys_vendor, "Tilaa") {
        Some("Tilaa")
    } else if is(&dmi.sys_vendor, "3DS Outscale") && is(&dmi.product_name, "3DS Outscale VM") {
        Some("Outscale")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
