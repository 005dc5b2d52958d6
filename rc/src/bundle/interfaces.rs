// SPDX-License-Identifier: Apache-2.0
//! `interfaces`: network links given to a container between its creation and
//! its start.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use init::net::{self, Change, Netlink, NewLink, Peer};
use init::sys::namespace;

use super::apply::failed;
use super::{Bundle, Error};

/// How long a link that is to move in may take to appear. Hardware comes back
/// to the root namespace a moment after the container that had it has ended,
/// and a driver may still be starting.
const PATIENCE: Duration = Duration::from_secs(2);

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

impl Link {
    /// Its name inside the container.
    fn name(&self) -> &str {
        match self {
            Self::Pair { name, .. }
            | Self::Inside { name, .. }
            | Self::Moved { name, .. }
            | Self::Existing { name } => name,
        }
    }

    /// The kind it has to be of, if that is said.
    fn kind(&self) -> Option<&str> {
        match self {
            Self::Pair { .. } => Some("veth"),
            Self::Inside { kind, .. } | Self::Moved { kind, .. } => Some(kind),
            Self::Existing { .. } => None,
        }
    }
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
    /// Blocks, for at most two seconds a link that is not there yet.
    ///
    /// Again is as good as once: what the container's network namespace has
    /// already is left alone, and the outer end of a pair that an earlier
    /// start of the same container left behind is replaced.
    ///
    /// # Errors
    /// The first interface that fails.
    pub fn connect(&self, pid: i32) -> Result<(), Error> {
        if self.runtime.interfaces.is_empty() {
            return Ok(());
        }
        let path = namespace::path(pid, "net");
        let inside = File::open(&path).map_err(|source| {
            failed(&self.label(), "interfaces", &format!("open {}", path.display()), &path, source)
        })?;
        for link in self.links() {
            let before = self.runtime.bind_ns.net.as_deref().map(Path::new);
            let visit = Visit { container: self.label(), pid, inside: inside.as_fd(), before };
            visit.bring(&link).map_err(|failure| match failure {
                Failure::Refused(source) => {
                    Error::Interface { container: self.label(), name: link.name().to_owned(), source }
                }
                Failure::Unavailable(problem) => {
                    Error::Unavailable { container: self.label(), name: link.name().to_owned(), problem }
                }
            })?;
        }
        Ok(())
    }
}

/// Why an interface did not come in.
enum Failure {
    Refused(net::Error),
    Unavailable(String),
}

impl From<net::Error> for Failure {
    fn from(error: net::Error) -> Self {
        Self::Refused(error)
    }
}

/// One container's network namespace, seen from the root namespace.
struct Visit<'a> {
    container: String,
    pid: i32,
    inside: BorrowedFd<'a>,
    /// Where `bindNS` keeps the namespace of an earlier start.
    before: Option<&'a Path>,
}

impl Visit<'_> {
    fn bring(&self, link: &Link) -> Result<(), Failure> {
        let (mut root, mut inside) = (Netlink::open()?, Netlink::open_in(self.inside)?);
        if let Some(present) = inside.link(link.name())? {
            // A namespace that outlived an earlier start, or one shared with
            // another container: then this link is the one that is wanted.
            let kind = link.kind();
            if kind.is_none() || kind == present.kind.as_deref() {
                return Ok(());
            }
            let is = present.kind.as_deref().unwrap_or("hardware");
            let problem = format!("there is one of kind {is} already, not {}", kind.unwrap_or_default());
            return Err(Failure::Unavailable(problem));
        }
        match link {
            Link::Inside { name, kind } => Ok(inside.add_link(&NewLink::new(name, kind))?),
            Link::Moved { name, kind } => self.make_and_move(&mut root, name, kind),
            Link::Pair { name, peer } => self.pair(&mut root, name, peer),
            Link::Existing { name } => self.move_existing(&mut root, name),
        }
    }

    /// A name in the root namespace that nobody else uses. A link carries it
    /// while it is being made, so that its real name need not be free there,
    /// and one that a crash leaves behind is in nobody's way.
    fn temporary_name(&self, root: &mut Netlink) -> Result<String, net::Error> {
        let name = format!("lk{}", self.pid);
        if let Some(left) = root.link(&name)? {
            root.delete_link(left.index)?;
        }
        Ok(name)
    }

    fn make_and_move(&self, root: &mut Netlink, name: &str, kind: &str) -> Result<(), Failure> {
        let temporary = self.temporary_name(root)?;
        root.add_link(&NewLink::new(&temporary, kind))?;
        self.settle(root, &temporary, &[Change::Namespace(self.inside), Change::Name(name)])
    }

    fn pair(&self, root: &mut Netlink, name: &str, peer: &str) -> Result<(), Failure> {
        let mark = format!("lkinit: {}", self.container);
        if let Some(left) = root.link(peer)? {
            if left.alias.as_deref() != Some(&mark) {
                let problem = format!("its peer's name {peer} is taken in the root namespace");
                return Err(Failure::Unavailable(problem));
            }
            match root.delete_link(left.index) {
                // The kernel was quicker: the other end's namespace has just gone.
                Err(error) if error.errno() == Some(nix::libc::ENODEV) => {}
                result => result?,
            }
        }
        let temporary = self.temporary_name(root)?;
        let other = Peer { name, namespace: Some(self.inside) };
        root.add_link(&NewLink { peer: Some(other), ..NewLink::new(&temporary, "veth") })?;
        self.settle(root, &temporary, &[Change::Name(peer), Change::Alias(&mark)])
    }

    /// Makes the link `temporary` what it is to be; it is removed if that fails.
    fn settle(&self, root: &mut Netlink, temporary: &str, changes: &[Change<'_>]) -> Result<(), Failure> {
        let Some(link) = root.link(temporary)? else {
            return Err(Failure::Unavailable(format!(
                "it was taken away while it was still called {temporary}"
            )));
        };
        root.change(link.index, changes).map_err(|error| {
            // Gone already if it got as far as the other namespace.
            let _ = root.delete_link(link.index);
            Failure::Refused(error)
        })
    }

    fn move_existing(&self, root: &mut Netlink, name: &str) -> Result<(), Failure> {
        let change = [Change::Namespace(self.inside)];
        if root.link(name)?.is_none()
            && let Some(path) = self.before
            && let Ok(before) = File::open(path)
            && let Ok(mut before) = Netlink::open_in(before.as_fd())
            && let Some(link) = before.link(name)?
        {
            return Ok(before.change(link.index, &change)?);
        }
        match root.await_link(name, PATIENCE)? {
            Some(link) => Ok(root.change(link.index, &change)?),
            None => Err(Failure::Unavailable(format!(
                "there is none of that name to move in, after {} s of waiting",
                PATIENCE.as_secs()
            ))),
        }
    }
}
