// SPDX-License-Identifier: Apache-2.0
//! Network links, addresses and routes by rtnetlink(7): a request, then the
//! kernel's answer, with the words it has for a refusal.
//!
//! Blocking and without state. The kernel answers each request before it
//! returns from the call, so there is nothing to wait for.

mod address;
mod link;
mod route;
mod socket;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use address::Address;
pub use link::{Change, Link, NewLink, Peer};
pub use netlink_packet_route::link::{
    BondLacpRate, BondMode, BondXmitHashPolicy, InfoBond, InfoData, InfoMacVlan, InfoVlan, LinkFlags,
};
pub use route::Route;
pub use socket::Netlink;

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no talking to the kernel.
    #[error("netlink: {tried}: {source}")]
    Socket {
        /// Which call failed.
        tried: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{request}: {source}{}", .explanation.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was asked for.
        request: String,
        /// The kernel's error number.
        source: io::Error,
        /// The kernel's own words (`NLMSGERR_ATTR_MSG`), where it has any.
        explanation: Option<String>,
    },
    /// The kernel's answer makes no sense.
    #[error("{request}: the kernel's answer cannot be read: {problem}")]
    Answer {
        /// What was asked for.
        request: String,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    /// The kernel's error number.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Answer { .. } => None,
        }
    }
}

/// Brings `lo` up with 127.0.0.1/8 and, if the kernel has IPv6, ::1/128.
///
/// # Errors
/// The first request the kernel refuses.
pub fn loopback_up() -> Result<(), Error> {
    /// The kernel makes `lo` the first device of each network namespace
    /// (`LOOPBACK_IFINDEX`).
    const LO: u32 = 1;
    let mut netlink = Netlink::open()?;
    netlink.change(LO, &[Change::Up])?;
    netlink.add_address(&Address::new(LO, IpAddr::V4(Ipv4Addr::LOCALHOST), 8))?;
    match netlink.add_address(&Address::new(LO, IpAddr::V6(Ipv6Addr::LOCALHOST), 128)) {
        // Without IPv6, or with it switched off on this link.
        Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EACCES)) => {
            Ok(())
        }
        result => result,
    }
}
