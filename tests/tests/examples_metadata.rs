// SPDX-License-Identifier: Apache-2.0
//! The examples for platforms, each on something that looks like its platform as
//! far as this test goes: its service answers at its address. What metadata does
//! with every answer is tried in `metadata`'s own tests.

#[path = "../../metadata/tests/support/server.rs"]
mod server;

use anyhow::{Result, ensure};
use server::{Received, Reply, Server};
use tests::examples::image;
use tests::vm::Vm;

/// One network that has both addresses in it: 168.63.129.16 and 169.254.169.254.
const NETWORK: &str = "168.0.0.0/7";
const SERVICE: &str = "169.254.169.254:80";
const AZURES_HOST: &str = "168.63.129.16:80";

/// Boots the example `image` beside a service that answers by `answer`, and
/// waits for the line of the service `app`.
fn boot(
    name: &str,
    example: tests::image::Image,
    more: &str,
    answer: fn(&Received) -> Reply,
    line: &str,
) -> Result<()> {
    let server = Server::start(answer);
    let address = server.address();
    let forward = |to: &str| format!(",guestfwd=tcp:{to}-cmd:busybox nc {} {}", address.ip(), address.port());
    let network =
        format!("user,id=net,net={NETWORK},ipv6=off,restrict=on{}{}", forward(SERVICE), forward(AZURES_HOST));
    let machine = example.machine(name)?.append("lkinit.engine=direct").append(more);
    let machine = machine.qemu(&["-netdev", &network, "-device", "virtio-net-pci,netdev=net"]);
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* onboot 002-metadata: done in")?;
        vm.expect("^lkinit: .* service app: running")?;
        let said =
            vm.sh("for i in $(seq 60); do grep . /var/log/app.out.log && exit; sleep 1; done; exit 1")?;
        ensure!(said == line, "{said}");
        ensure!(vm.sh("hostname")? == "example\n");
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
    boot("example-metadata-aws", image("metadata-aws")?, "", ec2, "this is AWS, told: hello from aws\n")
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
    boot(
        "example-metadata-azure",
        image("metadata-azure")?,
        "",
        azures,
        "this is Azure, told: hello from azure\n",
    )
}
