// SPDX-License-Identifier: Apache-2.0
//! Carrying a plan for the network out: all of it, or nothing.

use init::net::{
    Address as LinkAddress, BondLacpRate, BondMode, BondXmitHashPolicy, Change, Error, InfoBond, InfoData,
    Netlink, NewLink, Route,
};

use super::network::Action;

/// Who carries actions out: the kernel, or a test.
pub trait Actor {
    /// Carries one out.
    ///
    /// # Errors
    /// The kernel's.
    fn act(&mut self, action: &Action) -> Result<(), Error>;
}

/// Why the network is as it was, or not even that.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An action failed, and those before it were undone.
    #[error("{action}: {source}; what had been done before is undone")]
    Undone {
        /// Which.
        action: String,
        /// The kernel's answer.
        source: Box<Error>,
    },
    /// An action failed, and so did undoing another.
    #[error("{action}: {source}; undoing failed too: {undo}")]
    Stuck {
        /// Which.
        action: String,
        /// The kernel's answer.
        source: Box<Error>,
        /// The first that could not be undone, with the kernel's answer.
        undo: String,
    },
}

/// Carries the plan out, to its end or not at all.
///
/// # Errors
/// [`ApplyError`].
pub fn apply(actor: &mut impl Actor, plan: &[Action]) -> Result<(), ApplyError> {
    for (index, action) in plan.iter().enumerate() {
        let Err(source) = actor.act(action) else { continue };
        let mut failure = None;
        for done in plan.iter().take(index).rev() {
            let undo = done.inverse();
            if let Err(error) = actor.act(&undo) {
                failure = failure.or(Some(format!("{undo}: {error}")));
            }
        }
        let (action, source) = (action.to_string(), Box::new(source));
        return Err(match failure {
            None => ApplyError::Undone { action, source },
            Some(undo) => ApplyError::Stuck { action, source, undo },
        });
    }
    Ok(())
}

impl Actor for Netlink {
    fn act(&mut self, action: &Action) -> Result<(), Error> {
        let index = |netlink: &mut Self, name: &str| match netlink.link(name)? {
            Some(link) => Ok(link.index),
            None => Err(Error::Refused {
                request: format!("look for link {name}"),
                source: nix::errno::Errno::ENODEV.into(),
                explanation: None,
            }),
        };
        match action {
            Action::DeleteRoute(link, route) => {
                let route = Route { index: Some(index(self, link)?), ..*route };
                gone(self.delete_route(&route))
            }
            Action::AddRoute(link, route) => {
                let route = Route { index: Some(index(self, link)?), ..*route };
                self.add_route(&route)
            }
            Action::DeleteAddress(link, address) => {
                let address = LinkAddress { index: index(self, link)?, ..*address };
                gone(self.delete_address(&address))
            }
            Action::AddAddress(link, address) => {
                let address = LinkAddress { index: index(self, link)?, ..*address };
                self.add_address(&address)
            }
            Action::Down(link) => index(self, link).and_then(|index| self.change(index, &[Change::Down])),
            Action::Up(link) => index(self, link).and_then(|index| self.change(index, &[Change::Up])),
            Action::Rename(from, to) => {
                index(self, from).and_then(|index| self.change(index, &[Change::Name(to)]))
            }
            Action::AddBond(name, mode) => add_bond_link(self, name, *mode),
            Action::DeleteBond(name, _) => index(self, name).and_then(|index| self.delete_link(index)),
            Action::Enslave(link, bond) => {
                let master = index(self, bond)?;
                index(self, link).and_then(|index| self.change(index, &[Change::Master(Some(master))]))
            }
            Action::Release(link, _) => {
                index(self, link).and_then(|index| self.change(index, &[Change::Master(None)]))
            }
        }
    }
}

/// What went with something else is not missed.
fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if matches!(error.errno(), Some(libc::ESRCH | libc::EADDRNOTAVAIL)) => Ok(()),
        result => result,
    }
}

/// The options are what Equinix's own images use: hashing over addresses and
/// ports, link state looked at every 100 ms and believed after 200.
fn add_bond_link(netlink: &mut Netlink, name: &str, mode: u8) -> Result<(), Error> {
    let mode = BondMode::from(mode);
    let mut options =
        vec![InfoBond::Mode(mode), InfoBond::MiiMon(100), InfoBond::UpDelay(200), InfoBond::DownDelay(200)];
    if matches!(mode, BondMode::BalanceXor | BondMode::Ieee8023Ad | BondMode::BalanceTlb) {
        options.push(InfoBond::XmitHashPolicy(BondXmitHashPolicy::Layer34));
    }
    if mode == BondMode::Ieee8023Ad {
        options.push(InfoBond::AdLacpRate(BondLacpRate::Fast));
    }
    let link = NewLink { data: Some(InfoData::Bond(options)), ..NewLink::new(name, "bond") };
    match netlink.add_link(&link) {
        // The request has loaded the module, and the module has made a bond0.
        Err(error) if error.errno() == Some(libc::EEXIST) => {
            if let Some(made) = netlink.link(name)? {
                netlink.delete_link(made.index)?;
            }
            netlink.add_link(&link)
        }
        result => result,
    }
}
