// SPDX-License-Identifier: Apache-2.0
//! Nova's documents.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::providers::leaves::parse;
use crate::providers::{Found, ProviderError};

/// `meta_data.json`, as far as it is used.
#[derive(Debug, Deserialize)]
pub(super) struct MetaData {
    pub(super) uuid: Option<String>,
    hostname: Option<String>,
    name: Option<String>,
    availability_zone: Option<String>,
    #[serde(default)]
    public_keys: Option<BTreeMap<String, String>>,
}

impl MetaData {
    /// Reads the document. One without uuid and name is somebody else's.
    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self, ProviderError> {
        let document: Self = parse(what, bytes)?;
        if document.uuid.is_none() && document.hostname.is_none() && document.name.is_none() {
            return Err(ProviderError::document(what, "it has neither uuid nor hostname"));
        }
        Ok(document)
    }

    pub(super) fn fill(&self, found: &mut Found) {
        let names = [self.hostname.as_deref(), self.name.as_deref()];
        found.file("hostname", names.into_iter().flatten().find(|name| !name.is_empty()));
        found.file("availability_zone", self.availability_zone.as_deref());
        found.keys(self.public_keys.iter().flat_map(BTreeMap::values));
    }
}

/// `ec2/latest/meta-data.json`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Ec2 {
    instance_id: Option<String>,
    instance_type: Option<String>,
    local_hostname: Option<String>,
    local_ipv4: Option<String>,
    public_ipv4: Option<String>,
}

impl Ec2 {
    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self, ProviderError> {
        parse(what, bytes)
    }

    pub(super) fn fill(&self, found: &mut Found) {
        found.file("instance_id", self.instance_id.as_deref());
        found.file("instance_type", self.instance_type.as_deref());
        found.file("local_hostname", self.local_hostname.as_deref());
        found.file("local_ipv4", self.local_ipv4.as_deref());
        found.file("public_ipv4", self.public_ipv4.as_deref());
    }
}
