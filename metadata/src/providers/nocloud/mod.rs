// SPDX-License-Identifier: Apache-2.0
//! NoCloud: user data on a disk, or where the kernel command line says. It is
//! `cdrom` on LinuxKit's command line, and a disk is a CD-ROM in its log.
//!
//! A disk labelled `cidata` counts wherever it is; in an optical drive any
//! disk does that has a file `user-data`, or `config`, which is the name that
//! `linuxkit metadata create` gives it.

mod seed;
mod yaml;

use std::path::Path;

use super::leaves::value;
use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use crate::facts::media::{self, Medium};
use crate::http::{Deadline, Request, Settings, Url};
use crate::news::News;
use crate::volume::{Source, Volume, VolumeError};
pub use seed::Seed;

/// The row of the table.
pub static ROW: Row = Row {
    name: "cdrom",
    aliases: &["nocloud", "nocloud-net"],
    class: Class::Local,
    guess: false,
    media: true,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: || {},
    provider: &NoCloud,
};

const LABEL: &str = "cidata";
/// Files with user data, the first that is there.
const USER_DATA: &[&str] = &["user-data", "config"];
const META_DATA: &str = "meta-data";
const META_DATA_LIMIT: usize = 1 << 20;

struct NoCloud;

impl Provider for NoCloud {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let seed = Seed::of(session.facts());
        let mut found = match seed.as_ref().and_then(|seed| seed.from.as_deref()) {
            Some(from) => seeded(session, from)?,
            None => {
                let known = from_media(session, session.facts().media());
                // Somebody says that there is a disk: it may be on its way.
                let until = match seed {
                    Some(_) => Deadline::after(session.remaining()),
                    None => session.surroundings.disks,
                };
                known.or_else(|_| wait_for_disk(session, until))?
            }
        };
        if let Some(seed) = seed {
            found.file("hostname", seed.hostname.filter(|_| found.files.get("hostname").is_none()));
            found.file("instance_id", seed.instance_id.filter(|_| found.files.get("instance_id").is_none()));
        }
        Ok(found)
    }
}

/// The first disk that has something to say.
fn from_media(session: &Session, media: &[Medium]) -> Result<Found, ProviderError> {
    let mut error = ProviderError::Absent(format!("no disk is labelled {LABEL} or has user data"));
    for medium in media.iter().filter(|medium| may_be(medium)) {
        let name = format!("CDROM {}", medium.device.display());
        crate::info!(session.log(), "Trying {name}");
        let opened = media::open(&medium.device)
            .map_err(|source| ProviderError::File { path: medium.device.clone(), source });
        let read = opened.and_then(|(volume, _)| {
            drive(&volume, &name, session.surroundings.userdata_limit)
                .map_err(|source| ProviderError::Medium { device: medium.device.clone(), source })
        });
        match read {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(failure) => error = failure,
        }
    }
    Err(error)
}

/// Waits for block devices to appear, and looks at what is there then.
fn wait_for_disk(session: &Session, until: Deadline) -> Result<Found, ProviderError> {
    let roots = &session.surroundings.roots;
    let events = News::of_devices();
    loop {
        let media = media::scan(&roots.sysfs.join("class/block"), &roots.dev);
        let found = from_media(session, &media);
        if found.is_ok() || until.remaining().is_zero() {
            return found;
        }
        events.wait(until.remaining());
    }
}

/// What a disk has; `None` if it is neither labelled for it nor has user data.
///
/// # Errors
/// [`VolumeError`] if the user data cannot be read.
pub fn drive<S: Source>(
    volume: &Volume<S>,
    name: &str,
    userdata_limit: usize,
) -> Result<Option<Found>, VolumeError> {
    let mut found = Found::from_provider(name);
    for file in USER_DATA {
        if let Some(bytes) = volume.read(file, userdata_limit)?.filter(|bytes| !bytes.is_empty()) {
            found.userdata = Some(bytes);
            break;
        }
    }
    let metadata = match volume.read(META_DATA, META_DATA_LIMIT) {
        Ok(metadata) => metadata.unwrap_or_default(),
        Err(error) => {
            found.problem(error);
            Vec::new()
        }
    };
    let labelled = volume.labels().any(|(_, label)| label.eq_ignore_ascii_case(LABEL));
    if found.userdata.is_none() && (metadata.is_empty() || !labelled) {
        return Ok(None);
    }
    meta_data(&mut found, &metadata);
    Ok(Some(found))
}

/// What the command line's seed has: files of a directory, or of a server.
fn seeded(session: &Session, from: &str) -> Result<Found, ProviderError> {
    let name = format!("NoCloud {from}");
    if let Some(dir) = from.strip_prefix("file://").or_else(|| from.starts_with('/').then_some(from)) {
        return directory(&name, Path::new(dir), session.surroundings.userdata_limit);
    }
    // What is asked for is appended to the seed as it stands there.
    let base: Url = from.parse().map_err(|error| ProviderError::document("seedfrom", error))?;
    let (dir, prefix) = base.path.rsplit_once('/').unwrap_or(("", ""));
    let paths =
        [USER_DATA.first().copied().unwrap_or_default(), META_DATA].map(|file| format!("/{prefix}{file}"));
    let endpoint = Url { path: dir.to_owned(), ..base.clone() };
    let settings = Settings::default();
    let mut service = session.client_at(vec![endpoint], settings);
    service.be_patient();
    let limits = [session.surroundings.userdata_limit, META_DATA_LIMIT];
    let requests: Vec<Request> =
        paths.iter().zip(limits).map(|(path, limit)| Request::get(path).up_to(limit)).collect();
    let mut found = Found::from_provider(name);
    let results = service.send_all(&requests, requests.len());
    let mut values = paths.iter().zip(results).map(|(path, result)| value(&service, path, result));
    found.userdata = values.next().transpose()?.flatten();
    meta_data(&mut found, &values.next().transpose()?.flatten().unwrap_or_default());
    if found.userdata.is_none() && found.files.nodes().is_empty() {
        return Err(ProviderError::Absent(format!("{from}: there is neither user-data nor meta-data")));
    }
    Ok(found)
}

fn directory(name: &str, dir: &Path, userdata_limit: usize) -> Result<Found, ProviderError> {
    let mut found = Found::from_provider(name);
    found.userdata = crate::file::read(&dir.join("user-data"), userdata_limit)?;
    let metadata = crate::file::read(&dir.join(META_DATA), META_DATA_LIMIT)?;
    if found.userdata.is_none() && metadata.is_none() {
        let reason = format!("{}: there is neither user-data nor meta-data", dir.display());
        return Err(ProviderError::Absent(reason));
    }
    meta_data(&mut found, &metadata.unwrap_or_default());
    Ok(found)
}

/// Takes what is used from `meta-data`, in YAML or JSON.
pub fn meta_data(found: &mut Found, bytes: &[u8]) {
    let document = match yaml::parse(&String::from_utf8_lossy(bytes)) {
        Ok(Some(document)) => document,
        Ok(None) => return,
        Err(error) => return found.problem(format!("meta-data: {error}")),
    };
    let text = |key: &str| document.get(key).and_then(yaml::Value::text);
    found.file("hostname", text("local-hostname").or_else(|| text("hostname")));
    found.file("instance_id", text("instance-id"));
    let keys = document.get("public-keys").or_else(|| document.get("public_keys"));
    found.keys(keys.map(yaml::Value::texts).unwrap_or_default());
}

fn may_be(medium: &Medium) -> bool {
    medium.is_labelled(LABEL) || (medium.optical && medium.files.iter().any(|name| USER_DATA.contains(name)))
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    if facts
        .dmi()
        .is_some_and(|dmi| dmi.product_serial.as_deref().is_some_and(|s| s.starts_with("ds=nocloud")))
    {
        return Evidence::vendor("SMBIOS product_serial says ds=nocloud");
    }
    let medium = facts.media().iter().find(|medium| may_be(medium))?;
    let device = medium.device.display();
    if medium.is_labelled(LABEL) {
        return Evidence::medium(format!("{device} is labelled {LABEL}"));
    }
    Evidence::medium(format!("the disk in {device} has a file {}", medium.files.join(" and a file ")))
}

#[cfg(test)]
mod tests;
