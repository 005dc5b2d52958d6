// SPDX-License-Identifier: Apache-2.0
//! `ovf-env.xml`, the document of the provisioning disk.
//!
//! Elements are known by their namespace and name; prefixes are anybody's
//! choice. There are no entities and no document types in it.

use base64::Engine as _;
use roxmltree::{Document, Node, ParsingOptions};

const ENVIRONMENT: &str = "http://schemas.dmtf.org/ovf/environment/1";
const AZURE: &str = "http://schemas.microsoft.com/windowsazure";
/// Most elements and texts of a document.
const MAX_NODES: u32 = 20_000;

/// What is used of it. The password that may be in it is not read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ovf {
    /// The host name.
    pub hostname: String,
    /// User data, decoded. Data that is not base64 is kept as it is.
    pub custom_data: Option<Vec<u8>>,
    /// SSH keys that stand in the document. Those that are named by their
    /// fingerprint alone are told by the metadata service.
    pub keys: Vec<String>,
    /// The machine was made for a pool and is yet to get its identity.
    pub preprovisioned: bool,
}

/// Why it is not Azure's document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OvfError {
    /// Not well-formed.
    #[error("it is not XML: {0}")]
    Xml(String),
    /// An element that is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// An element that is there more than once.
    #[error("it has more than one {0}")]
    Repeated(&'static str),
}

impl Ovf {
    /// Reads the document.
    ///
    /// # Errors
    /// [`OvfError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OvfError> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}');
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document =
            Document::parse_with_options(text, options).map_err(|error| OvfError::Xml(error.to_string()))?;
        let root = document.root_element();
        if !root.has_tag_name((ENVIRONMENT, "Environment")) {
            return Err(OvfError::Missing("Environment"));
        }
        let section = child(root, "ProvisioningSection")?.ok_or(OvfError::Missing("ProvisioningSection"))?;
        let linux = child(section, "LinuxProvisioningConfigurationSet")?
            .ok_or(OvfError::Missing("LinuxProvisioningConfigurationSet"))?;
        let hostname = text_of(linux, "HostName")?.ok_or(OvfError::Missing("HostName"))?;
        let custom_data = text_of(linux, "CustomData")?.map(|text| decode(&text));
        let keys = match child(linux, "SSH")? {
            Some(ssh) => keys(ssh)?,
            None => Vec::new(),
        };
        Ok(Self { hostname, custom_data, keys, preprovisioned: preprovisioned(root)? })
    }
}

fn keys(ssh: Node<'_, '_>) -> Result<Vec<String>, OvfError> {
    let Some(list) = child(ssh, "PublicKeys")? else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for key in list.children().filter(|node| node.has_tag_name((AZURE, "PublicKey"))) {
        keys.extend(text_of(key, "Value")?);
    }
    Ok(keys)
}

fn preprovisioned(root: Node<'_, '_>) -> Result<bool, OvfError> {
    let Some(section) = child(root, "PlatformSettingsSection")? else { return Ok(false) };
    let Some(settings) = child(section, "PlatformSettings")? else { return Ok(false) };
    let vm = text_of(settings, "PreprovisionedVm")?.is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let kind =
        text_of(settings, "PreprovisionedVMType")?.is_some_and(|text| !text.eq_ignore_ascii_case("none"));
    Ok(vm || kind)
}

/// The one child of this name in Azure's namespace.
fn child<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> Result<Option<Node<'a, 'i>>, OvfError> {
    let mut found = node.children().filter(|node| node.has_tag_name((AZURE, name)));
    match (found.next(), found.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(OvfError::Repeated(name)),
    }
}

/// The text of a child, trimmed; `None` if there is no child or no text.
fn text_of(node: Node<'_, '_>, name: &'static str) -> Result<Option<String>, OvfError> {
    let Some(element) = child(node, name)? else { return Ok(None) };
    let text: String = element.children().filter_map(|node| node.text()).collect();
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Base64, lines and blanks in it or not; what is not base64 is taken as it is.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let bare: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(bare).unwrap_or_else(|_| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document with these elements in its configuration set, in any prefix.
    fn ovf(prefix: &str, elements: &[(&str, &str)]) -> String {
        let elements: String =
            elements.iter().map(|(name, text)| format!("<{prefix}{name}>{text}</{prefix}{name}>")).collect();
        let colon = prefix.strip_suffix(':').map_or("xmlns".to_owned(), |name| format!("xmlns:{name}"));
        format!(
            "\u{feff}<?xml version=\"1.0\"?>\n<o:Environment xmlns:o=\"{ENVIRONMENT}\" {colon}=\"{AZURE}\">
             <{prefix}ProvisioningSection><{prefix}Version>1.0</{prefix}Version>
             <{prefix}LinuxProvisioningConfigurationSet>{elements}</{prefix}LinuxProvisioningConfigurationSet>
             </{prefix}ProvisioningSection>
             <{prefix}PlatformSettingsSection><{prefix}PlatformSettings>
             <{prefix}PreprovisionedVm>false</{prefix}PreprovisionedVm>
             <{prefix}PreprovisionedVMType xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:nil=\"true\"/>
             </{prefix}PlatformSettings></{prefix}PlatformSettingsSection></o:Environment>"
        )
    }

    #[test]
    fn prefixes_are_anybodys_choice() {
        for prefix in ["wa:", "ns1:", ""] {
            let text = ovf(prefix, &[("HostName", " azhost\n"), ("CustomData", "aGVs\r\n bG8=")]);
            let parsed = Ovf::parse(text.as_bytes()).unwrap();
            let expected =
                Ovf { hostname: "azhost".into(), custom_data: Some(b"hello".to_vec()), ..Ovf::default() };
            assert_eq!(parsed, expected, "{prefix}");
        }
    }

    #[test]
    fn keys_with_a_value_are_taken() {
        let key = |inner: &str| format!("<wa:PublicKey><wa:Path>/p</wa:Path>{inner}</wa:PublicKey>");
        let keys = key("<wa:Value>ssh-rsa AAAA</wa:Value>") + &key("<wa:Fingerprint>F</wa:Fingerprint>");
        let ssh = format!("<wa:PublicKeys>{keys}</wa:PublicKeys>");
        let text = ovf("wa:", &[("HostName", "h"), ("SSH", &ssh)]);
        assert_eq!(Ovf::parse(text.as_bytes()).unwrap().keys, ["ssh-rsa AAAA"]);
    }

    #[test]
    fn custom_data_that_is_not_base64_is_kept() {
        let text = ovf("wa:", &[("HostName", "h"), ("CustomData", "not base64!")]);
        assert_eq!(Ovf::parse(text.as_bytes()).unwrap().custom_data.unwrap(), b"not base64!");
    }

    #[test]
    fn a_pool_machine_is_known() {
        let text = ovf("wa:", &[("HostName", "h")]).replace(">false<", ">true<");
        assert!(Ovf::parse(text.as_bytes()).unwrap().preprovisioned);
    }

    #[test]
    fn what_is_not_azures_is_refused() {
        let missing = |name| Err(OvfError::Missing(name));
        assert_eq!(Ovf::parse(ovf("wa:", &[]).as_bytes()), missing("HostName"));
        assert_eq!(Ovf::parse(b"<Environment/>"), missing("Environment"));
        let vmware = format!("<Environment xmlns=\"{ENVIRONMENT}\"><PropertySection/></Environment>");
        assert_eq!(Ovf::parse(vmware.as_bytes()), missing("ProvisioningSection"));
        let twice = ovf("wa:", &[("HostName", "a"), ("HostName", "b")]);
        assert_eq!(Ovf::parse(twice.as_bytes()), Err(OvfError::Repeated("HostName")));
        let entity = "<!DOCTYPE x [<!ENTITY e \"ee\">]><x>&e;</x>";
        assert!(matches!(Ovf::parse(entity.as_bytes()), Err(OvfError::Xml(_))));
        assert!(matches!(Ovf::parse("<a>".repeat(30_000).as_bytes()), Err(OvfError::Xml(_))));
        assert!(matches!(Ovf::parse(b""), Err(OvfError::Xml(_))));
    }
}
