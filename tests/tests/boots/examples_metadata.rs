// SPDX-License-Identifier: Apache-2.0
//! The examples for platforms, each on something that looks like its platform as
//! far as this test goes: its service answers at its address. What metadata does
//! with every answer is tried in `metadata`'s own tests.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Result, ensure};
use tests::examples::image;
use tests::image::Image;
use tests::inside::Inside as _;
use tests::platform::{Folder, IMDS, WIRESERVER, nic};
use tests::vm::Vm;

use crate::server::{Received, Reply, Server};
use crate::tls;

/// Boots the example beside these services, and waits for the line of its
/// service `app`. A command in the machine must succeed, too.
fn boot(
    name: &str,
    example: &Image,
    words: &str,
    services: &[(&str, SocketAddr)],
    line: &str,
    also: &str,
) -> Result<()> {
    let machine = example.machine(name)?.append("lkinit.engine=direct").append(words);
    Vm::run(name, nic(machine, services), |vm| {
        vm.expect("^lkinit: .* onboot 002-metadata: done in")?;
        vm.expect("^lkinit: .* service app: running")?;
        let said = vm.until("grep . /var/log/app.out.log")?;
        ensure!(said == line, "{said}");
        ensure!(vm.sh("hostname")? == "example\n");
        vm.sh(also)?;
        Ok(())
    })
}

fn ec2(request: &Received) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => Reply::text("TOKEN=="),
        _ if request.field("x-aws-ec2-metadata-token") != Some("TOKEN==") => Reply::status(401),
        (_, "/latest/meta-data/instance-id") => Reply::text("i-1"),
        (_, "/latest/meta-data/hostname" | "/latest/meta-data/local-hostname") => Reply::text("example"),
        (_, "/latest/user-data") => Reply::text("hello from aws"),
        _ => Reply::status(404),
    }
}

#[test]
fn aws() -> Result<()> {
    let server = Server::start(ec2);
    let line = "this is AWS, told: hello from aws\n";
    boot("example-metadata-aws", &image("metadata-aws")?, "", &[(IMDS, server.address())], line, "true")
}

const GOAL_STATE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><GoalState><Incarnation>1</Incarnation><Container>\
    <ContainerId>c-1</ContainerId><RoleInstanceList><RoleInstance><InstanceId>r-1</InstanceId></RoleInstance>\
    </RoleInstanceList></Container></GoalState>";

/// Base64 of `hello from azure`.
const AZURE: &str = r#"{"compute": {"vmId": "1", "osProfile": {"computerName": "example"}, "userData": "aGVsbG8gZnJvbSBhenVyZQ=="},
    "extended": {"compute": {"hasCustomData": "false", "ppsType": "None"}}}"#;

fn azures(request: &Received) -> Reply {
    match (request.method.as_str(), request.path.split('?').next().unwrap_or_default()) {
        ("GET", "/metadata/instance") => Reply::json(AZURE),
        ("GET", "/metadata/instance/compute/userData") => Reply::text("aGVsbG8gZnJvbSBhenVyZQ=="),
        ("GET", "/machine/" | "/machine") => Reply::text(GOAL_STATE),
        ("POST", _) => Reply::status(200),
        _ => Reply::status(404),
    }
}

#[test]
fn azure() -> Result<()> {
    let server = Server::start(azures);
    let addresses = [(IMDS, server.address()), (WIRESERVER, server.address())];
    let line = "this is Azure, told: hello from azure\n";
    boot("example-metadata-azure", &image("metadata-azure")?, "", &addresses, line, "true")?;
    let reports = server.lines();
    ensure!(reports.iter().any(|line| line.starts_with("POST ")), "nobody was told: {reports:?}");
    Ok(())
}

/// Equinix's service at an address of this network, with an authority of its
/// own in place of those of the machine that built the image.
#[test]
fn packet() -> Result<()> {
    let name = "example-metadata-packet";
    let document = r#"{"id": "1", "hostname": "example", "ssh_keys": [], "network": {"bonding": {"mode": 1},
        "interfaces": [{"name": "eth0", "mac": "52:54:00:00:00:01", "bond": "bond0"}], "addresses": [
        {"address": "168.0.2.15", "cidr": 7, "gateway": "168.0.2.2", "public": true, "enabled": true}]}}"#;
    let files = Folder::new(name)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let pages = [("metadata", document), ("userdata", "hello from packet")];
    let _server = tls::server(files.path(), "IP:169.254.169.254", &address.to_string(), &pages);
    let authority = fs::read(files.path().join(tls::AUTHORITY))?;
    let example = image("metadata-packet")?
        .change(|root| root.file("etc/ssl/certs/ca-certificates.crt", 0o644, authority))?;
    let words = "metadata.packet.url=https://169.254.169.254";
    let line = "this is EquinixMetal, told: hello from packet\n";
    let bonded = "grep -qx 'Slave Interface: eth0' /proc/net/bonding/bond0";
    boot(name, &example, words, &[("169.254.169.254:443", address)], line, bonded)
}
