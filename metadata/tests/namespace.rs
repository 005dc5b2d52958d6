// SPDX-License-Identifier: Apache-2.0
//! The program at the real addresses of the services, in a network of the
//! test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::namespace::{address, inside, ip, replace};
use support::program::{Machine, expected};
use support::server::{Received, Reply, Server};
use support::tls;

const USER_DATA: &str = r#"{"file":{"content":"text"}}"#;

fn ec2(request: &Received) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => Reply::text("TOKEN"),
        (_, _) if request.field("x-aws-ec2-metadata-token") != Some("TOKEN") => Reply::status(401),
        (_, "/latest/meta-data/instance-id") => Reply::text("i-1"),
        (_, "/latest/user-data") => Reply::text(USER_DATA),
        _ => Reply::status(404),
    }
}

/// What every provider says of itself, as little as will do.
fn providers(request: &Received) -> Vec<(&'static str, Reply)> {
    let google =
        Reply::json(r#"{"instance": {"id": 1, "attributes": {}}}"#).field("Metadata-Flavor", "Google");
    let by_path = |path: &str, reply: Reply| if request.path == path { reply } else { Reply::status(404) };
    vec![
        ("GCP", by_path("/computeMetadata/v1/?recursive=true&alt=json", google)),
        (
            "Azure",
            match request.path.split('?').next() {
                Some("/metadata/instance") => Reply::json(r#"{"compute": {"vmId": "v"}}"#),
                Some("/provisioning/health") => Reply::status(200),
                _ => Reply::status(404),
            },
        ),
        ("DigitalOcean", by_path("/metadata/v1.json", Reply::json(r#"{"droplet_id": 1}"#))),
        ("Hetzner", by_path("/hetzner/v1/metadata/instance-id", Reply::text("7"))),
        ("Vultr", by_path("/v1.json", Reply::json(r#"{"instanceid": "1", "interfaces": []}"#))),
        ("openstack", by_path("/openstack/latest/meta_data.json", Reply::json(r#"{"uuid": "u"}"#))),
        ("AWS", ec2(request)),
    ]
}

#[test]
fn whoever_answers_at_the_usual_address_is_found() {
    inside(|| {
        address("169.254.169.254/32");
        address("168.63.129.16/32");
        for (index, name) in
            ["GCP", "Azure", "DigitalOcean", "Hetzner", "Vultr", "openstack", "AWS"].iter().enumerate()
        {
            let answer = move |request: &Received| providers(request).remove(index).1;
            let _imds = Server::at("169.254.169.254:80", answer);
            let wireserver = Server::at("168.63.129.16:80", answer);
            let machine = Machine::new();
            let result = machine.run(&[]);
            assert_eq!(machine.file("provider").as_deref(), Some(*name), "{result:?}");
            assert_eq!(result.status, 0, "{result:?}");
            assert!(result.time < Duration::from_secs(1), "{result:?}");
            let reports = if *name == "Azure" { 1 } else { 0 };
            assert_eq!(wireserver.requests().len(), reports, "{name}");
        }
    });
}

#[test]
fn azures_addresses_are_those_of_the_default_route() {
    inside(|| {
        address("169.254.169.254/32");
        address("168.63.129.16/32");
        link("on");
        ip("link set here address 00:0d:3a:00:00:02");
        let _imds = Server::at("169.254.169.254:80", |request| match request.path.split('?').next() {
            Some("/metadata/instance") => Reply::json(
                r#"{"compute": {"vmId": "v"}, "network": {"interface": [
                    {"macAddress": "000D3A000001", "ipv4": {"ipAddress": [{"privateIpAddress": "10.1.0.1"}]}},
                    {"macAddress": "000D3A000002", "ipv4": {"ipAddress": [{"privateIpAddress": "10.2.0.2"}]}}]}}"#,
            ),
            _ => Reply::status(404),
        });
        let _wireserver = Server::at("168.63.129.16:80", |_| Reply::status(200));
        let machine = Machine::new();
        let result = machine.run(&["azure"]);
        assert_eq!(machine.file("local_ipv4").as_deref(), Some("10.2.0.2"), "{result:?}");
    });
}

#[test]
fn scaleway_and_the_services_without_ipv4() {
    inside(|| {
        address("169.254.42.42/32");
        let conf = r#"{"id": "a-1", "hostname": "scw"}"#;
        let server = Server::at("169.254.42.42:80", move |request| match request.path.as_str() {
            "/conf?format=json" => Reply::json(conf),
            "/user_data/cloud-init" if request.peer.port() < 1024 => Reply::text(USER_DATA),
            "/state" => Reply::status(200),
            _ => Reply::status(404),
        });
        let machine = Machine::new();
        let result = machine.run(&[]);
        assert_eq!(machine.file("file").as_deref(), Some("text"), "{result:?}");
        assert_eq!(server.lines().last().unwrap(), "PATCH /state");
    });
    inside(|| {
        address("fd00:ec2::254/128");
        let _server = Server::at("[fd00:ec2::254]:80", ec2);
        let machine = Machine::new().dmi(&[("sys_vendor", "Amazon EC2")]);
        let result = machine.run(&[]);
        assert_eq!(machine.file("file").as_deref(), Some("text"), "{result:?}");
        assert!(result.time < Duration::from_secs(1), "{result:?}");
    });
}

/// A link that is up, with an address and a default route, at whose other end
/// nobody answers.
fn link(arp: &str) {
    ip("link add here type veth peer name there");
    ip("link set there up");
    ip(&format!("link set here up arp {arp}"));
    ip("address add 10.0.0.2/24 dev here");
    ip("route add default via 10.0.0.1");
}

#[test]
fn a_network_that_swallows_or_does_not_answer_costs_two_seconds() {
    // Without ARP packets leave for an address nobody has; with it, not even that.
    for arp in ["off", "on"] {
        inside(move || {
            link(arp);
            let machine = Machine::new();
            let result = machine.run(&[]);
            assert_eq!(result.status, 0, "{result:?}");
            // The program of the images has less room: tests/tests/metadata_costs.rs.
            assert!((1900..2900).contains(&result.time.as_millis()), "arp {arp}: {result:?}");
            let names = ["aws", "gcp", "hetzner", "openstack", "scaleway", "vultr", "digitalocean", "packet"];
            let result = machine.run(&names);
            assert_eq!(result.status, 1, "{result:?}");
            assert!(result.time < Duration::from_millis(2900), "arp {arp}: {result:?}");
        });
    }
}

#[test]
fn a_machine_without_a_network_waits_for_nothing() {
    inside(|| {
        let machine = Machine::new();
        let result = machine.run(&[]);
        assert_eq!(result.status, 0, "{result:?}");
        assert!(result.time < Duration::from_millis(200), "{result:?}");
        // Not even where it is known who would answer: nobody will switch an
        // interface on while this waits.
        let machine = Machine::new().dmi(&[("sys_vendor", "Amazon EC2")]);
        let result = machine.run(&[]);
        assert!(result.time < Duration::from_millis(2900), "{result:?}");
    });
}

#[test]
fn a_network_that_comes_up_is_noticed_at_once() {
    inside(|| {
        ip("link add here type veth peer name there");
        ip("link set there up");
        ip("link set here up");
        let machine = Machine::new().dmi(&[("sys_vendor", "Amazon EC2")]);
        let mut child = machine.command(&[]).stderr(Stdio::null()).spawn().unwrap();
        // By now the pauses between attempts are a second and more.
        std::thread::sleep(Duration::from_millis(2500));
        assert!(child.try_wait().unwrap().is_none(), "it gave up");
        let _server = {
            address("169.254.169.254/32");
            Server::at("169.254.169.254:80", ec2)
        };
        let start = Instant::now();
        ip("address add 10.0.0.2/24 dev here");
        assert!(child.wait().unwrap().success());
        assert_eq!(machine.file("file").as_deref(), Some("text"));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    });
}

/// Answers every question for an IPv4 address with this machine's.
fn name_server() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..count];
            // Header, name, kind, class: the kind is four bytes from the end.
            let is_a = query[count - 3] == 1;
            let mut answer = query.to_vec();
            answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a)]);
            if is_a {
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, peer);
        }
    });
}

#[test]
fn a_name_is_resolved_through_the_search_list() {
    inside(|| {
        let dir = tempfile::tempdir().unwrap();
        replace("/etc/resolv.conf", dir.path(), "search example\nnameserver 127.0.0.1\n");
        replace("/etc/hosts", dir.path(), "127.0.0.1 localhost\n");
        name_server();
        let _server = Server::at("127.0.0.1:80", |request| match request.path.as_str() {
            "/get/meta/hostname" => Reply::text("m1"),
            "/get/user" => Reply::text(USER_DATA),
            _ => Reply::status(404),
        });
        let machine = Machine::new();
        let result = machine.run(&["metaldata"]);
        assert_eq!(
            machine.files(),
            expected(&[
                ("provider", "metaldata"),
                ("hostname", "m1"),
                ("userdata", USER_DATA),
                ("file", "text")
            ]),
            "{result:?}"
        );
    });
}

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

#[test]
fn aws_takes_little_more_than_its_own_time() {
    inside(|| {
        address("169.254.169.254/32");
        let delay = Duration::from_millis(100);
        let _server = Server::at("169.254.169.254:80", move |request| ec2(request).after(delay));
        let machine = Machine::new().dmi(&[("sys_vendor", "Amazon EC2")]);
        let times: Vec<Duration> = (0..3).map(|_| machine.run(&[]).time).collect();
        // One answer for the token, one for everything else.
        assert!(*times.iter().min().unwrap() < (delay * 2).mul_f64(1.5), "{times:?}");
    });
}

#[test]
fn openstack_without_ipv4_is_at_a_link_local_address() {
    inside(|| {
        ip("link add here type veth peer name there");
        ip("link set there up");
        ip("link set here up");
        ip("address add fe80::a9fe:a9fe/128 dev here nodad");
        let _server = Server::at("[::]:80", |request| match request.path.as_str() {
            "/openstack/latest/meta_data.json" => Reply::json(r#"{"uuid": "u-6", "hostname": "six"}"#),
            "/openstack/latest/user_data" => Reply::text(USER_DATA),
            _ => Reply::status(404),
        });
        let machine = Machine::new().dmi(&[("product_name", "OpenStack Nova")]);
        let result = machine.run(&[]);
        assert_eq!(result.status, 0, "{result:?}");
        assert_eq!(machine.file("hostname").as_deref(), Some("six"), "{result:?}");
        assert_eq!(machine.file("file").as_deref(), Some("text"));
    });
}

const AZURE: &[(&str, &str)] = &[("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")];

#[test]
fn azure_is_told_in_the_older_form_where_dhcp_says() {
    inside(|| {
        address("169.254.169.254/32");
        address("10.9.9.9/32");
        let _imds = Server::at("169.254.169.254:80", |request| match request.path.split('?').next() {
            Some("/metadata/instance") => Reply::json(r#"{"compute": {"vmId": "v"}}"#),
            _ => Reply::status(404),
        });
        let goal = "<GoalState><Incarnation>3</Incarnation><Container><ContainerId>c</ContainerId><RoleInstanceList>\
            <RoleInstance><InstanceId>r</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>";
        let wireserver = Server::at("10.9.9.9:80", move |request| match request.path.as_str() {
            "/machine/?comp=goalstate" => Reply::text(goal),
            "/machine?comp=health" => Reply::status(200),
            _ => Reply::status(404),
        });
        let machine = Machine::new().dmi(AZURE);
        std::fs::create_dir(machine.path("leases")).unwrap();
        std::fs::write(machine.path("leases/eth0"), "OPTION_245=0a090909\n").unwrap();
        let result = machine.run(&[]);
        assert_eq!(result.status, 0, "{result:?}");
        let expected =
            ["POST /provisioning/health", "GET /machine/?comp=goalstate", "POST /machine?comp=health"];
        assert_eq!(wireserver.lines(), expected);
        let body = String::from_utf8(wireserver.requests().pop().unwrap().body).unwrap();
        assert!(body.contains("<GoalStateIncarnation>3<") && body.contains("<State>Ready<"), "{body}");
    });
}

#[test]
fn azure_is_told_when_nothing_comes_of_it() {
    inside(|| {
        address("169.254.169.254/32");
        address("168.63.129.16/32");
        link("on");
        let _imds = Server::at("169.254.169.254:80", |_| Reply::status(403));
        let wireserver = Server::at("168.63.129.16:80", |_| Reply::status(200));
        let machine = Machine::new().dmi(AZURE);
        let result = machine.run(&[]);
        // Nothing was named, so nothing found is no error; the platform's owner hears of it.
        assert_eq!((result.status, machine.tree().len()), (0, 0), "{result:?}");
        let body = String::from_utf8(wireserver.requests().remove(0).body).unwrap();
        assert!(body.contains("NotReady") && body.contains("status 403"), "{body}");
    });
    inside(|| {
        address("169.254.169.254/32");
        link("on");
        let _imds = Server::at("169.254.169.254:80", |_| Reply::json(r#"{"compute": {"vmId": "v"}}"#));
        let machine = Machine::new().dmi(AZURE);
        let result = machine.run(&["--timeout", "1"]);
        assert_eq!(machine.file("instance_id").as_deref(), Some("v"));
        assert_eq!(result.status, 1, "the platform waits for a word that has not come: {result:?}");
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
    brief("link") + &brief("address") + &routes("-4") + &routes("-6")
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
        ip("address add 192.0.2.9/24 dev nic0");
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
        assert!(before.contains("192.0.2.9/24") && before.contains("metric 7"), "{before}");
        // No address leads to this gateway: the last but one of the actions fails.
        let (result, lines) = run("203.0.113.1");
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
        assert!(!after.contains("192.0.2.9") && !after.contains("198.51.100.0"), "{after}");
        let named = |name: &str, mac: &str| {
            after.lines().any(|line| line.starts_with(&format!("{name}@")) && line.contains(mac))
        };
        assert!(named("nic1", "b4:96:91:00:00:01") && named("nic0", "b4:96:91:00:00:02"), "{after}");
        let (again, _) = run("10.99.0.3");
        assert_eq!((again.status, network()), (0, after), "{again:?}");
    });
}
