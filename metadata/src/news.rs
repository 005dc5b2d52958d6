// SPDX-License-Identifier: Apache-2.0
//! Waiting for what the kernel will tell of: a network that comes up
//! (rtnetlink(7)), a device that appears (`NETLINK_KOBJECT_UEVENT`, netlink(7)).

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use init::net::{Link, LinkFlags, Netlink};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::http::Deadline;
use crate::http::connect::poll_timeout;

/// Groups of `<linux/rtnetlink.h>`: links, IPv4 and IPv6 addresses and routes.
const NETWORK: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// The kernel's own device events; other groups are udev's.
const DEVICES: u32 = 0x1;
/// Events seldom come alone: what belongs together has come after this long.
const SETTLE: Duration = Duration::from_millis(5);
/// How long to wait where the kernel does not tell.
const BLIND: Duration = Duration::from_millis(500);

/// Events from the time on that it was made.
#[derive(Debug)]
pub struct News(Option<OwnedFd>);

impl News {
    /// Changes of links, addresses and routes.
    pub fn of_network() -> Self {
        Self::open(SockProtocol::NetlinkRoute, NETWORK)
    }

    /// Devices that come and go.
    pub fn of_devices() -> Self {
        Self::open(SockProtocol::NetlinkKObjectUEvent, DEVICES)
    }

    fn open(protocol: SockProtocol, groups: u32) -> Self {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
            nix::Result::Ok(fd)
        };
        Self(open().ok())
    }

    /// Waits for the next event, at most this long.
    pub fn wait(&self, time: Duration) {
        let Some(fd) = &self.0 else { return std::thread::sleep(time.min(BLIND)) };
        let until = Deadline::after(time);
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut fds, poll_timeout(time)), Ok(1..)) {
            std::thread::sleep(until.remaining().min(SETTLE));
            let mut buffer = [0; 8192];
            while recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok_and(|count| count > 0) {}
        }
    }
}

/// Network interfaces that somebody has switched on, without the loopback.
/// `None` where the kernel does not tell.
pub fn interfaces_up() -> Option<Vec<String>> {
    let links = Netlink::open().and_then(|mut netlink| netlink.links()).ok()?;
    let up = |link: &Link| link.flags.contains(LinkFlags::Up) && !link.flags.contains(LinkFlags::Loopback);
    Some(links.into_iter().filter(up).map(|link| link.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends() {
        let start = std::time::Instant::now();
        News::of_network().wait(Duration::from_millis(20));
        News::of_devices().wait(Duration::from_millis(20));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
