// SPDX-License-Identifier: Apache-2.0
//! Addresses of links. Source: rtnetlink(7), `<linux/if_addr.h>`.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};

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
    /// The other side's, on a point-to-point link; `prefix` counts its bits.
    pub peer: Option<IpAddr>,
    /// How many of its leading bits are the network's.
    pub prefix: u8,
    /// Where to send what is for the whole network.
    pub broadcast: Option<Ipv4Addr>,
    /// How far it is known: `RT_SCOPE_*` of `<linux/rtnetlink.h>`.
    pub scope: u8,
    /// What whoever gave the address wants of the kernel, and wants it not to
    /// do: those of `FLAGS`.
    pub flags: u32,
    /// How long it is still preferred and how long it is still valid, in
    /// seconds; `None` is for ever.
    pub lifetime: Option<(u32, u32)>,
    /// The name of an IPv4 address (`eth0:1`); without one it is the link's.
    pub label: Option<Label>,
    /// The metric of the route to its network that the kernel makes.
    pub metric: Option<u32>,
    /// Who gave it: `IFAPROT_*` of `<linux/if_addr.h>`.
    pub protocol: Option<u8>,
}

/// The longest name with its zero byte (`IFNAMSIZ` of `<linux/if.h>`).
const LABEL_SIZE: usize = 16;

/// The name of an address, which ends with the first zero byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label([u8; LABEL_SIZE]);

impl Label {
    /// The kernel's bytes; `None` for more than it has itself.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut own = [0; LABEL_SIZE];
        own.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(own))
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(name))
    }
}

/// `IFA_F_NODAD`, `IFA_F_HOMEADDRESS`, `IFA_F_MANAGETEMPADDR`,
/// `IFA_F_NOPREFIXROUTE` and `IFA_F_MCAUTOJOIN` of `<linux/if_addr.h>`. The
/// kernel makes the others.
const FLAGS: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
/// A lifetime without an end (`INFINITY_LIFE_TIME` of the kernel).
const FOR_EVER: u32 = u32::MAX;

impl Address {
    /// One that is valid for ever, with what the kernel makes of it.
    pub fn new(index: u32, ip: IpAddr, prefix: u8) -> Self {
        let scope = if ip.is_loopback() { AddressScope::Host } else { AddressScope::Universe };
        let scope = u8::from(scope);
        Self {
            index,
            ip,
            peer: None,
            prefix,
            broadcast: None,
            scope,
            flags: 0,
            lifetime: None,
            label: None,
            metric: None,
            protocol: None,
        }
    }

    fn message(&self) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(self.ip);
        message.header.prefix_len = self.prefix;
        message.header.index = self.index;
        message.header.scope = AddressScope::from(self.scope);
        let address = AddressAttribute::Address(self.peer.unwrap_or(self.ip));
        message.attributes = vec![AddressAttribute::Local(self.ip), address];
        let lifetime = self.lifetime.map(|(preferred, valid)| {
            let mut info = CacheInfo::default();
            (info.ifa_preferred, info.ifa_valid) = (preferred, valid);
            AddressAttribute::CacheInfo(info)
        });
        let flags = (self.flags != 0).then(|| AddressFlags::from_bits_retain(self.flags));
        message.attributes.extend(self.broadcast.map(AddressAttribute::Broadcast));
        message.attributes.extend(lifetime);
        message.attributes.extend(flags.map(AddressAttribute::Flags));
        let protocol = self.protocol.map(AddressProtocol::from);
        message.attributes.extend(self.label.map(|label| AddressAttribute::Label(label.to_string())));
        message.attributes.extend(self.metric.map(AddressAttribute::RoutePriority));
        message.attributes.extend(protocol.map(AddressAttribute::Protocol));
        message
    }

    /// `None` for a family other than IP.
    fn parse(payload: &[u8]) -> Option<Self> {
        const HEADER: usize = 8;
        const ADDRESS: u16 = 1;
        const LOCAL: u16 = 2;
        const LABEL: u16 = 3;
        const BROADCAST: u16 = 4;
        const CACHE_INFO: u16 = 6;
        const ALL_FLAGS: u16 = 8;
        const METRIC: u16 = 9;
        const PROTOCOL: u16 = 11;
        let header = AddressHeader::parse(payload).ok()?;
        let (mut local, mut address) = (None, None);
        let mut own = Self::new(header.index, Ipv4Addr::UNSPECIFIED.into(), header.prefix_len);
        own.scope = u8::from(header.scope);
        for attribute in NlasIterator::new(payload.get(HEADER..)?).flatten() {
            let ip = || -> Option<IpAddr> {
                let bytes = attribute.value();
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
            };
            // On a point-to-point link ADDRESS is the other side and LOCAL ours.
            match attribute.kind() {
                LOCAL => local = ip(),
                ADDRESS => address = ip(),
                LABEL => own.label = Label::from_bytes(attribute.value()),
                BROADCAST => own.broadcast = <[u8; 4]>::try_from(attribute.value()).map(Ipv4Addr::from).ok(),
                CACHE_INFO => own.lifetime = lifetime(attribute.value()),
                ALL_FLAGS => own.flags = number(attribute.value())? & FLAGS,
                METRIC => own.metric = number(attribute.value()),
                PROTOCOL => own.protocol = attribute.value().first().copied(),
                _ => {}
            }
        }
        let ip = local.or(address)?;
        Some(Self { ip, peer: address.filter(|address| *address != ip), ..own })
    }
}

/// In the form of ip-address(8).
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} dev {}", self.ip, self.prefix, self.index)
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

/// `struct ifa_cacheinfo`: preferred, then valid.
fn lifetime(bytes: &[u8]) -> Option<(u32, u32)> {
    let (preferred, valid) = (number(bytes)?, number(bytes.get(4..)?)?);
    ((preferred, valid) != (FOR_EVER, FOR_EVER)).then_some((preferred, valid))
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
