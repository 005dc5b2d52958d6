// SPDX-License-Identifier: Apache-2.0
//! Addresses of links. Source: rtnetlink(7), `<linux/if_addr.h>`.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressMessage, AddressScope};

use super::{Error, Netlink};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// How many of its leading bits are the network's.
    pub prefix: u8,
}

impl Address {
    fn message(&self) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(self.ip);
        message.header.prefix_len = self.prefix;
        message.header.index = self.index;
        if self.ip.is_loopback() {
            message.header.scope = AddressScope::Host;
        }
        message.attributes = vec![AddressAttribute::Local(self.ip), AddressAttribute::Address(self.ip)];
        message
    }

    /// `None` for a family other than IP.
    fn parse(payload: &[u8]) -> Option<Self> {
        const HEADER: usize = 8;
        const ADDRESS: u16 = 1;
        const LOCAL: u16 = 2;
        let header = AddressHeader::parse(payload).ok()?;
        let mut found = None;
        for attribute in NlasIterator::new(payload.get(HEADER..)?).flatten() {
            let ip = || -> Option<IpAddr> {
                let bytes = attribute.value();
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
            };
            // On a point-to-point link ADDRESS is the other side and LOCAL ours.
            match attribute.kind() {
                LOCAL => found = ip(),
                ADDRESS => found = found.or_else(ip),
                _ => {}
            }
        }
        Some(Self { index: header.index, ip: found?, prefix: header.prefix_len })
    }
}

/// In the form of ip-address(8).
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} dev {}", self.ip, self.prefix, self.index)
    }
}

pub(super) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

impl Netlink {
    /// The addresses of link `index`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Error> {
        let answers = self.request("list addresses", RTM_GETADDR, NLM_F_DUMP, &AddressMessage::default())?;
        let addresses = answers.iter().filter_map(|answer| Address::parse(answer));
        Ok(addresses.filter(|address| address.index == index).collect())
    }

    /// Gives a link an address. One that it has already is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, address: &Address) -> Result<(), Error> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.request(&format!("add address {address}"), RTM_NEWADDR, flags, &address.message()).map(drop)
    }

    /// Takes an address from a link.
    ///
    /// # Errors
    /// EADDRNOTAVAIL if the link does not have it, and others.
    pub fn delete_address(&mut self, address: &Address) -> Result<(), Error> {
        self.request(&format!("delete address {address}"), RTM_DELADDR, 0, &address.message()).map(drop)
    }

    /// Takes all addresses from link `index`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn flush_addresses(&mut self, index: u32) -> Result<(), Error> {
        for address in self.addresses(index)? {
            match self.delete_address(&address) {
                // A secondary address goes with its primary one.
                Err(error) if error.errno() == Some(libc::EADDRNOTAVAIL) => {}
                result => result?,
            }
        }
        Ok(())
    }
}
