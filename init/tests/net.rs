// SPDX-License-Identifier: Apache-2.0
//! rtnetlink on the real kernel, in a network namespace of its own.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "net")]

use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use init::net::{Address, Change, LinkFlags, Netlink, NewLink, Peer, Route, loopback_up};
use nix::sched::{CloneFlags, unshare};

/// Runs a test on a thread with a network of its own: an idle `lo` and
/// nothing else.
fn alone(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "LEFT OUT: a test of network links, which needs root");
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn address(index: u32, ip: &str, prefix: u8) -> Address {
    Address::new(index, ip.parse().unwrap(), prefix)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Addresses without what the kernel says of them besides: it names them after
/// their link, and says of some that it has given them itself.
fn given(listed: Vec<Address>) -> Vec<Address> {
    listed.into_iter().map(|address| Address { label: None, protocol: None, ..address }).collect()
}

#[test]
fn the_loopback_comes_up_with_its_addresses_once() {
    alone(|| {
        for _ in 0..2 {
            loopback_up().unwrap();
            let mut netlink = Netlink::open().unwrap();
            let lo = netlink.link("lo").unwrap().unwrap();
            assert!(lo.flags.contains(LinkFlags::Up | LinkFlags::Loopback));
            assert_eq!((lo.index, lo.kind, lo.mtu), (1, None, 65536));
            let mut expected = vec![address(1, "127.0.0.1", 8)];
            if std::path::Path::new("/proc/sys/net/ipv6").exists() {
                expected.push(address(1, "::1", 128));
            }
            assert_eq!(given(netlink.addresses(1).unwrap()), expected);
        }
        // It carries packets: in this namespace there is nowhere else to go.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    });
}

#[test]
fn links_are_made_changed_listed_and_removed() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        let peer = Some(Peer { name: "b", namespace: None });
        netlink.add_link(&NewLink { peer, ..NewLink::new("a", "veth") }).unwrap();
        netlink.add_link(&NewLink::new("br", "bridge")).unwrap();
        let bridge = netlink.link("br").unwrap().unwrap().index;
        let a = netlink.link("a").unwrap().unwrap();
        assert_eq!((a.kind.as_deref(), a.mtu, a.master, a.alias), (Some("veth"), 1500, None, None));

        let mac = [2, 0, 0, 0, 0, 7];
        let changes = [
            Change::Name("uplink"),
            Change::Mtu(1400),
            Change::Address(&mac),
            Change::Alias("to the bridge"),
            Change::Master(Some(bridge)),
            Change::Up,
        ];
        netlink.change(a.index, &changes).unwrap();
        assert_eq!(netlink.link("a").unwrap(), None);
        let uplink = netlink.link("uplink").unwrap().unwrap();
        assert_eq!((uplink.index, uplink.mtu, &*uplink.address), (a.index, 1400, &mac[..]));
        assert_eq!((uplink.master, uplink.alias.as_deref()), (Some(bridge), Some("to the bridge")));
        assert!(uplink.flags.contains(LinkFlags::Up));
        netlink.change(a.index, &[Change::Down, Change::Master(None)]).unwrap();
        let uplink = netlink.link("uplink").unwrap().unwrap();
        assert!(uplink.master.is_none() && !uplink.flags.contains(LinkFlags::Up));

        let names: Vec<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["lo", "b", "uplink", "br"]);
        netlink.delete_link(a.index).unwrap();
        assert_eq!(netlink.link("b").unwrap(), None, "a pair goes together");
    });
}

#[test]
fn a_link_is_made_on_top_of_another() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_link(&NewLink::new("under", "bridge")).unwrap();
        let parent = netlink.link("under").unwrap().map(|link| link.index);
        netlink.add_link(&NewLink { parent, ..NewLink::new("over", "macvlan") }).unwrap();
        assert_eq!(netlink.link("over").unwrap().unwrap().kind.as_deref(), Some("macvlan"));
    });
}

#[test]
fn a_list_of_many_links_comes_in_many_pieces_and_is_whole() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        for number in 0..120 {
            netlink.add_link(&NewLink::new(&format!("br{number}"), "bridge")).unwrap();
        }
        assert_eq!(netlink.links().unwrap().len(), 121);
    });
}

#[test]
fn addresses_and_routes_come_and_go() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_link(&NewLink::new("br", "bridge")).unwrap();
        let index = netlink.link("br").unwrap().unwrap().index;
        netlink.change(index, &[Change::Up]).unwrap();
        let (first, second, six) = (
            address(index, "192.0.2.5", 24),
            address(index, "192.0.2.6", 24),
            address(index, "2001:db8::5", 64),
        );
        for address in [first, first, second, six] {
            netlink.add_address(&address).unwrap();
        }
        let listed = netlink.addresses(index).unwrap();
        assert_eq!(listed[0].label.unwrap().to_string(), "br");
        let listed = given(listed);
        assert_eq!(listed.iter().filter(|it| it.ip.is_ipv4()).collect::<Vec<_>>(), [&first, &second]);
        assert!(listed.contains(&six));
        assert_eq!(netlink.addresses(1).unwrap(), []);

        let default = Route { gateway: Some(ip("192.0.2.1")), index: Some(index), ..Route::DEFAULT };
        for _ in 0..2 {
            netlink.add_route(&default).unwrap();
        }
        let table = || std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
        assert_eq!(table().matches("010200C0").count(), 1, "{}", table());
        let beyond =
            Route { destination: (ip("198.51.100.0"), 24), gateway: Some(ip("203.0.113.1")), ..default };
        let refused = netlink.add_route(&beyond).unwrap_err();
        assert_eq!(refused.errno(), Some(libc::ENETUNREACH));
        netlink.add_route(&Route { onlink: true, ..beyond }).unwrap();
        let link = Route { destination: (ip("2001:db8:1::"), 48), index: Some(index), ..Route::DEFAULT };
        netlink.add_route(&link).unwrap();
        netlink.delete_route(&default).unwrap();
        assert_eq!(table().matches("010200C0").count(), 0);
        assert_eq!(netlink.delete_route(&default).unwrap_err().errno(), Some(libc::ESRCH));

        netlink.flush_addresses(index).unwrap();
        assert_eq!(netlink.addresses(index).unwrap(), []);
        assert_eq!(netlink.delete_address(&first).unwrap_err().errno(), Some(libc::EADDRNOTAVAIL));
    });
}

#[test]
fn a_refusal_says_what_was_asked_for_and_why() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(
            netlink.add_link(&NewLink::new("x", "nosuchkind")).unwrap_err().to_string(),
            "add link x type nosuchkind: Operation not supported (os error 95) (Unknown device type)"
        );
        let taken = netlink.add_link(&NewLink::new("lo", "bridge")).unwrap_err();
        assert_eq!(taken.errno(), Some(libc::EEXIST));
        // The socket is as good as new afterwards.
        assert_eq!(netlink.links().unwrap().len(), 1);
    });
}

#[test]
fn a_socket_stays_in_the_namespace_it_was_opened_in() {
    alone(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let file = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            sender.send(file).unwrap();
            let _ = wait.recv();
        });
        let file = receiver.recv().unwrap();
        let mut there = Netlink::open_in(file.as_fd()).unwrap();
        there.add_link(&NewLink::new("br", "bridge")).unwrap();
        let mut here = Netlink::open().unwrap();
        assert!(here.link("br").unwrap().is_none() && there.link("br").unwrap().is_some());
        here.add_link(&NewLink::new("v", "veth")).unwrap();
        let index = here.link("v").unwrap().unwrap().index;
        here.change(index, &[Change::Namespace(file.as_fd()), Change::Name("moved")]).unwrap();
        assert!(here.link("v").unwrap().is_none() && there.link("moved").unwrap().is_some());
        let not = std::fs::File::open("/proc/self/ns/uts").unwrap();
        assert!(
            Netlink::open_in(not.as_fd()).unwrap_err().to_string().contains("enter the network namespace")
        );
        drop(end);
        thread.join().unwrap();
    });
}
