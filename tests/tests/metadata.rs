// SPDX-License-Identifier: Apache-2.0
//! `lkinit/metadata` as images have it, in booted machines on one platform
//! after the other: SMBIOS by QEMU, the services at their real addresses.
//!
//! QEMU's user network hands connections to those addresses to servers of
//! this program, and leads nowhere else.

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../metadata/tests/support/image.rs"]
mod image;
#[path = "../../metadata/tests/support/server.rs"]
mod server;
#[path = "../../metadata/tests/support/tls.rs"]
mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use server::{Received, Reply, Server};
use tests::image::Image;
use tests::machine::Machine;
use tests::paths;
use tests::samples::{CONTAINERD, yaml};
use tests::vm::Vm;

const CRUN: &[&str] = &["lkinit/init", "lkinit/crun"];

/// One network that has the addresses of all services in it: 168.63.129.16
/// and 169.254.169.254. The first machine gets 168.0.2.15 by DHCP.
const NETWORK: &str = "168.0.0.0/7";
const IMDS: &str = "169.254.169.254:80";
const WIRESERVER: &str = "168.63.129.16:80";

/// An address by DHCP, from QEMU, as a platform gives it.
const DHCP: &str = r#"
  - name: dhcp
    image: lkinit/busybox
    capabilities: [CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE]
    binds: ['/etc/dhcp.sh:/etc/dhcp.sh', '/etc/resolv.conf:/etc/resolv.conf']
    command: [/bin/sh, -c, 'ip link set eth0 up; exec udhcpc -i eth0 -n -q -f -s /etc/dhcp.sh']"#;

/// A service of today and one of an older image, each of which shows the tree
/// as it sees it.
const SERVICES: &str = r#"
services:
  - name: today
    image: lkinit/busybox
    binds: ['/run/config:/run/config', '/etc/show.sh:/show.sh']
    command: [/bin/sh, -c, 'sh /show.sh /run/config; echo end; exec sleep 100000']
  - name: older
    image: lkinit/busybox
    binds: ['/var/config:/var/config', '/etc/show.sh:/show.sh']
    command: [/bin/sh, -c, 'sh /show.sh /var/config; echo end; exec sleep 100000']
files:
  - path: etc/dhcp.sh
    mode: "0755"
    contents: |
      #!/bin/sh
      [ "$1" = bound ] || exit 0
      ip address add $ip/$mask dev $interface
      # QEMU names no router where it leads nowhere.
      ip route add default via ${router:-168.0.2.2}
      echo nameserver $dns >/etc/resolv.conf
  - path: etc/show.sh
    contents: |
      cd "$1" && find . -type f | sort | while read -r file; do
        echo "$file $(stat -c %a "$file") [$(cat "$file")]"
      done
"#;

/// `onboot` is the containers before the services.
fn an_image(init: &[&str], onboot: &str) -> Result<Image> {
    Image::new(&yaml(init, &format!("\nonboot:{onboot}{SERVICES}")))
}

/// A network card in [`NETWORK`], whose addresses lead to these servers.
fn nic(machine: Machine, forwards: &[(&str, SocketAddr)]) -> Machine {
    let forwards: String = forwards
        .iter()
        .map(|(address, to)| format!(",guestfwd=tcp:{address}-cmd:busybox nc {} {}", to.ip(), to.port()))
        .collect();
    machine.qemu(&[
        "-netdev",
        &format!("user,id=net,net={NETWORK},ipv6=off,restrict=on{forwards}"),
        "-device",
        "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01",
    ])
}

/// A disc in an optical drive.
fn disc(machine: Machine, image: &Path) -> Machine {
    machine.qemu(&[
        "-device",
        "virtio-scsi-pci",
        "-device",
        "scsi-cd,drive=disc",
        "-drive",
        &format!("file={},format=raw,if=none,id=disc,media=cdrom,readonly=on", image.display()),
    ])
}

/// What the services are to show: path, mode, contents.
fn shown(files: &[(&str, u32, &str)]) -> String {
    let sorted: BTreeMap<_, _> = files.iter().map(|(path, mode, text)| (*path, (mode, text))).collect();
    sorted.iter().map(|(path, (mode, text))| format!("./{path} {mode:o} [{text}]\n")).collect()
}

/// Waits for the services, and checks what holds on every platform.
fn check(vm: &mut Vm, container: &str, hostname: &str, files: &[(&str, u32, &str)]) -> Result<()> {
    vm.expect(&format!("^lkinit: .* onboot {container}: done in"))?;
    for _ in 0..2 {
        vm.expect("^lkinit: .* service (today|older): running")?;
    }
    for service in ["today", "older"] {
        vm.check(format!("the tree as the service {service} sees it"), |vm| {
            let log = format!("/var/log/{service}.out.log");
            // The service runs; its lines may be on their way.
            let tree = vm.sh(&format!(
                "for i in 1 2 3 4 5 6 7 8 9; do grep -qx end {log} && break; sleep 1; done; cat {log}"
            ))?;
            let wanted = shown(files) + "end\n";
            ensure!(tree == wanted, "{tree}\nand not\n{wanted}");
            Ok(())
        });
    }
    vm.check("the host name", |vm| {
        let name = vm.sh("hostname")?;
        ensure!(name.trim_end() == hostname, "{name}");
        Ok(())
    });
    vm.check("confinement", |vm| {
        let log = vm.sh(&format!("cat /run/log/onboot/onboot.{container}.log"))?;
        let line = log.lines().find(|line| line.contains("confined: ")).context(log.clone())?;
        eprintln!("    {line}");
        let whole = line.contains("; seccomp allows ") && line.contains("; Landlock ");
        ensure!(whole && !line.contains("untouched") && !line.contains("not switched on"), "{line}");
        Ok(())
    });
    Ok(())
}

/// A folder for images and keys of the test `name`, which goes with it.
fn folder(name: &str) -> Result<Folder> {
    let path = paths::target().join("tests").canonicalize()?.join(format!("{name}.files"));
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::create_dir_all(&path)?;
    Ok(Folder(path))
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TREE: &str = r#"{"hello": {"content": "world", "perm": "0600"}, "../escape": {"content": ""}}"#;

/// EC2's service of version 2, as EC2 has it by default.
fn ec2(request: &Received) -> Reply {
    if (request.method.as_str(), request.path.as_str()) == ("PUT", "/latest/api/token") {
        return match request.field("x-aws-ec2-metadata-token-ttl-seconds") {
            Some(_) => Reply::text("TOKEN=="),
            None => Reply::status(400),
        };
    }
    if request.field("x-aws-ec2-metadata-token") != Some("TOKEN==") {
        return Reply::status(401);
    }
    let Some(path) = request.path.strip_prefix("/latest/") else { return Reply::status(404) };
    match path {
        "meta-data/hostname" | "meta-data/local-hostname" => Reply::text("ip-10-0-0-5.ec2.internal"),
        "meta-data/local-ipv4" => Reply::text("10.0.0.5"),
        "meta-data/placement/availability-zone" => Reply::text("eu-west-1a"),
        "meta-data/instance-type" => Reply::text("t3.micro"),
        "meta-data/instance-id" => Reply::text("i-0123456789abcdef0"),
        "meta-data/public-keys/" => Reply::text("0=first\n1=second"),
        "meta-data/public-keys/0/openssh-key" => Reply::text("ssh-rsa AAAA first"),
        "meta-data/public-keys/1/openssh-key" => Reply::text("ssh-ed25519 BBBB second"),
        "user-data" => Reply::text(TREE),
        _ => Reply::status(404),
    }
}

#[test]
fn aws() -> Result<()> {
    let name = "metadata-aws";
    let server = Server::start(ec2);
    let onboot = format!(
        "{DHCP}\n  - name: metadata\n    image: lkinit/metadata\n    command: [/usr/bin/metadata, -v]"
    );
    let machine = an_image(CRUN, &onboot)?.machine(name)?;
    let uuid = "ec2e1916-9099-7caf-fd21-012345abcdef";
    let smbios = format!("type=1,manufacturer=Amazon EC2,product=t3.micro,uuid={uuid},serial={uuid}");
    let machine = nic(machine, &[(IMDS, server.address())]).qemu(&["-smbios", &smbios]);
    Vm::run(name, machine, |vm| {
        let files = [
            ("provider", 0o644, "AWS"),
            ("userdata", 0o644, TREE),
            ("hello", 0o600, "world"),
            ("hostname", 0o644, "ip-10-0-0-5.ec2.internal"),
            ("local_hostname", 0o644, "ip-10-0-0-5.ec2.internal"),
            ("local_ipv4", 0o644, "10.0.0.5"),
            ("availability_zone", 0o644, "eu-west-1a"),
            ("instance_type", 0o644, "t3.micro"),
            ("instance_id", 0o644, "i-0123456789abcdef0"),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAA first\nssh-ed25519 BBBB second"),
        ];
        check(vm, "001-metadata", "ip-10-0-0-5.ec2.internal", &files)?;
        vm.check("what leads out of the tree is refused", |vm| {
            let log = vm.sh("cat /run/log/onboot/onboot.001-metadata.log; ls -a /run")?;
            ensure!(log.contains("leads out of the tree") && !log.contains("\nescape"), "{log}");
            Ok(())
        });
        ensure!(
            server.lines().first().is_some_and(|line| line == "PUT /latest/api/token"),
            "{:?}",
            server.lines()
        );
        Ok(())
    })
}

const GOAL_STATE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><GoalState><Version>2012-11-30</Version>\
    <Incarnation>1</Incarnation><Machine><ExpectedState>Started</ExpectedState></Machine><Container>\
    <ContainerId>c-4711</ContainerId><RoleInstanceList><RoleInstance><InstanceId>r-1</InstanceId></RoleInstance>\
    </RoleInstanceList></Container></GoalState>";

/// An older host: it does not know the newer report.
fn wireserver(request: &Received) -> Reply {
    match (request.method.as_str(), request.path.as_str(), request.field("x-ms-version")) {
        ("GET", "/machine/?comp=goalstate", Some("2012-11-30")) => Reply::text(GOAL_STATE),
        ("POST", "/machine?comp=health", Some("2012-11-30")) => Reply::status(200),
        _ => Reply::status(404),
    }
}

#[test]
fn azure() -> Result<()> {
    let name = "metadata-azure";
    let document = r#"{"compute": {"vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6", "vmSize": "Standard_B1s",
        "location": "westeurope", "zone": "", "osProfile": {"computerName": "azhost"},
        "publicKeys": [{"keyData": "ssh-rsa AAAA\r\nBBBB me", "path": "/home/me/.ssh/authorized_keys"}]},
        "network": {"interface": [{"macAddress": "525400000001",
            "ipv4": {"ipAddress": [{"privateIpAddress": "168.0.2.15", "publicIpAddress": "192.0.2.4"}]}}]},
        "extended": {"compute": {"hasCustomData": "true", "ppsType": "None"}}}"#;
    // Early in a boot the service is not there yet.
    let mut early = 2;
    let imds =
        Server::start(move |request| match (request.path.split('?').next(), request.field("metadata")) {
            (Some("/metadata/instance"), Some("true")) if early > 0 => {
                early -= 1;
                Reply::status(404)
            }
            (Some("/metadata/instance"), Some("true")) => Reply::json(document),
            _ => Reply::status(400),
        });
    let host = Server::start(wireserver);
    let ovf = r#"<?xml version="1.0" encoding="utf-8"?>
        <ns0:Environment xmlns:ns0="http://schemas.dmtf.org/ovf/environment/1"
            xmlns="http://schemas.microsoft.com/windowsazure"><ProvisioningSection><Version>1.0</Version>
        <LinuxProvisioningConfigurationSet><HostName>azhost</HostName><UserName>me</UserName>
        <UserPassword>not to be read</UserPassword><CustomData>eyJoZWxsbyI6IHsiY29udGVudCI6ICJhenVyZSJ9fQ==</CustomData>
        </LinuxProvisioningConfigurationSet></ProvisioningSection></ns0:Environment>"#;
    let files = folder(name)?;
    let dvd = image::udf(&files.0, "rd_rdfe_stable", &[("ovf-env.xml", ovf.as_bytes())]);
    let onboot = format!(
        "{DHCP}\n  - name: metadata\n    image: lkinit/metadata\n    command: [/usr/bin/metadata, -v]"
    );
    let machine = an_image(CRUN, &onboot)?.machine(name)?;
    let machine = nic(machine, &[(IMDS, imds.address()), (WIRESERVER, host.address())]);
    let machine = disc(machine, &dvd).qemu(&["-smbios", "type=3,asset=7783-7084-3265-9085-8269-3286-77"]);
    Vm::run(name, machine, |vm| {
        let files = [
            ("provider", 0o644, "Azure"),
            ("userdata", 0o644, r#"{"hello": {"content": "azure"}}"#),
            ("hello", 0o644, "azure"),
            ("hostname", 0o644, "azhost"),
            ("instance_id", 0o644, "02aab8a4-74ef-476e-8182-f6d2ba4166a6"),
            ("instance_type", 0o644, "Standard_B1s"),
            ("region", 0o644, "westeurope"),
            ("local_ipv4", 0o644, "168.0.2.15"),
            ("public_ipv4", 0o644, "192.0.2.4"),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAABBBB me"),
        ];
        check(vm, "001-metadata", "azhost", &files)?;
        vm.check("the platform was told", |_| {
            let lines = host.lines();
            let expected =
                ["POST /provisioning/health", "GET /machine/?comp=goalstate", "POST /machine?comp=health"];
            ensure!(lines == expected, "{lines:?}");
            let body = host.requests().pop().map(|request| request.body).unwrap_or_default();
            let body = String::from_utf8_lossy(&body);
            for part in ["<ContainerId>c-4711<", "<InstanceId>r-1<", "<State>Ready<"] {
                ensure!(body.contains(part), "no {part} in {body}");
            }
            Ok(())
        });
        vm.check("the password was not kept", |vm| {
            vm.sh("! grep -r 'not to be read' /run/config /run/log /var/log")?;
            Ok(())
        });
        Ok(())
    })
}

/// Over TLS with the image's own authorities; the network is a bond of two
/// interfaces that had each other's names.
#[test]
fn packet() -> Result<()> {
    let name = "metadata-packet";
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
    let files = folder(name)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let good = document("10.99.0.3");
    let pages = [("metadata", good.as_str()), ("userdata", TREE)];
    let _tls = tls::server(&files.0, "IP:169.254.169.254", &port.to_string(), &pages);
    let authority = fs::read(files.0.join(tls::AUTHORITY))?;
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
    let metadata = |name: &str, more: &str| {
        format!(
            "\n  - name: {name}\n    image: lkinit/metadata\n    command: [/usr/bin/metadata, -v, packet{more}]"
        )
    };
    let onboot = [
        DHCP,
        &tell("before"),
        &metadata("fails", ", '--metadata-url=packet=http://169.254.169.254/bad'"),
        &tell("after"),
        &metadata("metadata", ""),
        &tell("bonded"),
    ]
    .concat();
    let machine = an_image(CRUN, &onboot)?
        .change(|root| root.file("etc/ssl/certs/ca-certificates.crt", 0o644, authority))?
        .machine(name)?
        .append("metadata.packet.url=https://169.254.169.254");
    let machine = nic(machine, &[(IMDS, plain.address()), ("169.254.169.254:443", port)]).qemu(&[
        "-netdev",
        "user,id=other,net=10.77.0.0/24,restrict=on",
        "-device",
        "virtio-net-pci,netdev=other,mac=52:54:00:00:00:02",
    ]);
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* onboot 002-fails: ")?;
        let files = [
            ("provider", 0o644, "EquinixMetal"),
            ("userdata", 0o644, TREE),
            ("hello", 0o600, "world"),
            ("hostname", 0o644, "metal"),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAA a"),
        ];
        check(vm, "004-metadata", "metal", &files)?;
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

/// Through containerd, with the image's label as it is.
#[test]
fn gcp_through_containerd() -> Result<()> {
    let name = "metadata-gcp";
    let long = "gke-pool-4711.europe-west1-b.c.a-project-with-a-rather-long-name.internal";
    let document = serde_json::json!({
        "instance": {"id": 4711, "hostname": long, "zone": "projects/1/zones/europe-west1-b", "attributes": {
            "user-data": "dHdv", "user-data-encoding": "base64", "ssh-keys": "me:ssh-rsa AAAA me"}},
        "project": {"attributes": {"ssh-keys": "you:ssh-ed25519 BBBB you"}},
    })
    .to_string();
    let server = Server::start(move |request| {
        let known = request.path.starts_with("/computeMetadata/v1/?recursive=true");
        match (known, request.field("metadata-flavor")) {
            (true, Some("Google")) => Reply::json(&document).field("Metadata-Flavor", "Google"),
            (true, _) => Reply::status(403),
            _ => Reply::status(404),
        }
    });
    let onboot = format!(
        "{DHCP}\n  - name: metadata\n    image: lkinit/metadata\n    command: [/usr/bin/metadata, -v]"
    );
    let machine = an_image(CONTAINERD, &onboot)?.machine(name)?;
    let smbios = "type=1,manufacturer=Google,product=Google Compute Engine,serial=GoogleCloud-1";
    let machine = nic(machine, &[(IMDS, server.address())]).qemu(&["-smbios", smbios]);
    Vm::run(name, machine, |vm| {
        let files = [
            ("provider", 0o644, "GCP"),
            ("userdata", 0o644, "two"),
            ("hostname", 0o644, long),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAA me\nssh-ed25519 BBBB you"),
        ];
        // Too long for the kernel: the first label.
        check(vm, "001-metadata", "gke-pool-4711", &files)?;
        ensure!(server.requests().len() == 1, "{:?}", server.lines());
        Ok(())
    })
}

/// No network at all: a disc in the drive, by its label.
#[test]
fn nocloud_from_a_disc() -> Result<()> {
    let name = "metadata-nocloud";
    let files = folder(name)?;
    let metadata = b"instance-id: iid-7\nlocal-hostname: disc-host\npublic-keys:\n  - ssh-rsa AAAA me\n";
    let contents: image::Files<'_> = &[("user-data", TREE.as_bytes()), ("meta-data", metadata)];
    let iso = image::iso(&files.0, "cidata", &["-R", "-J"], contents);
    let onboot = "\n  - name: metadata\n    image: lkinit/metadata\n    command: [/usr/bin/metadata, -v]";
    let machine = disc(an_image(CRUN, onboot)?.machine(name)?, &iso);
    Vm::run(name, machine, |vm| {
        let files = [
            ("provider", 0o644, "CDROM /dev/sr0"),
            ("userdata", 0o644, TREE),
            ("hello", 0o600, "world"),
            ("hostname", 0o644, "disc-host"),
            ("instance_id", 0o644, "iid-7"),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAA me"),
        ];
        check(vm, "000-metadata", "disc-host", &files)
    })
}
