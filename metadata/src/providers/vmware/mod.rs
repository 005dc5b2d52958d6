// SPDX-License-Identifier: Apache-2.0
//! VMware: `guestinfo` keys, which the hypervisor tells over an I/O port.
//!
//! Source: "VMware datasource" of the cloud-init documentation, open-vm-tools.

mod rpc;

use std::io::Read as _;

use base64::Engine as _;
use flate2::read::MultiGzDecoder;
use init::sys::backdoor::Backdoor;

use super::{Class, Evidence, Found, PATIENCE, Provider, ProviderError, Row, Session};
use crate::facts::Facts;
use rpc::{Port, Rpc};

/// The row of the table.
pub static ROW: Row = Row {
    name: "vmware",
    aliases: &[],
    class: Class::Local,
    guess: false,
    media: true,
    patience: PATIENCE,
    evidence,
    capabilities: &[],
    prepare: Backdoor::allow,
    provider: &Vmware,
};

/// The hypervisor's own limit for a value is about 1 MiB.
const LIMIT: usize = 2 << 20;

struct Vmware;

impl Provider for Vmware {
    fn fetch(&self, session: &Session) -> Result<Found, ProviderError> {
        let absent = |reason: &str| ProviderError::Absent(reason.to_owned());
        let port = Backdoor::open().ok_or_else(|| absent("CPUID does not say that this is VMware"))?;
        let mut rpc = Rpc::new(port).map_err(|error| absent(&error.to_string()))?;
        guest_info(&mut rpc, session.surroundings.userdata_limit)
    }
}

fn guest_info<P: Port>(rpc: &mut Rpc<P>, userdata_limit: usize) -> Result<Found, ProviderError> {
    let mut found = Found::from_provider("VMWARE");
    match value(rpc, "userdata", userdata_limit) {
        Ok(value) => found.userdata = value,
        Err(error) => found.missing_user_data(error),
    }
    for name in ["metadata", "vendordata"] {
        match value(rpc, name, LIMIT) {
            Ok(value) => found.file(name, value),
            Err(error) => found.problem(error),
        }
    }
    if found.userdata.is_none() && found.files.nodes().is_empty() && found.problems.is_empty() {
        return Err(ProviderError::Absent("no guestinfo key is set".to_owned()));
    }
    Ok(found)
}

/// The decoded value of a key; `None` if it is not set.
fn value<P: Port>(rpc: &mut Rpc<P>, name: &str, limit: usize) -> Result<Option<Vec<u8>>, ProviderError> {
    let key = format!("guestinfo.{name}");
    let Some(raw) = get(rpc, &key)? else { return Ok(None) };
    let encoding = get(rpc, &format!("{key}.encoding"))?.unwrap_or_default();
    let encoding = String::from_utf8_lossy(&encoding).trim().to_ascii_lowercase();
    decode(raw, &encoding, limit).map(Some).map_err(|error| ProviderError::document(key, error))
}

/// The value of a key as it is; `None` if it is not set, or blank, or `---`,
/// which is what tools write over a value that is not to be read again.
fn get<P: Port>(rpc: &mut Rpc<P>, key: &str) -> Result<Option<Vec<u8>>, ProviderError> {
    let answer = rpc.request(&format!("info-get {key}"), LIMIT);
    let answer = answer.map_err(|error| ProviderError::document(key, error))?;
    // `1 VALUE`, or `0 No value found`.
    let value = answer.strip_prefix(b"1 ").filter(|value| !matches!(value.trim_ascii(), b"" | b"---"));
    Ok(value.map(<[u8]>::to_vec))
}

fn decode(raw: Vec<u8>, encoding: &str, limit: usize) -> Result<Vec<u8>, String> {
    let bytes = match encoding {
        "" => raw,
        "base64" | "b64" => base64(raw)?,
        "gzip+base64" | "gz+b64" => {
            let mut bytes = Vec::new();
            let packed = base64(raw)?;
            let unpacked =
                MultiGzDecoder::new(packed.as_slice()).take(limit as u64 + 1).read_to_end(&mut bytes);
            unpacked.map_err(|error| format!("it does not unpack: {error}"))?;
            bytes
        }
        other => return Err(format!("{other:?} is not an encoding that is known")),
    };
    if bytes.len() > limit {
        return Err(format!("it has more than {limit} bytes"));
    }
    Ok(bytes)
}

fn base64(mut raw: Vec<u8>) -> Result<Vec<u8>, String> {
    raw.retain(|byte| !byte.is_ascii_whitespace());
    base64::engine::general_purpose::STANDARD
        .decode(raw)
        .map_err(|error| format!("it is not base64: {error}"))
}

fn evidence(facts: &Facts) -> Option<Evidence> {
    if facts.hypervisor.as_deref() == Some("VMwareVMware") {
        return Evidence::vendor("CPUID says VMwareVMware");
    }
    let name = facts.dmi()?.product_name.as_deref()?;
    if !name.to_ascii_lowercase().contains("vmware") {
        return None;
    }
    Evidence::vendor(format!("SMBIOS product_name is {name}"))
}

#[cfg(test)]
mod tests;
