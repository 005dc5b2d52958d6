// SPDX-License-Identifier: Apache-2.0
//! The program at the real addresses of the services, in a network of the
//! test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::image;
use support::namespace::{address, inside, ip, replace};
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
            assert!((1900..2100).contains(&result.time.as_millis()), "arp {arp}: {result:?}");
            let names = ["aws", "gcp", "hetzner", "openstack", "scaleway", "vultr", "digitalocean", "packet"];
            let result = machine.run(&names);
            assert_eq!(result.status, 1, "{result:?}");
            assert!(result.time < Duration::from_millis(2100), "arp {arp}: {result:?}");
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
        assert!(result.time < Duration::from_millis(2100), "{result:?}");
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

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// OpenSSL's own server, with a certificate for the name by a new authority.
fn tls_server(dir: &std::path::Path, name: &str) -> Killed {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=CA \
           -addext basicConstraints=critical,CA:TRUE
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN={name}
         printf 'subjectAltName=DNS:{name}\\nbasicConstraints=CA:FALSE\\n' > ext
         openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.crt"
    );
    image::run("openssl", "sh", &["-ec", &format!("cd {}; ({script}) 2>/dev/null", dir.display())]);
    let page = |name: &str, body: &str| {
        let text =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        std::fs::write(dir.join(name), text).unwrap();
    };
    page("metadata", r#"{"id": "m-1", "hostname": "metal", "ssh_keys": ["ssh-rsa AAAA a"]}"#);
    page("userdata", USER_DATA);
    let mut server = Command::new("openssl");
    server.args([
        "s_server",
        "-accept",
        "127.0.0.1:443",
        "-cert",
        "tls.crt",
        "-key",
        "tls.key",
        "-HTTP",
        "-quiet",
    ]);
    let child = server.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect("127.0.0.1:443").is_err() {
        assert!(Instant::now() < end, "openssl s_server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Killed(child)
}

#[test]
fn equinix_is_asked_over_tls_and_nobody_else_in_its_place() {
    inside(|| {
        let dir = tempfile::tempdir().unwrap();
        replace("/etc/hosts", dir.path(), "127.0.0.1 metadata.platformequinix.com\n");
        let run = |name: &str, own_authority: bool| {
            let _server = tls_server(dir.path(), name);
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
