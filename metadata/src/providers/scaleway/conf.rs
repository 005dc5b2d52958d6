// SPDX-License-Identifier: Apache-2.0
//! What `/conf` says, in either of its forms.

use std::collections::HashMap;

use serde::Deserialize;

use crate::errors;
use crate::providers::leaves::or_default;

/// What is used of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) id: String,
    pub(super) hostname: String,
    pub(super) location: Option<String>,
    pub(super) public_ip: Option<String>,
    pub(super) private_ip: Option<String>,
    pub(super) keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Json {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    hostname: String,
    location: Option<Location>,
    public_ip: Option<Address>,
    private_ip: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    ssh_public_keys: Vec<Key>,
    #[serde(default, deserialize_with = "or_default")]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Location {
    zone_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Address {
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Key {
    key: String,
}

/// Most keys that are looked for in the form in lines: more than are taken,
/// so that those that are not are counted.
const MAX_KEYS: usize = 1024;

impl Conf {
    /// Reads either form.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            let json: Json = serde_json::from_slice(bytes).map_err(|error| errors::json(&error))?;
            return Self::from_json(json).checked();
        }
        Self::from_lines(&String::from_utf8_lossy(bytes)).checked()
    }

    fn checked(self) -> Result<Self, String> {
        let id = (1..=64).contains(&self.id.len())
            && self.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if id { Ok(self) } else { Err("it has no id".to_owned()) }
    }

    fn from_json(json: Json) -> Self {
        // A tag cannot hold blanks: a key in one has `_` for them.
        let tagged = json.tags.iter().filter_map(|tag| tag.strip_prefix("AUTHORIZED_KEY="));
        let tagged = tagged.map(|key| key.replace('_', " "));
        let keys = json.ssh_public_keys.into_iter().map(|key| key.key).chain(tagged).collect();
        Self {
            id: json.id,
            hostname: json.hostname,
            location: json.location.and_then(|location| location.zone_id),
            public_ip: json.public_ip.and_then(|ip| ip.address),
            private_ip: json.private_ip,
            keys,
        }
    }

    fn from_lines(text: &str) -> Self {
        let values: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.trim(), unquoted(v)))
            .collect();
        let value =
            |key: &str| values.get(key).filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
        let count = value("SSH_PUBLIC_KEYS").and_then(|count| count.parse().ok()).unwrap_or(0_usize);
        let key = |index| value(&format!("SSH_PUBLIC_KEYS_{index}_KEY"));
        Self {
            id: value("ID").unwrap_or_default(),
            hostname: value("HOSTNAME").unwrap_or_default(),
            location: value("LOCATION_ZONE_ID"),
            public_ip: value("PUBLIC_IP_ADDRESS"),
            private_ip: value("PRIVATE_IP"),
            keys: (0..count.min(MAX_KEYS)).filter_map(key).collect(),
        }
    }
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    let inner = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Conf {
        Conf {
            id: "5fc1".into(),
            hostname: "scw".into(),
            location: Some("par1".into()),
            public_ip: Some("192.0.2.7".into()),
            private_ip: Some("10.1.2.3".into()),
            keys: vec!["ssh-rsa AAAA a".into(), "ssh-rsa BBBB b".into()],
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let json = br#"{"id":"5fc1","hostname":"scw","location":{"zone_id":"par1"},"private_ip":"10.1.2.3",
            "public_ip":{"address":"192.0.2.7","dynamic":false},"tags":["x","AUTHORIZED_KEY=ssh-rsa_BBBB_b"],
            "ssh_public_keys":[{"key":"ssh-rsa AAAA a","fingerprint":"f"}]}"#;
        assert_eq!(Conf::parse(json).unwrap(), expected());
        let lines = b"ID=5fc1\nHOSTNAME=scw\nLOCATION_ZONE_ID=par1\nPUBLIC_IP_ADDRESS=192.0.2.7\nPRIVATE_IP=10.1.2.3\n\
            SSH_PUBLIC_KEYS=2\nSSH_PUBLIC_KEYS_0_KEY='ssh-rsa AAAA a'\nSSH_PUBLIC_KEYS_1_KEY='ssh-rsa BBBB b'\n";
        assert_eq!(Conf::parse(lines).unwrap(), expected());
    }

    #[test]
    fn addresses_may_be_missing_and_the_id_may_not() {
        let conf =
            Conf::parse(br#"{"id":"5fc1","public_ip":null,"private_ip":null,"location":null}"#).unwrap();
        assert_eq!((conf.public_ip, conf.private_ip), (None, None));
        assert!(Conf::parse(b"<html>sign in</html>").is_err());
        assert!(Conf::parse(b"{}").is_err());
        assert!(Conf::parse(b"ID=../x\n").is_err());
        assert!(Conf::parse(b"ID=a\nSSH_PUBLIC_KEYS=99999999999999\n").unwrap().keys.is_empty());
    }

    #[test]
    fn null_is_nothing() {
        let text =
            br#"{"id": "5fc1", "hostname": null, "ssh_public_keys": null, "tags": null, "location": null,
            "public_ip": null, "private_ip": null}"#;
        let conf = Conf { id: "5fc1".to_owned(), ..Conf::default() };
        assert_eq!(Conf::parse(text), Ok(conf));
    }
}
