// SPDX-License-Identifier: Apache-2.0
//! What to forward: one [`Rule`] for each flag that asks for something, read
//! from the flag's value and printed as what it means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;

use crate::endpoint::{Cid, Endpoint};
use crate::port;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Accept connections at one end and join each with a new one to the other.
    Forward {
        /// Where connections are accepted.
        listen: Endpoint,
        /// Where each of them leads.
        target: Endpoint,
    },
    /// Send what arrives at a datagram socket over one connection, each
    /// message with its length before it.
    Syslog {
        /// The datagram socket.
        source: Endpoint,
        /// Where the connection leads.
        sink: Endpoint,
    },
    /// Say that everything asked for is in place.
    Ready {
        /// Whom to tell.
        sink: Endpoint,
    },
}

/// Why a flag's value is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Its parts do not have the flag's form.
    #[error("not of the form {0}")]
    Form(&'static str),
    /// What should be a port is none.
    #[error(transparent)]
    Port(#[from] port::Error),
    /// What should be a CID is none.
    #[error("\"{0}\" is no CID: give a number from 0 to 4294967294, host or local")]
    Cid(String),
    /// A target of a kind there is not.
    #[error("\"{0}\" is no kind of target: there are unix, unixgram and tcp")]
    Kind(String),
    /// What should be an absolute path is none, or too long for a socket.
    #[error("\"{0}\" is no path of a socket: give an absolute one of at most 107 bytes")]
    Path(String),
    /// What should be an address and a TCP port is none.
    #[error(
        "\"{0}\" is no address and port: give IPV4:PORT, [IPV6]:PORT or localhost:PORT (names are not looked up)"
    )]
    Tcp(String),
}

impl Rule {
    /// `-inport PORT|GUID:unix:PATH`, `PORT|GUID:unixgram:PATH` or
    /// `PORT|GUID:tcp:HOST:PORT`.
    ///
    /// # Errors
    /// When the value has none of these forms.
    pub fn inport(value: &str) -> Result<Self, Error> {
        const FORM: &str = "PORT|GUID:unix:PATH, PORT|GUID:unixgram:PATH or PORT|GUID:tcp:HOST:PORT";
        let (port, rest) = value.split_once(':').ok_or(Error::Form(FORM))?;
        let (kind, target) = rest.split_once(':').ok_or(Error::Form(FORM))?;
        let listen = Endpoint::Vsock(Cid::ANY, port.parse()?);
        let target = match kind {
            "unix" => Endpoint::Unix(path(target)?),
            "unixgram" => Endpoint::Datagram(path(target)?),
            "tcp" => Endpoint::Tcp(tcp(target)?),
            other => return Err(Error::Kind(other.to_owned())),
        };
        Ok(Self::Forward { listen, target })
    }

    /// `-outport PATH:PORT|GUID[:CID]`; the host where no CID is given.
    ///
    /// # Errors
    /// When the value does not have that form.
    pub fn outport(value: &str) -> Result<Self, Error> {
        const FORM: &str = "PATH:PORT|GUID[:CID]";
        let (head, last) = value.rsplit_once(':').ok_or(Error::Form(FORM))?;
        // The path may have colons of its own: PORT is the last part, or the
        // last but one where both of the last two could be numbers.
        let split = head.rsplit_once(':').and_then(|(head, port)| Some((head, port.parse().ok()?)));
        let (file, port, cid) = match split {
            Some((file, port)) => (file, port, cid(last)?),
            None => (head, last.parse()?, Cid::HOST),
        };
        Ok(Self::Forward { listen: Endpoint::Unix(path(file)?), target: Endpoint::Vsock(cid, port) })
    }

    /// `-syslog PORT|GUID:PATH`; the port is the host's.
    ///
    /// # Errors
    /// When the value does not have that form.
    pub fn syslog(value: &str) -> Result<Self, Error> {
        let (port, file) = value.split_once(':').ok_or(Error::Form("PORT|GUID:PATH"))?;
        let sink = Endpoint::Vsock(Cid::HOST, port.parse()?);
        Ok(Self::Syslog { source: Endpoint::Datagram(path(file)?), sink })
    }

    /// `-ready PORT|GUID[:CID]`; the host where no CID is given.
    ///
    /// # Errors
    /// When the value does not have that form.
    pub fn ready(value: &str) -> Result<Self, Error> {
        let (port, cid) = match value.split_once(':') {
            Some((port, text)) => (port.parse()?, cid(text)?),
            None => (value.parse()?, Cid::HOST),
        };
        Ok(Self::Ready { sink: Endpoint::Vsock(cid, port) })
    }
}

/// A CID: a number, `host` or `local`.
///
/// # Errors
/// When the text is none.
pub fn cid(text: &str) -> Result<Cid, Error> {
    match text {
        "host" => Ok(Cid::HOST),
        "local" => Ok(Cid::LOCAL),
        _ => Some(text)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok().map(Cid))
            .filter(|cid| *cid != Cid::ANY)
            .ok_or_else(|| Error::Cid(text.to_owned())),
    }
}

fn path(text: &str) -> Result<PathBuf, Error> {
    // sun_path has 108 bytes, the last of them zero: unix(7).
    if text.starts_with('/') && text.len() < 108 && !text.contains('\0') {
        Ok(text.into())
    } else {
        Err(Error::Path(text.to_owned()))
    }
}

fn tcp(text: &str) -> Result<SocketAddr, Error> {
    let wrong = || Error::Tcp(text.to_owned());
    let address = match text.strip_prefix("localhost:") {
        Some(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().map_err(|_| wrong())?),
        None => text.parse().map_err(|_| wrong())?,
    };
    if address.port() == 0 { Err(wrong()) } else { Ok(address) }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { listen, target } => write!(f, "forward {listen} to {target}"),
            Self::Syslog { source, sink } => write!(f, "send messages from {source} to {sink}"),
            Self::Ready { sink } => write!(f, "tell {sink} when everything is in place"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::port::Port;

    type Parse = fn(&str) -> Result<Rule, Error>;

    fn shown(rule: Result<Rule, Error>) -> String {
        rule.map_or_else(|error| error.to_string(), |rule| rule.to_string())
    }

    #[test]
    fn what_flags_mean() {
        let cases: &[(Parse, &str, &str)] = &[
            (
                Rule::inport,
                "2374:unix:/run/containerd/containerd.sock",
                "forward vsock::2374 to unix:/run/containerd/containerd.sock",
            ),
            (
                Rule::inport,
                "00000946-facb-11e6-bd58-64006a7986d3:unix:/a:b",
                "forward vsock::2374 to unix:/a:b",
            ),
            (Rule::inport, "1:unixgram:/dev/log", "forward vsock::1 to unixgram:/dev/log"),
            (Rule::inport, "1:tcp:[::1]:22", "forward vsock::1 to tcp:[::1]:22"),
            (Rule::inport, "1:tcp:localhost:22", "forward vsock::1 to tcp:127.0.0.1:22"),
            (Rule::outport, "/run/host.sock:80", "forward unix:/run/host.sock to vsock:2:80"),
            (Rule::outport, "/run/host.sock:80:local", "forward unix:/run/host.sock to vsock:1:80"),
            (Rule::outport, "/a:b:80:3", "forward unix:/a:b to vsock:3:80"),
            (Rule::outport, "/a:b:80", "forward unix:/a:b to vsock:2:80"),
            (Rule::outport, "/a:00000946-facb-11e6-bd58-64006a7986d3", "forward unix:/a to vsock:2:2374"),
            (Rule::syslog, "514:/dev/log", "send messages from unixgram:/dev/log to vsock:2:514"),
            (Rule::ready, "9000", "tell vsock:2:9000 when everything is in place"),
            (Rule::ready, "9000:1", "tell vsock:1:9000 when everything is in place"),
        ];
        for (parse, value, meaning) in cases {
            assert_eq!(shown(parse(value)), *meaning, "{value}");
        }
    }

    #[test]
    fn what_flags_do_not_mean() {
        for value in [
            "",
            "1",
            "1:unix",
            "unix:/a",
            "x:unix:/a",
            "1:unix:a",
            "1:unix:",
            "1:udp:1.2.3.4:5",
            "1:tcp:host:5",
            "1:tcp:1.2.3.4",
            "1:tcp:1.2.3.4:0",
        ] {
            assert!(Rule::inport(value).is_err(), "{value}");
        }
        for value in ["", "/a", "/a:x", "a:1", "/a:1:x", "/a:1:4294967295", ":1"] {
            assert!(Rule::outport(value).is_err(), "{value}");
        }
        assert!(Rule::inport(&format!("1:unix:/{}", "x".repeat(107))).is_err());
        assert!(Rule::inport(&format!("1:unix:/{}", "x".repeat(106))).is_ok());
        assert!(Rule::syslog("514").is_err() && Rule::ready("").is_err() && Rule::ready("1:").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_or_an_error(text in "\\PC*") {
            for parse in [Rule::inport, Rule::outport, Rule::syslog, Rule::ready] {
                let _ = parse(&text);
            }
        }

        #[test]
        fn texts_of_the_right_pieces(text in "(/|[0-9]{1,11}|:|unix|unixgram|tcp|local|host|\\[::1\\]|-facb-11e6-bd58-64006a7986d3){0,9}") {
            for parse in [Rule::inport, Rule::outport, Rule::syslog, Rule::ready] {
                let _ = parse(&text);
            }
        }

        #[test]
        fn ports_and_paths_arrive_where_they_belong(number in 0..u32::MAX, to in 0..u32::MAX, name in "[a-z0-9:./_-]{1,40}") {
            let file = format!("/{name}");
            let port = Port::new(number).unwrap();
            let listen = Endpoint::Vsock(Cid::ANY, port);
            let inward = Rule::Forward { listen, target: Endpoint::Unix(file.clone().into()) };
            prop_assert_eq!(Rule::inport(&format!("{number}:unix:{file}")), Ok(inward));
            let target = Endpoint::Vsock(Cid(to), port);
            let outward = Rule::Forward { listen: Endpoint::Unix(file.clone().into()), target };
            prop_assert_eq!(Rule::outport(&format!("{file}:{number}:{to}")), Ok(outward));
        }
    }
}
