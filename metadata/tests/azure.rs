// SPDX-License-Identifier: Apache-2.0
//! The program and Azure's two services at their real addresses, in a network
//! of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use support::namespace::{address, dead_end, inside, ip};
use support::program::Machine;
use support::server::{Reply, Server};
use support::tls::Killed;

const AZURE: &[(&str, &str)] = &[("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")];

#[test]
fn azures_addresses_are_those_of_the_default_route() {
    inside(|| {
        address("169.254.169.254/32");
        address("168.63.129.16/32");
        dead_end("on");
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

/// busybox's client and server: the option as the client gives it to its
/// script, which keeps it as docs/metadata.md says.
#[test]
fn azures_option_is_had_from_busyboxs_client() {
    inside(|| {
        address("169.254.169.254/32");
        address("10.9.9.9/32");
        ip("link add server type veth peer name client");
        ip("address add 10.8.0.1/24 dev server");
        ["server", "client"].iter().for_each(|name| ip(&format!("link set {name} up")));
        let machine = Machine::new().dmi(AZURE);
        let path = |name: &str| machine.path(name).to_str().unwrap().to_owned();
        let write = |name: &str, text: String| std::fs::write(machine.path(name), text).unwrap();
        std::fs::create_dir(machine.path("leases")).unwrap();
        write("given", String::new());
        let range = "interface server\nstart 10.8.0.10\nend 10.8.0.20\nopt 0xf5 0a090909\n";
        write("udhcpd.conf", format!("{range}lease_file {}\n", path("given")));
        let script = r#"[ -z "$opt245" ] || echo "opt245=$opt245" >"#;
        write("script", format!("#!/bin/sh\n{script}{}/$interface\n", path("leases")));
        std::fs::set_permissions(path("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let busybox = |words: &[&str]| {
            let mut command = std::process::Command::new("busybox");
            command.args(words).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command.spawn().expect("busybox (package busybox-static)")
        };
        let _dhcp = Killed(busybox(&["udhcpd", "-f", &path("udhcpd.conf")]));
        let script = path("script");
        let words = ["udhcpc", "-i", "client", "-n", "-q", "-f", "-t", "20", "-O", "245", "-s", &script];
        assert!(busybox(&words).wait().unwrap().success());

        let _imds = Server::at("169.254.169.254:80", |_| Reply::json(r#"{"compute": {"vmId": "v"}}"#));
        let wireserver = Server::at("10.9.9.9:80", |_| Reply::status(200));
        let result = machine.run(&[]);
        assert_eq!((result.status, wireserver.lines().len()), (0, 1), "{result:?}");
    });
}

#[test]
fn azure_is_told_when_nothing_comes_of_it() {
    inside(|| {
        address("169.254.169.254/32");
        address("168.63.129.16/32");
        dead_end("on");
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
        dead_end("on");
        let _imds = Server::at("169.254.169.254:80", |_| Reply::json(r#"{"compute": {"vmId": "v"}}"#));
        let machine = Machine::new().dmi(AZURE);
        let result = machine.run(&["--timeout", "1"]);
        assert_eq!(machine.file("instance_id").as_deref(), Some("v"));
        assert_eq!(result.status, 1, "the platform waits for a word that has not come: {result:?}");
    });
}
