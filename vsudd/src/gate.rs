// SPDX-License-Identifier: Apache-2.0
//! Who may connect: machines by CID, users by the credentials of their socket.

use std::fmt;

use crate::endpoint::{Cid, Peer};

/// A list of those allowed, or everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow<T> {
    /// Everybody.
    Any,
    /// These and nobody else.
    Only(Vec<T>),
}

impl<T: PartialEq> Allow<T> {
    fn has(&self, one: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => list.contains(one),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Allow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(list) => {
                for (index, one) in list.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{one}")?;
                }
                Ok(())
            }
        }
    }
}

/// Who may connect to the listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Machines that may connect by vsock.
    pub cids: Allow<Cid>,
    /// Users whose processes may connect by unix sockets.
    pub uids: Allow<u32>,
}

impl Gate {
    /// Whether this peer may connect. One without an identity may not.
    pub fn admits(&self, peer: Peer) -> bool {
        match peer {
            Peer::Machine(cid) => self.cids.has(&cid),
            Peer::User(uid) => self.uids.has(&uid),
            Peer::Unknown => false,
        }
    }

    /// The mode of a listener's socket file: only its owner reaches it, unless
    /// other users are let in and the gate has to look at each of them.
    pub fn file_mode(&self, owner: u32) -> u32 {
        match &self.uids {
            Allow::Only(uids) if uids.iter().all(|uid| [0, owner].contains(uid)) => 0o600,
            Allow::Any | Allow::Only(_) => 0o666,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_on_the_list() {
        let gate = Gate { cids: Allow::Only(vec![Cid::HOST]), uids: Allow::Only(vec![0, 7]) };
        assert!(gate.admits(Peer::Machine(Cid::HOST)) && gate.admits(Peer::User(7)));
        assert!(!gate.admits(Peer::Machine(Cid(3))) && !gate.admits(Peer::User(2)));
        assert!(!gate.admits(Peer::Unknown));
        assert_eq!(gate.cids.to_string(), "2");
        assert_eq!(gate.uids.to_string(), "0,7");
        assert_eq!((gate.file_mode(7), gate.file_mode(1)), (0o600, 0o666));
    }

    #[test]
    fn everybody_with_an_identity() {
        let gate = Gate { cids: Allow::Any, uids: Allow::Any };
        assert!(gate.admits(Peer::Machine(Cid(77))) && gate.admits(Peer::User(1000)));
        assert!(!gate.admits(Peer::Unknown));
        assert_eq!(gate.file_mode(0), 0o666);
    }
}
