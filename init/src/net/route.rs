// SPDX-License-Identifier: Apache-2.0
//! Routes. Source: rtnetlink(7), ip-route(8).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::address::family;
use super::{Error, Netlink};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

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
}

impl Route {
    /// The IPv4 default route, by nothing yet.
    pub const DEFAULT: Self = Self {
        destination: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        gateway: None,
        index: None,
        source: None,
        metric: None,
        onlink: false,
    };

    fn message(&self) -> RouteMessage {
        let (destination, prefix) = self.destination;
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = prefix;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
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
