// SPDX-License-Identifier: Apache-2.0
//! Routes. Source: rtnetlink(7), ip-route(8).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::address::family;
use super::{Error, Netlink};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network it leads to: address and prefix length. `0.0.0.0/0` or
    /// `::/0` is the default route.
    pub destination: (IpAddr, u8),
    /// The next hop; `None` for a network that is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The link to leave by; `None` lets the kernel find it by the gateway.
    pub index: Option<u32>,
    /// The address to send from.
    pub source: Option<IpAddr>,
    /// Of two routes the one with the lower metric is taken.
    pub metric: Option<u32>,
    /// The gateway is on the link, whatever the link's addresses say.
    pub onlink: bool,
    /// Who made it: `RTPROT_*` of `<linux/rtnetlink.h>`.
    pub protocol: u8,
}

/// `RTPROT_STATIC`: made by an administrator.
const STATIC: u8 = 4;

impl Route {
    /// The IPv4 default route, by nothing yet.
    pub const DEFAULT: Self = Self {
        destination: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        gateway: None,
        index: None,
        source: None,
        metric: None,
        onlink: false,
        protocol: STATIC,
    };

    fn message(&self) -> RouteMessage {
        let (destination, prefix) = self.destination;
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = prefix;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(self.protocol);
        message.header.kind = RouteType::Unicast;
        if self.gateway.is_none() {
            message.header.scope = RouteScope::Link;
        }
        message.header.flags.set(RouteFlags::Onlink, self.onlink);
        let address = |ip: IpAddr| RouteAddress::from(ip);
        let attributes = [
            (prefix > 0).then(|| RouteAttribute::Destination(address(destination))),
            self.gateway.map(|ip| RouteAttribute::Gateway(address(ip))),
            self.index.map(RouteAttribute::Oif),
            self.source.map(|ip| RouteAttribute::PrefSource(address(ip))),
            self.metric.map(RouteAttribute::Priority),
        ];
        message.attributes = attributes.into_iter().flatten().collect();
        message
    }
}

/// What of a route's description is read.
mod attribute {
    pub(super) const DESTINATION: u16 = 1;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
}

impl Route {
    /// `None` for a route of another table than the main one, of another kind
    /// than a plain one, and for those that the kernel makes itself: they come
    /// and go with addresses and router advertisements.
    fn parse(payload: &[u8]) -> Option<Self> {
        const HEADER: usize = 12;
        let header = RouteHeader::parse(payload).ok()?;
        let made = matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra);
        let plain = header.kind == RouteType::Unicast && header.table == RouteHeader::RT_TABLE_MAIN;
        if made || !plain {
            return None;
        }
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut route = Self { destination: (any, header.destination_prefix_length), ..Self::DEFAULT };
        route.protocol = u8::from(header.protocol);
        route.onlink = header.flags.contains(RouteFlags::Onlink);
        for part in NlasIterator::new(payload.get(HEADER..)?).flatten() {
            let bytes = part.value();
            let ip = || {
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
            };
            let number = || <[u8; 4]>::try_from(bytes).map(u32::from_ne_bytes).ok();
            match part.kind() {
                attribute::DESTINATION => route.destination.0 = ip()?,
                attribute::GATEWAY => route.gateway = ip(),
                attribute::OIF => route.index = number(),
                attribute::PREFSRC => route.source = ip(),
                attribute::PRIORITY => route.metric = number(),
                _ => {}
            }
        }
        Some(route)
    }
}

/// In the form of ip-route(8).
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.destination.0, self.destination.1)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(index) = self.index {
            write!(f, " dev {index}")?;
        }
        Ok(())
    }
}

impl Netlink {
    /// The routes of the main table that somebody has set up, without those
    /// that the kernel makes itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let answers = self.request("list routes", RTM_GETROUTE, NLM_F_DUMP, &RouteMessage::default())?;
        Ok(answers.iter().filter_map(|answer| Route::parse(answer)).collect())
    }

    /// Adds a route, or replaces the one to the same network with the same metric.
    ///
    /// # Errors
    /// ENETUNREACH for a gateway that no address of the link leads to, and others.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.request(&format!("add route {route}"), RTM_NEWROUTE, flags, &route.message()).map(drop)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// ESRCH if there is none, and others.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        self.request(&format!("delete route {route}"), RTM_DELROUTE, 0, &route.message()).map(drop)
    }
}
