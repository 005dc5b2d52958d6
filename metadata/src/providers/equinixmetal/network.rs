// SPDX-License-Identifier: Apache-2.0
//! The machine's network as the document wants it: a list of actions each of
//! which can be undone. [`super::apply`] carries them out.

use std::fmt;
use std::net::IpAddr;

use init::net::{Address as LinkAddress, Error, LinkFlags, Netlink, Route};

use super::document::{Address, Network};

/// Longest name of an interface (`IFNAMSIZ` of `<linux/if.h>`, less the zero byte).
const MAX_NAME: usize = 15;

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The interfaces.
    pub links: Vec<LinkState>,
    /// The routes that somebody has set up.
    pub routes: Vec<Route>,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, in lower case with colons.
    pub mac: String,
    /// Whether it is switched on.
    pub up: bool,
    /// The bond it belongs to, by number.
    pub master: Option<u32>,
    /// Its addresses, without the link-local ones, which the kernel makes.
    pub addresses: Vec<LinkAddress>,
}

impl Machine {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The kernel's.
    pub fn look(netlink: &mut Netlink) -> Result<Self, Error> {
        let mut links = Vec::new();
        for link in netlink.links()? {
            let addresses = netlink.addresses(link.index)?;
            let own = |address: &LinkAddress| match address.ip {
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
                IpAddr::V4(_) => true,
            };
            links.push(LinkState {
                index: link.index,
                mac: link.address.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
                up: link.flags.contains(LinkFlags::Up),
                master: link.master,
                addresses: addresses.into_iter().filter(own).collect(),
                name: link.name,
            });
        }
        Ok(Self { links, routes: netlink.routes()? })
    }

    fn by_name(&self, name: &str) -> Option<&LinkState> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// One change. Interfaces are meant by the name they have at that point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Takes a route away.
    DeleteRoute(String, Route),
    /// Adds a route over an interface.
    AddRoute(String, Route),
    /// Takes an address away.
    DeleteAddress(String, LinkAddress),
    /// Adds an address.
    AddAddress(String, LinkAddress),
    /// Switches an interface off.
    Down(String),
    /// Switches an interface on.
    Up(String),
    /// Gives an interface another name.
    Rename(String, String),
    /// Makes a bond of this mode.
    AddBond(String, u8),
    /// Removes a bond.
    DeleteBond(String, u8),
    /// Puts an interface into a bond.
    Enslave(String, String),
    /// Takes an interface out of a bond.
    Release(String, String),
}

impl Action {
    /// What undoes it.
    #[must_use]
    pub fn inverse(&self) -> Self {
        match self.clone() {
            Self::DeleteRoute(link, route) => Self::AddRoute(link, route),
            Self::AddRoute(link, route) => Self::DeleteRoute(link, route),
            Self::DeleteAddress(link, address) => Self::AddAddress(link, address),
            Self::AddAddress(link, address) => Self::DeleteAddress(link, address),
            Self::Down(link) => Self::Up(link),
            Self::Up(link) => Self::Down(link),
            Self::Rename(from, to) => Self::Rename(to, from),
            Self::AddBond(name, mode) => Self::DeleteBond(name, mode),
            Self::DeleteBond(name, mode) => Self::AddBond(name, mode),
            Self::Enslave(link, bond) => Self::Release(link, bond),
            Self::Release(link, bond) => Self::Enslave(link, bond),
        }
    }
}

/// In the words of ip(8).
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteRoute(link, route) => write!(f, "route del {route} ({link})"),
            Self::AddRoute(link, route) => write!(f, "route add {route} ({link})"),
            Self::DeleteAddress(link, own) => write!(f, "address del {}/{} dev {link}", own.ip, own.prefix),
            Self::AddAddress(link, own) => write!(f, "address add {}/{} dev {link}", own.ip, own.prefix),
            Self::Down(link) => write!(f, "link set {link} down"),
            Self::Up(link) => write!(f, "link set {link} up"),
            Self::Rename(from, to) => write!(f, "link set {from} name {to}"),
            Self::AddBond(name, mode) => write!(f, "link add {name} type bond mode {mode}"),
            Self::DeleteBond(name, _) => write!(f, "link del {name}"),
            Self::Enslave(link, bond) => write!(f, "link set {link} master {bond}"),
            Self::Release(link, _) => write!(f, "link set {link} nomaster"),
        }
    }
}

/// An interface of the machine that the document names.
struct Member<'a> {
    link: &'a LinkState,
    name: &'a str,
    bond: Option<&'a str>,
}

/// The actions that make the machine's network what the document says; none
/// if it is so already.
///
/// # Errors
/// In words, why it cannot be made so. Nothing has been done then.
pub fn plan(network: &Network, machine: &Machine) -> Result<Vec<Action>, String> {
    let members = members(network, machine)?;
    let mut bonds: Vec<&str> = Vec::new();
    for bond in members.iter().filter_map(|member| member.bond) {
        if !bonds.contains(&bond) {
            bonds.push(bond);
        }
    }
    // The addresses belong to the first bond, or the first interface.
    let carrier =
        bonds.first().copied().unwrap_or(members.first().ok_or("no interface of the document is here")?.name);
    if is_done(network, machine, &members, carrier) {
        return Ok(Vec::new());
    }
    let mut plan = Vec::new();
    for member in &members {
        clear(&mut plan, member.link, machine);
    }
    rename(&mut plan, &members);
    for bond in &bonds {
        add_bond(&mut plan, bond, network.bonding.mode.unwrap_or(0), machine)?;
    }
    for member in &members {
        match member.bond {
            Some(bond) => plan.push(Action::Enslave(member.name.to_owned(), bond.to_owned())),
            None => plan.push(Action::Up(member.name.to_owned())),
        }
    }
    plan.extend(bonds.iter().map(|bond| Action::Up((*bond).to_owned())));
    for address in addresses(network) {
        if address.cidr > if address.address.is_ipv4() { 32 } else { 128 } {
            return Err(format!("{}/{} is no address", address.address, address.cidr));
        }
        let address = LinkAddress::new(0, address.address, address.cidr);
        plan.push(Action::AddAddress(carrier.to_owned(), address));
    }
    plan.extend(routes(network).map(|route| Action::AddRoute(carrier.to_owned(), route)));
    Ok(plan)
}

fn addresses(network: &Network) -> impl Iterator<Item = &Address> {
    network.addresses.iter().filter(|address| address.enabled)
}

/// The routes over the addresses' gateways.
fn routes(network: &Network) -> impl Iterator<Item = Route> {
    addresses(network).filter_map(|address| {
        let gateway = address.gateway.filter(|gateway| gateway.is_ipv4() == address.address.is_ipv4())?;
        let destination = destination(address.address, address.public)?;
        Some(Route { destination, gateway: Some(gateway), ..Route::DEFAULT })
    })
}

/// Where an address's gateway leads: everywhere from a public one, to the
/// private networks of its class from a private one.
fn destination(address: IpAddr, public: bool) -> Option<(IpAddr, u8)> {
    match (address, public) {
        (IpAddr::V4(_), true) => Some((IpAddr::from([0, 0, 0, 0]), 0)),
        (IpAddr::V6(_), true) => Some((IpAddr::from([0_u16; 8]), 0)),
        (IpAddr::V6(_), false) => None,
        (IpAddr::V4(ip), false) => {
            let [a, b, c, _] = ip.octets();
            Some(match a {
                0..128 => (IpAddr::from([a, 0, 0, 0]), 8),
                128..192 => (IpAddr::from([a, b, 0, 0]), 16),
                _ => (IpAddr::from([a, b, c, 0]), 24),
            })
        }
    }
}

fn members<'a>(network: &'a Network, machine: &'a Machine) -> Result<Vec<Member<'a>>, String> {
    let mut members: Vec<Member<'a>> = Vec::new();
    for interface in &network.interfaces {
        let mac = interface.mac.to_ascii_lowercase();
        // Members of a bond all show the bond's address, as does the bond.
        let by_mac = |link: &&LinkState| {
            link.mac == mac && !network.interfaces.iter().any(|other| other.bond.as_ref() == Some(&link.name))
        };
        let named = machine.by_name(&interface.name).filter(|link| link.master.is_some());
        let Some(link) = named.or_else(|| machine.links.iter().find(by_mac)) else { continue };
        for name in [Some(interface.name.as_str()), interface.bond.as_deref()].into_iter().flatten() {
            if !is_name(name) {
                return Err(format!("{name:?} is no name for an interface"));
            }
        }
        let taken =
            members.iter().any(|other| other.name == interface.name || other.link.index == link.index);
        if taken {
            return Err(format!("{} is in the document twice", interface.name));
        }
        members.push(Member { link, name: &interface.name, bond: interface.bond.as_deref() });
    }
    for member in &members {
        let owner = machine.by_name(member.name).filter(|owner| owner.index != member.link.index);
        if owner.is_some_and(|owner| !members.iter().any(|other| other.link.index == owner.index)) {
            return Err(format!("an interface that is not in the document is called {}", member.name));
        }
    }
    Ok(members)
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte))
}

fn is_done(network: &Network, machine: &Machine, members: &[Member<'_>], carrier: &str) -> bool {
    let bonded = members.iter().all(|member| {
        let master = member.bond.map(|bond| machine.by_name(bond).map(|link| link.index));
        member.link.name == member.name
            && master.is_none_or(|master| master.is_some() && master == member.link.master)
    });
    let Some(carrier) = machine.by_name(carrier).filter(|link| link.up) else { return false };
    let has = |address: &Address| {
        carrier.addresses.iter().any(|own| (own.ip, own.prefix) == (address.address, address.cidr))
    };
    let leads = |route: Route| {
        let same = |own: &Route| own.destination == route.destination && own.gateway == route.gateway;
        machine.routes.iter().any(|own| same(own) && own.index == Some(carrier.index))
    };
    bonded && addresses(network).all(has) && routes(network).all(leads)
}

/// Takes from an interface what it has, so that it can be renamed and bonded.
/// Routes go first, and of those the ones over a gateway: undone in reverse,
/// they come back when the addresses and the networks that they need are there
/// again.
fn clear(plan: &mut Vec<Action>, link: &LinkState, machine: &Machine) {
    let name = || link.name.clone();
    let own = machine.routes.iter().filter(|route| route.index == Some(link.index));
    let (far, near): (Vec<&Route>, Vec<&Route>) = own.partition(|route| route.gateway.is_some());
    plan.extend(far.into_iter().chain(near).map(|route| Action::DeleteRoute(name(), *route)));
    // The kernel lists the first IPv4 address first, and the others of its
    // network are second to it; of IPv6 it lists the newest first. So the order
    // in which they come back, which is the reverse of this one, is the same.
    let (v4, v6): (Vec<&LinkAddress>, Vec<_>) =
        link.addresses.iter().partition(|address| address.ip.is_ipv4());
    let addresses = v4.into_iter().rev().chain(v6);
    plan.extend(addresses.map(|address| Action::DeleteAddress(name(), *address)));
    if link.up {
        plan.push(Action::Down(name()));
    }
    let master = link.master.and_then(|master| machine.links.iter().find(|link| link.index == master));
    if let Some(master) = master {
        plan.push(Action::Release(name(), master.name.clone()));
    }
}

/// Gives every interface its name. Where one has the name of another, all go
/// by way of names that nobody has.
fn rename(plan: &mut Vec<Action>, members: &[Member<'_>]) {
    let renamed: Vec<&Member<'_>> = members.iter().filter(|member| member.link.name != member.name).collect();
    let collide = |member: &Member<'_>| renamed.iter().any(|other| other.link.name == member.name);
    if !renamed.iter().any(|member| collide(member)) {
        plan.extend(renamed.iter().map(|it| Action::Rename(it.link.name.clone(), it.name.to_owned())));
        return;
    }
    let temporary = |member: &Member<'_>| format!("lkinit-{}", member.link.index);
    plan.extend(renamed.iter().map(|it| Action::Rename(it.link.name.clone(), temporary(it))));
    plan.extend(renamed.iter().map(|it| Action::Rename(temporary(it), it.name.to_owned())));
}

/// A bond of this name may be there: loading the module makes one. It is
/// replaced, for its mode cannot be changed in every state, unless it is in use.
fn add_bond(plan: &mut Vec<Action>, bond: &str, mode: u8, machine: &Machine) -> Result<(), String> {
    if mode > 6 {
        return Err(format!("{mode} is no mode of a bond"));
    }
    if let Some(old) = machine.by_name(bond) {
        let released = |link: &LinkState| {
            plan.iter().any(|action| matches!(action, Action::Release(name, _) if *name == link.name))
        };
        if machine.links.iter().any(|link| link.master == Some(old.index) && !released(link)) {
            return Err(format!("{bond} is there and has other interfaces"));
        }
        clear(plan, old, machine);
        plan.push(Action::DeleteBond(bond.to_owned(), mode));
    }
    plan.push(Action::AddBond(bond.to_owned(), mode));
    Ok(())
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
