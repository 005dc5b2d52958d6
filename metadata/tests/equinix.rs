// SPDX-License-Identifier: Apache-2.0
//! The program and Equinix's service: over TLS, and the network that it wants,
//! in one of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use support::namespace::{inside, ip, replace};
use support::program::{Machine, expected};
use support::server::{Reply, Server};
use support::tls;

const USER_DATA: &str = r#"{"file":{"content":"text"}}"#;

#[test]
fn equinix_is_asked_over_tls_and_nobody_else_in_its_place() {
    inside(|| {
        let dir = tempfile::tempdir().unwrap();
        replace("/etc/hosts", dir.path(), "127.0.0.1 metadata.platformequinix.com\n");
        let run = |name: &str, own_authority: bool| {
            let document = r#"{"id": "m-1", "hostname": "metal", "ssh_keys": ["ssh-rsa AAAA a"]}"#;
            let pages = [("metadata", document), ("userdata", USER_DATA)];
            let _server = tls::server(dir.path(), &format!("DNS:{name}"), "127.0.0.1:443", &pages);
            let machine = Machine::new();
            let mut command = machine.command(&["packet"]);
            if own_authority {
                command.env("SSL_CERT_FILE", dir.path().join("ca.crt"));
            }
            (support::program::run(command), machine)
        };
        let (result, machine) = run("metadata.platformequinix.com", true);
        assert_eq!(
            machine.files(),
            expected(&[
                ("provider", "EquinixMetal"),
                ("hostname", "metal"),
                ("ssh/authorized_keys", "ssh-rsa AAAA a\n"),
                ("userdata", USER_DATA),
                ("file", "text")
            ]),
            "{result:?}"
        );
        // A certificate for another name, and one by an authority nobody knows.
        for (name, own_authority) in [("evil.example", true), ("metadata.platformequinix.com", false)] {
            let (result, machine) = run(name, own_authority);
            assert_eq!((result.status, machine.tree().len()), (1, 0), "{result:?}");
            assert!(result.stderr.contains("certificate"), "{result:?}");
        }
    });
}

/// What ip(8) says of links, addresses and routes, without what it says of
/// carriers: those come back when the kernel likes.
fn network() -> String {
    let tell = |words: &[&str]| {
        let output = std::process::Command::new("ip").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let brief = |what: &str| -> String {
        let text = tell(&["-br", what]);
        let line = |line: &str| {
            let words = line.split_whitespace().enumerate();
            let words: Vec<&str> = words
                .filter(|(index, word)| *index != 1 && !word.starts_with('<'))
                .map(|(_, word)| word)
                .collect();
            words.join(" ") + "\n"
        };
        text.lines().map(line).collect()
    };
    let routes = |family: &str| tell(&[family, "route"]).replace("dead ", "").replace("linkdown ", "");
    // With broadcast, scope and flags, of which "dynamic" stands for the time.
    let times = |word: &&str| !word.ends_with("sec") && *word != "tentative";
    let address = |line: &str| line.split_whitespace().filter(times).collect::<Vec<_>>().join(" ") + "\n";
    let addresses: String = tell(&["-o", "address"]).lines().map(address).collect();
    brief("link") + &addresses + &routes("-4") + &routes("-6")
}

/// The kernel of the machine that tests run on may have no bonds: those are
/// tried in a booted machine.
#[test]
fn equinix_makes_the_network_or_leaves_it_as_it_was() {
    inside(|| {
        ip("link add nic0 type veth peer name peer0");
        ip("link add nic1 type veth peer name peer1");
        ip("link set nic0 address b4:96:91:00:00:01");
        ip("link set nic1 address b4:96:91:00:00:02");
        // Addresses that the kernel makes come when it likes.
        let all = ["nic0", "nic1", "peer0", "peer1"];
        all.iter().for_each(|name| ip(&format!("link set {name} addrgenmode none")));
        ["peer0", "peer1", "nic0"].iter().for_each(|name| ip(&format!("link set {name} up")));
        // As dhcpcd does it: the address is for a time, and the route to its
        // network is not the kernel's.
        ip(
            "address add 192.0.2.9/24 brd 192.0.2.255 dev nic0 noprefixroute valid_lft 3600 preferred_lft 1800",
        );
        ip("route add 192.0.2.0/24 dev nic0 proto dhcp src 192.0.2.9 metric 1002");
        // A second address with a name, one whose other side is elsewhere, one
        // whose route has a metric, and the same in IPv6.
        ip("address add 192.0.2.10/24 brd + dev nic0 label nic0:second");
        ip("address add 203.0.113.7 peer 203.0.113.200/32 dev nic0");
        ip("address add 10.5.0.9/16 dev nic0 metric 300");
        ip("address add 2001:db8:2::7 peer 2001:db8:3::8/128 dev nic0 nodad");
        ip("address add 2001:db8:1::9/64 dev nic0 nodad");
        ip("route add default via 192.0.2.1 metric 7");
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        ip("route add default via 2001:db8:1::1");
        let document = |gateway: &str| {
            format!(
                r#"{{"id": "m", "phone_home_url": "URL/phone-home", "network": {{"interfaces": [
                {{"name": "nic1", "mac": "B4:96:91:00:00:01"}}, {{"name": "nic0", "mac": "b4:96:91:00:00:02"}}],
                "addresses": [
                {{"address": "192.0.2.2", "cidr": 31, "gateway": "192.0.2.3", "public": true}},
                {{"address": "10.99.0.2", "cidr": 31, "gateway": "{gateway}", "public": false}},
                {{"address": "2001:db8::2", "cidr": 127, "gateway": "2001:db8::3", "public": true}}]}}}}"#
            )
        };
        let run = |gateway: &str| {
            let document = document(gateway);
            let server = Server::start(move |request| match request.path.as_str() {
                "/metadata" => Reply::json(
                    document.replace("URL", &format!("http://{}", request.field("host").unwrap())),
                ),
                "/phone-home" => Reply::status(200),
                _ => Reply::status(404),
            });
            let machine = Machine::new();
            let mut command = machine.command_for_all();
            command.args(["--no-hostname", "packet", &format!("--metadata-url=packet={}", server.base())]);
            (support::program::run(command), server.lines())
        };
        let before = network();
        assert!(
            before.contains("192.0.2.9/24 brd 192.0.2.255 scope global dynamic noprefixroute"),
            "{before}"
        );
        for part in [
            "192.0.2.10/24 brd 192.0.2.255 scope global secondary nic0:second",
            "203.0.113.7 peer 203.0.113.200/32",
            "10.5.0.9/16 metric 300",
            "2001:db8:2::7 peer 2001:db8:3::8/128",
        ] {
            assert!(before.contains(part), "no {part:?} in\n{before}");
        }
        assert!(before.contains("metric 7") && before.contains("metric 1002"), "{before}");
        // No address leads to this gateway: the last but one of the actions fails.
        let (result, lines) = run("198.18.0.1");
        assert_eq!(network(), before, "{result:?}");
        assert_eq!(result.status, 1, "{result:?}");
        assert!(result.stderr.contains("what had been done before is undone"), "{result:?}");
        assert!(!lines.contains(&"POST /phone-home".to_owned()), "{lines:?}");

        let (result, lines) = run("10.99.0.3");
        assert_eq!((result.status, lines.last().unwrap().as_str()), (0, "POST /phone-home"), "{result:?}");
        let after = network();
        for line in [
            "default via 192.0.2.3 dev nic1 proto static",
            "10.0.0.0/8 via 10.99.0.3 dev nic1 proto static",
            "default via 2001:db8::3 dev nic1 proto static",
        ] {
            assert!(after.contains(line), "no {line:?} in\n{after}");
        }
        for gone in ["192.0.2.9", "192.0.2.10", "198.51.100.0", "203.0.113", "10.5.0.9", "2001:db8:2"] {
            assert!(!after.contains(gone), "{gone} is left in\n{after}");
        }
        let named = |name: &str, mac: &str| {
            after.lines().any(|line| line.starts_with(&format!("{name}@")) && line.contains(mac))
        };
        assert!(named("nic1", "b4:96:91:00:00:01") && named("nic0", "b4:96:91:00:00:02"), "{after}");
        let (again, _) = run("10.99.0.3");
        assert_eq!((again.status, network()), (0, after), "{again:?}");
    });
}
