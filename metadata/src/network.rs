// SPDX-License-Identifier: Apache-2.0
//! Waiting for a network that is not there yet: the kernel tells when a link,
//! an address or a route changes (rtnetlink(7)).

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::http::Deadline;
use crate::http::connect::poll_timeout;

/// Groups of `<linux/rtnetlink.h>`: links, IPv4 and IPv6 addresses and routes.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// A change seldom comes alone: what belongs together has come after this long.
const SETTLE: Duration = Duration::from_millis(5);

/// Changes of the network from the time of [`Changes::watch`] on.
pub struct Changes(Option<OwnedFd>);

impl Changes {
    /// Begins to watch. Where the kernel does not let us, only time passes.
    pub fn watch() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = || {
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            nix::Result::Ok(fd)
        };
        Self(open().ok())
    }

    /// Waits for the next change, at most this long.
    pub fn wait(&mut self, time: Duration) {
        let Some(fd) = &self.0 else { return std::thread::sleep(time) };
        let until = Deadline::after(time);
        if wait_readable(fd, time) {
            std::thread::sleep(until.remaining().min(SETTLE));
            let mut buffer = [0; 8192];
            while recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok_and(|count| count > 0) {}
        }
    }
}

fn wait_readable(fd: &OwnedFd, time: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, poll_timeout(time)), Ok(1..))
}

/// `IFF_UP` and `IFF_LOOPBACK` of `<linux/if.h>`.
const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;

/// Network interfaces that somebody has switched on, without the loopback.
/// `None` where sysfs does not show any.
pub fn interfaces_up(sysfs: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(sysfs.join("class/net")).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let text = std::fs::read_to_string(entry.path().join("flags")).ok()?;
            let flags = u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()?;
            (flags & UP != 0 && flags & LOOPBACK == 0).then(|| entry.file_name().into_string().ok())?
        })
        .collect();
    names.sort();
    Some(names)
}
