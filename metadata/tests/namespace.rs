// SPDX-License-Identifier: Apache-2.0
//! The program at the real addresses of the services, in a network of the
//! test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::namespace::{address, dead_end, inside, ip, replace};
use support::program::{Machine, expected};
use support::server::{Received, Reply, Server};

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
            assert!(result.time < Duration::from_millis(1900), "{result:?}");
            let reports = if *name == "Azure" { 1 } else { 0 };
            assert_eq!(wireserver.requests().len(), reports, "{name}");
        }
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

#[test]
fn a_network_that_swallows_or_does_not_answer_costs_two_seconds() {
    // Without ARP packets leave for an address nobody has; with it, not even that.
    for arp in ["off", "on"] {
        inside(move || {
            dead_end(arp);
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
        assert!(result.time < Duration::from_secs(1), "{result:?}");
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
fn aws_takes_little_more_than_its_own_time() {
    inside(|| {
        address("169.254.169.254/32");
        let delay = Duration::from_millis(300);
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
