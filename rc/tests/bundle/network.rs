// SPDX-License-Identifier: Apache-2.0
//! `interfaces`.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use init::net::{Change, Link, Netlink, NewLink};
use init::sys::{Linux, namespace};
use rc::bundle::Bundle;

use crate::{Process, bundle, in_image, left_out, table};

fn inside(process: &Process) -> Netlink {
    let file = std::fs::File::open(namespace::path(process.pid(), "net")).unwrap();
    Netlink::open_in(file.as_fd()).unwrap()
}

fn root_link(name: &str) -> Option<Link> {
    Netlink::open().unwrap().link(name).unwrap()
}

fn names(netlink: &mut Netlink) -> Vec<String> {
    let mut names: Vec<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
    names.sort();
    names
}

fn add(name: &str, kind: &str) -> u32 {
    let mut netlink = Netlink::open().unwrap();
    netlink.add_link(&NewLink::new(name, kind)).unwrap();
    netlink.link(name).unwrap().unwrap().index
}

/// The first of `kinds` that this kernel can make. The others are said to be
/// untested.
fn available<'a>(kinds: &[&'a str]) -> Option<&'a str> {
    let mut netlink = Netlink::open().unwrap();
    for kind in kinds {
        match netlink.add_link(&NewLink::new("probe", kind)) {
            Ok(()) => {
                let link = netlink.link("probe").unwrap().unwrap();
                netlink.delete_link(link.index).unwrap();
                return Some(kind);
            }
            Err(error) => left_out(&format!("links of kind {kind}: {error}")),
        }
    }
    None
}

fn with_interfaces(root: &std::path::Path, interfaces: &str) -> Bundle {
    bundle(root, "web", &format!(r#"{{"interfaces": [{interfaces}]}}"#))
}

#[test]
fn a_pair_has_one_end_inside_and_one_outside() {
    in_image(|root| {
        let web = with_interfaces(root, r#"{"name": "eth0", "peer": "web0"}"#);
        // A name inside has nothing to do with the same name outside.
        let outside = add("eth0", "bridge");
        let process = Process::start();
        web.connect(process.pid()).unwrap();
        let end = inside(&process).link("eth0").unwrap().unwrap();
        assert_eq!(end.kind.as_deref(), Some("veth"));
        let peer = root_link("web0").unwrap();
        assert_eq!(
            (peer.kind.as_deref(), peer.alias.as_deref()),
            (Some("veth"), Some("lkinit: service web"))
        );
        assert_eq!(root_link("eth0").unwrap().index, outside);
        assert_eq!(names(&mut Netlink::open().unwrap()), ["eth0", "lo", "web0"]);
        assert_eq!(names(&mut inside(&process)), ["eth0", "lo"]);

        web.connect(process.pid()).unwrap();
        assert_eq!(root_link("web0").unwrap().index, peer.index, "again changes nothing");
    });
}

#[test]
fn a_peer_left_by_an_earlier_start_is_replaced_and_somebody_elses_is_not() {
    in_image(|root| {
        let runtime = format!(
            r#"{{"interfaces": [{{"name": "eth0", "peer": "web0"}}], "bindNS": {{"net": "{}/net"}}}}"#,
            root.display()
        );
        let web = bundle(root, "web", &runtime);
        let first = Process::start();
        web.connect(first.pid()).unwrap();
        // The bind keeps the dead container's end alive, and so the peer.
        web.bind_namespaces(first.pid(), &Linux, &table()).unwrap();
        drop(first);
        let old = root_link("web0").unwrap().index;
        let second = Process::start();
        web.connect(second.pid()).unwrap();
        assert_ne!(root_link("web0").unwrap().index, old);
        assert!(inside(&second).link("eth0").unwrap().is_some());

        // Over and over, while the kernel clears the dead namespaces away.
        let plain = with_interfaces(root, r#"{"name": "eth0", "peer": "web0"}"#);
        for _ in 0..10 {
            plain.connect(Process::start().pid()).unwrap();
        }

        let other = bundle(root, "other", r#"{"interfaces": [{"name": "eth0", "peer": "web0"}]}"#);
        let process = Process::start();
        plain.connect(process.pid()).unwrap();
        let third = Process::start();
        let failure = other.connect(third.pid()).unwrap_err().to_string();
        assert_eq!(
            failure,
            "service other: interface eth0: its peer's name web0 is taken in the root namespace"
        );
        assert_eq!(names(&mut inside(&third)), ["lo"], "nothing is left half made");
    });
}

#[test]
fn a_link_made_in_the_root_namespace_moves_in() {
    in_image(|root| {
        let Some(kind) = available(&["wireguard", "dummy", "ifb", "macvlan"]) else { return };
        let interface = format!(r#"{{"name": "wg0", "add": "{kind}", "createInRoot": true}}"#);
        let web = with_interfaces(root, &interface);
        let outside = add("wg0", "bridge");
        let process = Process::start();
        web.connect(process.pid()).unwrap();
        web.connect(process.pid()).unwrap();
        assert_eq!(inside(&process).link("wg0").unwrap().unwrap().kind.as_deref(), Some(kind));
        assert_eq!(root_link("wg0").unwrap().index, outside);
        assert!(names(&mut Netlink::open().unwrap()).iter().all(|name| !name.starts_with("lk")));
    });
}

#[test]
fn what_a_crash_left_under_a_temporary_name_is_in_nobodys_way() {
    in_image(|root| {
        let web = with_interfaces(root, r#"{"name": "eth0", "peer": "web0"}"#);
        let process = Process::start();
        add(&format!("lk{}", process.pid()), "bridge");
        web.connect(process.pid()).unwrap();
        assert_eq!(names(&mut Netlink::open().unwrap()), ["lo", "web0"]);
    });
}

#[test]
fn a_link_that_cannot_move_is_refused_in_the_kernels_words_and_not_left_behind() {
    in_image(|root| {
        let web = with_interfaces(root, r#"{"name": "br0", "add": "bridge", "createInRoot": true}"#);
        let process = Process::start();
        let failure = web.connect(process.pid()).unwrap_err().to_string();
        assert!(failure.starts_with("service web: interface br0: set link "), "{failure}");
        assert!(failure.contains("Invalid argument (os error 22)"), "{failure}");
        assert_eq!(names(&mut Netlink::open().unwrap()), ["lo"]);
        assert_eq!(names(&mut inside(&process)), ["lo"]);
    });
}

#[test]
fn a_link_is_made_inside() {
    in_image(|root| {
        let web = with_interfaces(root, r#"{"name": "br0", "add": "bridge"}"#);
        let process = Process::start();
        for _ in 0..2 {
            web.connect(process.pid()).unwrap();
        }
        assert_eq!(names(&mut inside(&process)), ["br0", "lo"]);
        assert_eq!(names(&mut Netlink::open().unwrap()), ["lo"]);

        let other = with_interfaces(root, r#"{"name": "br0", "add": "veth", "peer": "br1"}"#);
        let failure = other.connect(process.pid()).unwrap_err().to_string();
        assert_eq!(failure, "service web: interface br0: there is one of kind bridge already, not veth");
    });
}

#[test]
fn an_unknown_kind_is_refused_with_an_explanation() {
    in_image(|root| {
        let web = with_interfaces(root, r#"{"name": "x0", "add": "nosuchkind"}"#);
        let failure = web.connect(Process::start().pid()).unwrap_err().to_string();
        let expected = "service web: interface x0: add link x0 type nosuchkind: \
            Operation not supported (os error 95) (Unknown device type)";
        assert_eq!(failure, expected);
    });
}

#[test]
fn an_existing_link_moves_in_and_on_from_the_namespace_of_an_earlier_start() {
    in_image(|root| {
        let runtime = format!(
            r#"{{"interfaces": [{{"name": "port"}}], "bindNS": {{"net": "{}/net"}}}}"#,
            root.display()
        );
        let web = bundle(root, "web", &runtime);
        add("port", "veth");
        for _ in 0..3 {
            let process = Process::start();
            web.connect(process.pid()).unwrap();
            web.connect(process.pid()).unwrap();
            web.bind_namespaces(process.pid(), &Linux, &table()).unwrap();
            assert!(root_link("port").is_none());
            assert!(inside(&process).link("port").unwrap().is_some());
        }
    });
}

#[test]
fn a_link_may_come_late_but_not_never() {
    in_image(|root| {
        let web = with_interfaces(root, r#"{"name": "late"}"#);
        let process = Process::start();
        let begin = Instant::now();
        let failure = web.connect(process.pid()).unwrap_err().to_string();
        assert_eq!(
            failure,
            "service web: interface late: there is none of that name to move in, after 2 s of waiting"
        );
        assert!(begin.elapsed() >= Duration::from_secs(2));
        let own = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                let mut netlink = Netlink::open_in(own.as_fd()).unwrap();
                netlink.add_link(&NewLink::new("other", "bridge")).unwrap();
                netlink.add_link(&NewLink::new("early", "veth")).unwrap();
                let early = netlink.link("early").unwrap().unwrap().index;
                netlink.change(early, &[Change::Name("late")]).unwrap();
            });
            let begin = Instant::now();
            web.connect(process.pid()).unwrap();
            assert!(begin.elapsed() < Duration::from_millis(1500), "{:?}", begin.elapsed());
        });
        assert!(inside(&process).link("late").unwrap().is_some());
    });
}

#[test]
fn a_container_in_the_root_namespace_gets_its_links_there() {
    in_image(|root| {
        let web = with_interfaces(
            root,
            r#"{"name": "br0", "add": "bridge"}, {"name": "v0", "peer": "v1"}, {"name": "lo"}"#,
        );
        let process = Process::with(&["--uts"]);
        for _ in 0..2 {
            web.connect(process.pid()).unwrap();
        }
        assert_eq!(names(&mut Netlink::open().unwrap()), ["br0", "lo", "v0", "v1"]);
    });
}
