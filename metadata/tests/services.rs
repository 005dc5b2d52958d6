// SPDX-License-Identifier: Apache-2.0
//! The program and services that it is given addresses of: who is asked, in
//! which order, and how long it takes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::time::Duration;

use support::image;
use support::program::{Machine, expected, url, urls};
use support::server::{Reply, Server};

/// An EC2 service of version 2 with little to say.
fn ec2() -> Server {
    Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => Reply::text("TOKEN"),
        (_, _) if request.field("x-aws-ec2-metadata-token") != Some("TOKEN") => Reply::status(401),
        (_, "/latest/meta-data/instance-id") => Reply::text("i-1"),
        (_, "/latest/meta-data/hostname") => Reply::text("ip-10-0-0-1.ec2.internal"),
        (_, "/latest/user-data") => Reply::text(r#"{"hello":{"content":"world","perm":"0600"}}"#),
        _ => Reply::status(404),
    })
}

#[test]
fn a_known_platform_is_asked_alone() {
    let (server, other) = (ec2(), Server::start(|_| Reply::status(404)));
    let machine = Machine::new().dmi(&[("sys_vendor", "Amazon EC2"), ("product_uuid", "ec2e1916-9099")]);
    let result = machine.run(&[&url("aws", &server), &url("gcp", &other), &url("hetzner", &other)]);
    assert_eq!(result.status, 0, "{result:?}");
    assert_eq!(
        machine.files(),
        expected(&[
            ("provider", "AWS"),
            ("instance_id", "i-1"),
            ("hostname", "ip-10-0-0-1.ec2.internal"),
            ("userdata", r#"{"hello":{"content":"world","perm":"0600"}}"#),
            ("hello", "world"),
        ])
    );
    assert_eq!(machine.mode("hello"), 0o600);
    assert_eq!(other.requests().len(), 0);
    assert!(result.stderr.contains("AWS: Probe succeeded\n"), "{}", result.stderr);
}

#[test]
fn an_unknown_platform_is_found_by_asking_all() {
    let server = ec2();
    let machine = Machine::new();
    let result = machine.run(&urls(&server).iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((result.status, machine.file("provider").as_deref()), (0, Some("AWS")), "{result:?}");
    assert!(result.time < Duration::from_secs(1), "{result:?}");
}

#[test]
fn names_have_an_order() {
    // An OpenStack has EC2's service too.
    let openstack = Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/openstack/latest/meta_data.json") => Reply::json(r#"{"uuid": "u-1", "hostname": "os"}"#),
        ("GET", "/latest/meta-data/instance-id") => Reply::text("i-1"),
        ("PUT", _) => Reply::status(405),
        _ => Reply::status(404),
    });
    let urls = [url("aws", &openstack), url("openstack", &openstack)];
    for (names, provider) in [(["aws", "openstack"], "AWS"), (["openstack", "aws"], "openstack")] {
        let machine = Machine::new();
        let result = machine.run(&[&urls[0], &urls[1], names[0], names[1]]);
        assert_eq!(machine.file("provider").as_deref(), Some(provider), "{result:?}");
    }
    // Without names the one that is not imitated is preferred.
    let silent = Server::start(|_| Reply::status(404));
    // Of two addresses for one the last counts.
    let arguments = [self::urls(&silent), urls.to_vec()].concat();
    let machine = Machine::new();
    machine.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(machine.file("provider").as_deref(), Some("openstack"));
}

#[test]
fn a_platform_that_never_answers_costs_two_seconds() {
    let silent = Server::start(|_| Reply::status(200).after(Duration::from_secs(60)));
    let urls = urls(&silent);
    let arguments: Vec<&str> = urls.iter().map(String::as_str).collect();
    let machine = Machine::new();
    let result = machine.run(&arguments);
    assert_eq!(result.status, 0, "{result:?}");
    assert!((2000..2900).contains(&result.time.as_millis()), "{result:?}");
    let result = machine.run(&[&arguments[..], &["--timeout", "300ms"]].concat());
    assert!(result.time < Duration::from_millis(1400), "{result:?}");
    let result = machine.run(&[&arguments[..], &["--timeout=0.3", "gcp"]].concat());
    assert!(result.status == 1 && result.time < Duration::from_millis(1400), "{result:?}");
}

#[test]
fn bad_replies_get_a_line_each() {
    let server = Server::start(|_| Reply::status(403).with_body("no\nway"));
    let machine = Machine::new().cmdline("metadata.provider=gcp");
    let result = machine.run(&[&url("gcp", &server)]);
    let line =
        format!("gcp: GET {}/computeMetadata/v1/?recursive=true&alt=json: status 403: no\n", server.base());
    assert!(result.stderr.contains(&line), "{}", result.stderr);
}

#[test]
fn user_data_that_cannot_be_had_is_a_failure() {
    let server = Server::start(|request| match request.path.as_str() {
        "/latest/api/token" => Reply::text("T"),
        "/latest/meta-data/instance-id" => Reply::text("i-1"),
        "/latest/user-data" => Reply::text("x".repeat(5000)),
        _ => Reply::status(404),
    });
    let machine = Machine::new();
    let result = machine.run(&[&url("aws", &server), "aws", "--max-userdata", "4999"]);
    assert_eq!(result.status, 1);
    assert_eq!(machine.files(), expected(&[("provider", "AWS"), ("instance_id", "i-1")]));
    assert!(result.stderr.contains("the body has more than 4999 bytes"), "{}", result.stderr);
    assert_eq!(machine.run(&[&url("aws", &server), "aws", "--max-userdata", "5000"]).status, 0);
}

#[test]
fn azure_is_told_that_the_machine_is_ready() {
    let document = r#"{"compute": {"vmId": "v", "osProfile": {"computerName": "az"}}}"#;
    let server = Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", path) if path.starts_with("/metadata/instance?") => Reply::json(document),
        ("POST", "/provisioning/health") => Reply::status(201),
        _ => Reply::status(404),
    });
    let machine = Machine::new().dmi(&[("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")]);
    let dir = tempfile::tempdir().unwrap();
    let ovf = br#"<e:Environment xmlns:e="http://schemas.dmtf.org/ovf/environment/1"
        xmlns:wa="http://schemas.microsoft.com/windowsazure"><wa:ProvisioningSection>
        <wa:LinuxProvisioningConfigurationSet><wa:HostName>az</wa:HostName><wa:CustomData>Y3VzdG9t</wa:CustomData>
        </wa:LinuxProvisioningConfigurationSet></wa:ProvisioningSection></e:Environment>"#;
    let disk = image::udf(dir.path(), "rd_rdfe_stable", &[("ovf-env.xml", ovf)]);
    let machine = machine.disk("sr0", &disk);
    let result = machine.run(&[&url("azure", &server)]);
    assert_eq!(result.status, 0, "{result:?}");
    assert_eq!(
        machine.files(),
        expected(&[("provider", "Azure"), ("hostname", "az"), ("instance_id", "v"), ("userdata", "custom")])
    );
    assert_eq!(server.lines().last().unwrap(), "POST /provisioning/health");
}

#[test]
fn whoever_is_named_alone_and_takes_a_connection_may_take_its_time() {
    let slow = Server::start(|request| match request.path.as_str() {
        "/metadata" => Reply::json(r#"{"id": "m"}"#).after(Duration::from_millis(2500)),
        _ => Reply::status(404),
    });
    let machine = Machine::new();
    let result = machine.run(&[&url("packet", &slow), "packet"]);
    assert_eq!((result.status, machine.file("provider").as_deref()), (0, Some("EquinixMetal")), "{result:?}");
    // Of several each gets a line that did not answer in time.
    let result = machine.run(&[&url("packet", &slow), &url("gcp", &slow), "packet", "gcp"]);
    assert_eq!(result.status, 1, "{result:?}");
    assert!(result.stderr.contains("equinixmetal: no answer within 2s\n"), "{result:?}");
}
