// SPDX-License-Identifier: Apache-2.0
//! Links: the kernel's word for network devices. Source: rtnetlink(7),
//! `<linux/if_link.h>`.

use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NlaBuffer, NlasIterator};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkHeader, LinkInfo, LinkMessage,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Error, Netlink};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, by which everything else refers to it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The kind it was made as (`veth`, `bridge`, …); `None` for hardware and `lo`.
    pub kind: Option<String>,
    /// Its hardware address; empty where there is no such thing.
    pub address: Vec<u8>,
    /// Largest payload of a packet, in bytes.
    pub mtu: u32,
    /// The bridge or bond it is a port of.
    pub master: Option<u32>,
    /// Free text that somebody gave it.
    pub alias: Option<String>,
    /// Up, running, loopback and the like.
    pub flags: LinkFlags,
}

impl Link {
    /// Reads the few attributes we use. The crate's own parser is not used:
    /// it gives up on a whole link when one of its hundred attributes has an
    /// unknown form, which the next kernel may well send.
    fn parse(payload: &[u8]) -> Result<Self, String> {
        const HEADER: usize = 16;
        const ADDRESS: u16 = 1;
        const NAME: u16 = 3;
        const MTU: u16 = 4;
        const MASTER: u16 = 10;
        const INFO: u16 = 18;
        const ALIAS: u16 = 20;
        const KIND: u16 = 1;
        let header = LinkHeader::parse(payload).map_err(|error| error.to_string())?;
        let mut link = Self {
            index: header.index,
            name: String::new(),
            kind: None,
            address: Vec::new(),
            mtu: 0,
            master: None,
            alias: None,
            flags: header.flags,
        };
        for attribute in NlasIterator::new(payload.get(HEADER..).unwrap_or_default()) {
            let attribute = attribute.map_err(|error| error.to_string())?;
            match attribute.kind() {
                ADDRESS => attribute.value().clone_into(&mut link.address),
                NAME => link.name = text(attribute.value()),
                MTU => link.mtu = number(&attribute).unwrap_or_default(),
                MASTER => link.master = number(&attribute),
                ALIAS => link.alias = Some(text(attribute.value())),
                INFO => {
                    let mut info = NlasIterator::new(attribute.value()).flatten();
                    link.kind = info.find(|it| it.kind() == KIND).map(|it| text(it.value()));
                }
                _ => {}
            }
        }
        Ok(link)
    }
}

fn number(attribute: &NlaBuffer<&[u8]>) -> Option<u32> {
    attribute.value().try_into().ok().map(u32::from_ne_bytes)
}

/// A string of the kernel's, without the zero byte at its end.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

/// A link to be made.
#[derive(Debug, Clone)]
pub struct NewLink<'a> {
    /// Its name. `%d` in it is replaced by the kernel with a number that is free.
    pub name: &'a str,
    /// Its kind: `veth`, `bridge`, `dummy`, `wireguard`, `bond`, …
    pub kind: &'a str,
    /// The network namespace it is to be in; `None` is the socket's.
    pub namespace: Option<BorrowedFd<'a>>,
    /// The other end, for a veth pair.
    pub peer: Option<Peer<'a>>,
    /// The link it is on top of, for `vlan`, `macvlan` and the like.
    pub parent: Option<u32>,
    /// What is special to its kind. Not together with `peer`.
    pub data: Option<InfoData>,
}

/// The other end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network namespace it is to be in; `None` is the socket's.
    pub namespace: Option<BorrowedFd<'a>>,
}

impl<'a> NewLink<'a> {
    /// A link without anything special.
    pub fn new(name: &'a str, kind: &'a str) -> Self {
        Self { name, kind, namespace: None, peer: None, parent: None, data: None }
    }

    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.attributes = attributes(self.name, self.namespace);
        message.attributes.extend(self.parent.map(LinkAttribute::Link));
        let peer = self.peer.map(|peer| {
            let mut message = LinkMessage::default();
            message.attributes = attributes(peer.name, peer.namespace);
            InfoData::Veth(InfoVeth::Peer(message))
        });
        let mut info = vec![LinkInfo::Kind(InfoKind::Other(self.kind.to_owned()))];
        info.extend(peer.or_else(|| self.data.clone()).map(LinkInfo::Data));
        message.attributes.push(LinkAttribute::LinkInfo(info));
        message
    }
}

fn attributes(name: &str, namespace: Option<BorrowedFd<'_>>) -> Vec<LinkAttribute> {
    let namespace = namespace.map(|namespace| LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    [LinkAttribute::IfName(name.to_owned())].into_iter().chain(namespace).collect()
}

/// One change to a link.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Switch it on.
    Up,
    /// Switch it off.
    Down,
    /// Another name.
    Name(&'a str),
    /// Largest payload of a packet, in bytes.
    Mtu(u32),
    /// The bridge or bond it becomes a port of; `None` takes it out.
    Master(Option<u32>),
    /// Another hardware address.
    Address(&'a [u8]),
    /// Free text to know it by.
    Alias(&'a str),
    /// Into this network namespace.
    Namespace(BorrowedFd<'a>),
    /// Into the network namespace of this process.
    NamespaceOf(u32),
}

/// In the words of ip-link(8).
impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Down => f.write_str("down"),
            Self::Name(name) => write!(f, "name {name}"),
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::Master(Some(index)) => write!(f, "master {index}"),
            Self::Master(None) => f.write_str("nomaster"),
            Self::Address(address) => {
                let bytes: Vec<String> = address.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, "address {}", bytes.join(":"))
            }
            Self::Alias(alias) => write!(f, "alias {alias:?}"),
            Self::Namespace(_) => f.write_str("into another network namespace"),
            Self::NamespaceOf(pid) => write!(f, "netns {pid}"),
        }
    }
}

impl Netlink {
    /// All links of the namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let what = "list links";
        let answers = self.request(what, RTM_GETLINK, NLM_F_DUMP, &LinkMessage::default())?;
        answers.iter().map(|answer| parse(what, answer)).collect()
    }

    /// The link of this name; `None` if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let what = format!("look for link {name}");
        let mut message = LinkMessage::default();
        message.attributes = attributes(name, None);
        match self.request(&what, RTM_GETLINK, 0, &message) {
            Ok(answers) => answers.first().map(|answer| parse(&what, answer)).transpose(),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link of this name, which may come within `patience`: a driver
    /// still starting, or a link on its way back from a namespace that ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn await_link(&mut self, name: &str, patience: Duration) -> Result<Option<Link>, Error> {
        if let Some(link) = self.link(name)? {
            return Ok(Some(link));
        }
        // From here on this socket hears of every change to a link; answers
        // are told from news by their sequence number.
        self.watch_links()?;
        let end = Instant::now() + patience;
        loop {
            if let Some(link) = self.link(name)? {
                return Ok(Some(link));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // Rounded up, or the last millisecond would be a busy loop.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            // A signal is only a reason to look again.
            let _ = poll(&mut [PollFd::new(std::os::fd::AsFd::as_fd(self), PollFlags::POLLIN)], timeout);
            self.discard_news();
        }
    }

    /// Makes a link. The kernel loads the module of its kind if need be.
    ///
    /// # Errors
    /// EEXIST, EOPNOTSUPP for a kind it does not know, and others.
    pub fn add_link(&mut self, link: &NewLink<'_>) -> Result<(), Error> {
        let what = format!("add link {} type {}", link.name, link.kind);
        self.request(&what, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.message()).map(drop)
    }

    /// Makes all these changes to the link `index`, in one request.
    ///
    /// # Errors
    /// The kernel's; it may have made some of the changes.
    pub fn change(&mut self, index: u32, changes: &[Change<'_>]) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        for change in changes {
            message.attributes.push(match *change {
                Change::Up | Change::Down => {
                    message.header.change_mask |= LinkFlags::Up;
                    message.header.flags.set(LinkFlags::Up, matches!(change, Change::Up));
                    continue;
                }
                Change::Name(name) => LinkAttribute::IfName(name.to_owned()),
                Change::Mtu(mtu) => LinkAttribute::Mtu(mtu),
                Change::Master(master) => LinkAttribute::Controller(master.unwrap_or(0)),
                Change::Address(address) => LinkAttribute::Address(address.to_vec()),
                Change::Alias(alias) => LinkAttribute::IfAlias(alias.to_owned()),
                Change::Namespace(namespace) => LinkAttribute::NetNsFd(namespace.as_raw_fd()),
                Change::NamespaceOf(pid) => LinkAttribute::NetNsPid(pid),
            });
        }
        let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
        self.request(&format!("set link {index} {}", words.join(" ")), RTM_SETLINK, 0, &message).map(drop)
    }

    /// Removes the link `index`.
    ///
    /// # Errors
    /// ENODEV, EOPNOTSUPP for hardware, and others.
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.request(&format!("delete link {index}"), RTM_DELLINK, 0, &message).map(drop)
    }
}

fn parse(what: &str, answer: &[u8]) -> Result<Link, Error> {
    Link::parse(answer).map_err(|problem| Error::Answer { request: what.to_owned(), problem })
}
