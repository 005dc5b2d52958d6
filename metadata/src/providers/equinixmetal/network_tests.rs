// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::providers::equinixmetal::apply::{Actor, ApplyError, apply};
use crate::providers::equinixmetal::document::Document;
use nix::errno::Errno;

fn network(interfaces: &str, mode: &str) -> Network {
    let text = format!(
        r#"{{"id": "x", "network": {{"bonding": {{"mode": {mode}}}, "interfaces": [{interfaces}], "addresses": [
        {{"address": "192.0.2.2", "cidr": 31, "gateway": "192.0.2.3", "public": true, "enabled": true, "netmask": "x"}},
        {{"address": "10.99.0.2", "cidr": 31, "gateway": "10.99.0.3", "public": false, "enabled": true}},
        {{"address": "2001:db8::2", "cidr": 127, "gateway": "2001:db8::3", "public": true}},
        {{"address": "192.0.2.9", "cidr": 31, "gateway": "192.0.2.8", "public": true, "enabled": false}}]}}}}"#
    );
    Document::parse(text.as_bytes()).unwrap().network
}

const TWO: &str = r#"{"name": "eth0", "mac": "B4:96:91:00:00:01", "bond": "bond0"},
    {"name": "eth1", "mac": "b4:96:91:00:00:02", "bond": "bond0"}"#;

fn link(index: u32, name: &str, mac: u8) -> LinkState {
    LinkState { index, name: name.into(), mac: format!("b4:96:91:00:00:{mac:02x}"), ..LinkState::default() }
}

/// A machine whose first interface got an address by DHCP.
fn machine(names: [&str; 2]) -> Machine {
    let first = LinkState {
        up: true,
        addresses: vec![LinkAddress::new(2, "192.0.2.2".parse().unwrap(), 31)],
        ..link(2, names[0], 1)
    };
    let default = Route { gateway: Some("192.0.2.3".parse().unwrap()), index: Some(2), ..Route::DEFAULT };
    Machine { links: vec![link(1, "lo", 0), first, link(3, names[1], 2)], routes: vec![default] }
}

fn lines(plan: &[Action]) -> Vec<String> {
    plan.iter().map(ToString::to_string).collect()
}

#[test]
fn two_interfaces_become_a_bond() {
    let plan = plan(&network(TWO, "4"), &machine(["enp1s0", "eth1"])).unwrap();
    assert_eq!(
        lines(&plan),
        [
            "route del 0.0.0.0/0 via 192.0.2.3 dev 2 (enp1s0)",
            "address del 192.0.2.2/31 dev enp1s0",
            "link set enp1s0 down",
            "link set enp1s0 name eth0",
            "link add bond0 type bond mode 4",
            "link set eth0 master bond0",
            "link set eth1 master bond0",
            "link set bond0 up",
            "address add 192.0.2.2/31 dev bond0",
            "address add 10.99.0.2/31 dev bond0",
            "address add 2001:db8::2/127 dev bond0",
            "route add 0.0.0.0/0 via 192.0.2.3 (bond0)",
            "route add 10.0.0.0/8 via 10.99.0.3 (bond0)",
            "route add ::/0 via 2001:db8::3 (bond0)",
        ]
    );
}

#[test]
fn names_that_are_swapped_go_by_way_of_others() {
    let plan = plan(&network(TWO, "1"), &machine(["eth1", "eth0"])).unwrap();
    let renames: Vec<String> = lines(&plan).into_iter().filter(|line| line.contains(" name ")).collect();
    assert_eq!(
        renames,
        [
            "link set eth1 name lkinit-2",
            "link set eth0 name lkinit-3",
            "link set lkinit-2 name eth0",
            "link set lkinit-3 name eth1"
        ]
    );
}

#[test]
fn a_single_interface_without_a_bond_gets_the_addresses() {
    let one = r#"{"name": "eth0", "mac": "b4:96:91:00:00:01"}"#;
    let plan = lines(&plan(&network(one, "null"), &machine(["eth0", "eth1"])).unwrap());
    assert!(plan.contains(&"link set eth0 up".to_owned()) && !plan.iter().any(|line| line.contains("bond")));
    assert!(plan.contains(&"address add 192.0.2.2/31 dev eth0".to_owned()));
}

#[test]
fn what_cannot_be_is_said_before_anything_is_done() {
    let plan = |interfaces: &str, mode: &str, machine: &Machine| plan(&network(interfaces, mode), machine);
    let usual = machine(["eth0", "eth1"]);
    let none = r#"{"name": "eth0", "mac": "00:00:00:00:00:99", "bond": "bond0"}"#;
    assert_eq!(plan(none, "4", &usual).unwrap_err(), "no interface of the document is here");
    assert_eq!(plan(TWO, "7", &usual).unwrap_err(), "7 is no mode of a bond");
    let name = TWO.replace("\"eth1\"", "\"../x\"");
    assert_eq!(plan(&name, "4", &usual).unwrap_err(), "\"../x\" is no name for an interface");
    let twice = TWO.replace("\"eth1\"", "\"eth0\"");
    assert_eq!(plan(&twice, "4", &usual).unwrap_err(), "eth0 is in the document twice");
    let mut wide = network(TWO, "4");
    wide.addresses[0].cidr = 33;
    assert_eq!(super::plan(&wide, &usual).unwrap_err(), "192.0.2.2/33 is no address");
    let mut other = machine(["enp1s0", "enp2s0"]);
    other.links.push(link(4, "eth1", 9));
    assert_eq!(
        plan(TWO, "4", &other).unwrap_err(),
        "an interface that is not in the document is called eth1"
    );
    let mut used = machine(["eth0", "eth1"]);
    used.links.push(link(4, "bond0", 9));
    used.links.push(LinkState { master: Some(4), ..link(5, "eth7", 7) });
    assert_eq!(plan(TWO, "4", &used).unwrap_err(), "bond0 is there and has other interfaces");
}

/// A kernel in miniature, with the rules that matter: a name is unique, a link
/// must be down to be renamed or enslaved, a route needs an address.
#[derive(Debug, Clone, PartialEq)]
struct Kernel {
    machine: Machine,
    next: u32,
    /// Which action is refused.
    refuse: Option<usize>,
    count: usize,
}

impl Kernel {
    fn of(machine: Machine) -> Self {
        Self { machine, next: 100, refuse: None, count: 0 }
    }

    fn link(&mut self, name: &str) -> Result<&mut LinkState, Errno> {
        self.machine.links.iter_mut().find(|link| link.name == name).ok_or(Errno::ENODEV)
    }

    fn try_to(&mut self, action: &Action) -> Result<(), Errno> {
        match action {
            Action::DeleteRoute(name, route) => {
                let route = Route { index: Some(self.link(name)?.index), ..*route };
                self.machine.routes.retain(|own| *own != route);
            }
            Action::AddRoute(name, route) => {
                let link = self.link(name)?;
                if !link.up || link.addresses.is_empty() {
                    return Err(Errno::ENETUNREACH);
                }
                let route = Route { index: Some(link.index), ..*route };
                self.machine.routes.push(route);
            }
            Action::DeleteAddress(name, address) => {
                self.link(name)?.addresses.retain(|own| own != address);
            }
            Action::AddAddress(name, address) => self.link(name)?.addresses.push(*address),
            Action::Down(name) => {
                let link = self.link(name)?;
                link.up = false;
                let index = link.index;
                self.machine.routes.retain(|route| route.index != Some(index));
            }
            Action::Up(name) => self.link(name)?.up = true,
            Action::Rename(from, to) => {
                if self.link(to).is_ok() {
                    return Err(Errno::EEXIST);
                }
                let link = self.link(from)?;
                if link.up {
                    return Err(Errno::EBUSY);
                }
                link.name.clone_from(to);
            }
            Action::AddBond(name, _) => {
                if self.link(name).is_ok() {
                    return Err(Errno::EEXIST);
                }
                self.next += 1;
                self.machine.links.push(LinkState {
                    index: self.next,
                    name: name.clone(),
                    ..LinkState::default()
                });
            }
            Action::DeleteBond(name, _) => {
                let index = self.link(name)?.index;
                self.machine.links.retain(|link| link.index != index);
            }
            Action::Enslave(name, bond) => {
                let master = self.link(bond)?.index;
                let link = self.link(name)?;
                if link.up || link.master.is_some() {
                    return Err(Errno::EBUSY);
                }
                (link.master, link.up) = (Some(master), true);
            }
            Action::Release(name, _) => {
                let link = self.link(name)?;
                (link.master, link.up) = (None, false);
            }
        }
        Ok(())
    }
}

impl Actor for Kernel {
    fn act(&mut self, action: &Action) -> Result<(), Error> {
        self.count += 1;
        let result = if self.refuse == Some(self.count) { Err(Errno::EIO) } else { self.try_to(action) };
        result.map_err(|errno| Error::Refused {
            request: action.to_string(),
            source: errno.into(),
            explanation: None,
        })
    }
}

#[test]
fn all_or_nothing() {
    for names in [["enp1s0", "enp2s0"], ["eth0", "eth1"], ["eth1", "eth0"]] {
        let before = machine(names);
        let plan = plan(&network(TWO, "4"), &before).unwrap();
        let mut kernel = Kernel::of(before.clone());
        apply(&mut kernel, &plan).unwrap();
        let bond = kernel.machine.by_name("bond0").unwrap();
        assert_eq!(bond.addresses.len(), 3);
        assert_eq!(kernel.machine.routes.len(), 3);

        for refuse in 1..=plan.len() {
            let mut kernel = Kernel { refuse: Some(refuse), ..Kernel::of(before.clone()) };
            let error = apply(&mut kernel, &plan).unwrap_err();
            assert!(matches!(error, ApplyError::Undone { .. }), "{names:?} {refuse}: {error}");
            assert_eq!(kernel.machine, before, "{names:?} {refuse}");
        }
    }
}

#[test]
fn a_second_time_there_is_nothing_to_do() {
    let network = network(TWO, "4");
    let mut kernel = Kernel::of(machine(["enp1s0", "enp2s0"]));
    let first = plan(&network, &kernel.machine).unwrap();
    apply(&mut kernel, &first).unwrap();
    // Members of a bond show the bond's hardware address.
    for link in kernel.machine.links.iter_mut().filter(|link| link.name != "lo") {
        link.mac = "b4:96:91:00:00:01".into();
    }
    assert_eq!(lines(&plan(&network, &kernel.machine).unwrap()), [""; 0]);
    // The addresses alone are not all of it.
    kernel.machine.routes.pop();
    assert!(!plan(&network, &kernel.machine).unwrap().is_empty());
}

#[test]
fn a_bond_that_the_module_made_is_replaced() {
    let mut before = machine(["eth0", "eth1"]);
    before.links.push(link(9, "bond0", 9));
    let plan = plan(&network(TWO, "4"), &before).unwrap();
    let mut kernel = Kernel::of(before);
    apply(&mut kernel, &plan).unwrap();
    assert!(kernel.machine.by_name("bond0").unwrap().index > 100);
}

#[test]
fn every_action_undoes_its_inverse() {
    let mut before = machine(["eth1", "eth0"]);
    before.links.push(link(9, "bond0", 9));
    for action in plan(&network(TWO, "4"), &before).unwrap() {
        assert_eq!(action.inverse().inverse(), action);
    }
}
