// SPDX-License-Identifier: Apache-2.0
//! `http` and `https` addresses (RFC 3986), of the shape endpoints have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address without user, query and fragment of its own: what is asked for
/// is appended to [`Url::path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https` and not `http`.
    pub tls: bool,
    /// The server.
    pub host: Host,
    /// The port, written out or the scheme's own.
    pub port: u16,
    /// What stands after the server: empty, or with a `/` in front.
    pub path: String,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By its IPv4 address.
    V4(Ipv4Addr),
    /// By its IPv6 address; a link-local one with its interface (RFC 6874).
    V6(Ipv6Addr, Option<String>),
    /// By its name in the DNS.
    Name(String),
}

/// Why a text is no address that is used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not an address: {reason}")]
pub struct UrlError {
    url: String,
    reason: &'static str,
}

impl Url {
    /// The address of something beneath this one. `path` begins with `/`.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }

    /// The server as the `Host` field names it.
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        if self.port == default { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Whether both name the same server.
    pub fn same_server(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let error = |reason| UrlError { url: text.to_owned(), reason };
        let (tls, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else {
            return Err(error("it begins with neither http:// nor https://"));
        };
        if rest.bytes().any(|byte| !byte.is_ascii_graphic() || b"#\\@<>\"".contains(&byte)) {
            return Err(error("it holds a character that has no place there"));
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = split_port(authority).ok_or_else(|| error("its port is not a number"))?;
        let host = parse_host(host).ok_or_else(|| error("its host is not one"))?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, path: path.to_owned() })
    }
}

/// Splits at the last colon outside brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = authority.rfind(']').unwrap_or(0);
    match authority.get(after_bracket..)?.rfind(':') {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = authority.split_at(after_bracket + at);
            let port: u16 = port.strip_prefix(':')?.parse().ok()?;
            (port != 0).then_some((host, Some(port)))
        }
    }
}

fn parse_host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        let (address, zone) = match inner.split_once("%25") {
            Some((address, zone)) => (address, Some(zone).filter(|zone| is_interface(zone))?),
            None => return inner.parse().ok().map(|address| Host::V6(address, None)),
        };
        return address.parse().ok().map(|address| Host::V6(address, Some(zone.to_owned())));
    }
    if let Ok(address) = text.parse() {
        return Some(Host::V4(address));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    (name.len() <= 253 && name.split('.').all(label)).then(|| Host::Name(text.to_owned()))
}

fn is_interface(zone: &str) -> bool {
    (1..16).contains(&zone.len()) && zone.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            // The zone means something here and nothing to the server.
            Self::V6(address, _) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Host {
    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::V4(address) => Some((*address).into()),
            Self::V6(address, _) => Some((*address).into()),
            Self::Name(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn the_shapes_endpoints_have() {
        assert_eq!(url("http://169.254.169.254").to_string(), "http://169.254.169.254");
        assert_eq!(url("http://127.0.0.1:8080/base").join("/x"), "/base/x");
        assert_eq!(url("http://127.0.0.1:8080/base").authority(), "127.0.0.1:8080");
        assert_eq!(url("https://metadata.platformequinix.com").port, 443);
        assert_eq!(url("http://[fd00:ec2::254]:81").authority(), "[fd00:ec2::254]:81");
        let zone = url("http://[fe80::a9fe:a9fe%25eth0]");
        assert_eq!(zone.host, Host::V6("fe80::a9fe:a9fe".parse().unwrap(), Some("eth0".into())));
        assert_eq!(zone.authority(), "[fe80::a9fe:a9fe]");
        assert_eq!(url("http://metaldata").host, Host::Name("metaldata".into()));
    }

    #[test]
    fn what_is_no_endpoint() {
        for text in [
            "",
            "ftp://x",
            "http://",
            "http:///x",
            "http://a b",
            "http://u@h",
            "http://h:0",
            "http://h:70000",
            "http://h:",
            "http://[::1",
            "http://[x]",
            "http://a..b",
            "http://h/#f",
            "http://h\r\nX: y",
            "http://[fe80::1%25]",
            "http://[fe80::1%25../../x]",
            "//h",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
