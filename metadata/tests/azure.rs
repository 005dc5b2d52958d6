// SPDX-License-Identifier: Apache-2.0
//! The program and Azure's two services at their real addresses, in a network
//! of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use support::namespace::{address, dead_end, inside, ip};
use support::program::Machine;
use support::server::{Reply, Server};

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
