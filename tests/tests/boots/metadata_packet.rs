// SPDX-License-Identifier: Apache-2.0
//! `lkinit/metadata` in a booted machine that looks like Equinix Metal's: over
//! TLS with the image's own authorities; the network is a bond of two
//! interfaces that had each other's names.

use std::fs;

use anyhow::{Result, ensure};
use tests::platform::{Boot, DHCP, Folder, IMDS, metadata};
use tests::vm::Vm;

use crate::server::{Reply, Server};
use crate::tls;

const TREE: &str = r#"{"hello": {"content": "world", "perm": "0600"}}"#;

#[test]
fn packet() -> Result<()> {
    let document = |gateway: &str| {
        format!(
            r#"{{"id": "4a0f-1", "hostname": "metal", "plan": "c3.small.x86", "ssh_keys": ["ssh-rsa AAAA a"],
            "network": {{"bonding": {{"mode": 1}}, "interfaces": [
                {{"name": "eth1", "mac": "52:54:00:00:00:01", "bond": "bond0"}},
                {{"name": "eth0", "mac": "52:54:00:00:00:02", "bond": "bond0"}}],
            "addresses": [
                {{"address": "168.0.2.15", "cidr": 7, "gateway": "168.0.2.2", "public": true, "enabled": true}},
                {{"address": "10.99.0.2", "cidr": 31, "gateway": "{gateway}", "public": false, "enabled": true}},
                {{"address": "2001:db8::2", "cidr": 127, "gateway": "2001:db8::3", "public": true, "enabled": true}}]}},
            "phone_home_url": "http://169.254.169.254/phone-home"}}"#
        )
    };
    let files = Folder::new("metadata-packet")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let good = document("10.99.0.3");
    let pages = [("metadata", good.as_str()), ("userdata", TREE)];
    let _tls = tls::server(files.path(), "IP:169.254.169.254", &port.to_string(), &pages);
    // No address leads to this gateway.
    let bad = document("203.0.113.1");
    let plain = Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/bad/metadata") => Reply::json(&bad),
        ("POST", "/phone-home") => Reply::status(200),
        _ => Reply::status(404),
    });
    let tell = |name: &str| {
        format!(
            "\n  - name: {name}\n    image: lkinit/busybox\n    command: [/bin/sh, -c, 'ip -o link | sed s/qdisc.*link/link/; ip -o -4 address; ip route']"
        )
    };
    let onboot = [
        DHCP,
        &tell("before"),
        &metadata("fails", ", packet, '--metadata-url=packet=http://169.254.169.254/bad'"),
        &tell("after"),
        &metadata("metadata", ", packet"),
        &tell("bonded"),
    ]
    .concat();
    let other = "user,id=other,net=10.77.0.0/24,restrict=on";
    let boot = Boot {
        name: "metadata-packet",
        onboot,
        machine: Box::new(|machine| {
            let machine = machine.append("metadata.packet.url=https://169.254.169.254");
            let card = "virtio-net-pci,netdev=other,mac=52:54:00:00:00:02";
            machine.qemu(&["-netdev", other, "-device", card])
        }),
        files: vec![("etc/ssl/certs/ca-certificates.crt", fs::read(files.path().join(tls::AUTHORITY))?)],
        services: vec![(IMDS, plain.address()), ("169.254.169.254:443", port)],
        begin: Box::new(|| plain.forget()),
        container: "004-metadata",
        hostname: "metal",
        tree: vec![
            ("provider", 0o644, "EquinixMetal"),
            ("userdata", 0o644, TREE),
            ("hello", 0o600, "world"),
            ("hostname", 0o644, "metal"),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAA a"),
        ],
        ..Boot::default()
    };
    boot.run(|vm| {
        let log = |vm: &mut Vm, name: &str| vm.sh(&format!("cat /run/log/onboot/onboot.{name}"));
        vm.check("a network that cannot be made is left as it was", |vm| {
            let (before, after) = (log(vm, "001-before.out.log")?, log(vm, "003-after.out.log")?);
            ensure!(before.contains("168.0.2.15/7") && before == after, "{before}\nand then\n{after}");
            let said = log(vm, "002-fails.log")?;
            ensure!(said.contains("what had been done before is undone"), "{said}");
            Ok(())
        });
        vm.check("the bond", |vm| {
            let bond = vm.sh("cat /proc/net/bonding/bond0; ip -o link; ip route; ip -6 route")?;
            for part in [
                "Bonding Mode: fault-tolerance (active-backup)",
                "Slave Interface: eth1\n",
                "Slave Interface: eth0\n",
                "Permanent HW addr: 52:54:00:00:00:01",
                "default via 168.0.2.2 dev bond0",
                "10.0.0.0/8 via 10.99.0.3 dev bond0",
                "default via 2001:db8::3 dev bond0",
            ] {
                ensure!(bond.contains(part), "no {part:?} in\n{bond}");
            }
            ensure!(!bond.contains("default via 168.0.2.2 dev eth"), "{bond}");
            Ok(())
        });
        vm.check("the service was called over the bond, once", |_| {
            let calls = plain.lines().iter().filter(|line| *line == "POST /phone-home").count();
            ensure!(calls == 1, "{:?}", plain.lines());
            Ok(())
        });
        Ok(())
    })
}
