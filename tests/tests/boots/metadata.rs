// SPDX-License-Identifier: Apache-2.0
//! `lkinit/metadata` as images have it, in booted machines on one platform
//! after the other. metadata_packet.rs has the one that changes the network.

use anyhow::{Result, ensure};
use tests::platform::{Boot, Folder, IMDS, WIRESERVER, metadata};
use tests::samples::CONTAINERD;

use crate::discs;
use crate::server::{Received, Reply, Server};

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
    let server = Server::start(ec2);
    let uuid = "ec2e1916-9099-7caf-fd21-012345abcdef";
    let boot = Boot {
        name: "metadata-aws",
        services: vec![(IMDS, server.address())],
        begin: Box::new(|| server.forget()),
        smbios: &format!("type=1,manufacturer=Amazon EC2,product=t3.micro,uuid={uuid},serial={uuid}"),
        hostname: "ip-10-0-0-5.ec2.internal",
        tree: vec![
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
        ],
        ..Boot::default()
    };
    boot.run(|vm| {
        vm.check("what leads out of the tree is refused", |vm| {
            let log = vm.sh("cat /run/log/onboot/onboot.001-metadata.log; ls -a /run")?;
            ensure!(log.contains("leads out of the tree") && !log.contains("\nescape"), "{log}");
            Ok(())
        });
        let lines = server.lines();
        ensure!(lines.first().is_some_and(|line| line == "PUT /latest/api/token"), "{lines:?}");
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
    let files = Folder::new("metadata-azure")?;
    let dvd = discs::udf(files.path(), "rd_rdfe_stable", &[("ovf-env.xml", ovf.as_bytes())]);
    let boot = Boot {
        name: "metadata-azure",
        services: vec![(IMDS, imds.address()), (WIRESERVER, host.address())],
        begin: Box::new(|| host.forget()),
        disc: Some(dvd),
        smbios: "type=3,asset=7783-7084-3265-9085-8269-3286-77",
        hostname: "azhost",
        tree: vec![
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
        ],
        ..Boot::default()
    };
    boot.run(|vm| {
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

/// Through containerd, with the image's label as it is.
#[test]
fn gcp_through_containerd() -> Result<()> {
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
    let boot = Boot {
        name: "metadata-gcp",
        init: CONTAINERD,
        services: vec![(IMDS, server.address())],
        begin: Box::new(|| server.forget()),
        smbios: "type=1,manufacturer=Google,product=Google Compute Engine,serial=GoogleCloud-1",
        // Too long for the kernel: the first label.
        hostname: "gke-pool-4711",
        tree: vec![
            ("provider", 0o644, "GCP"),
            ("userdata", 0o644, "two"),
            ("hostname", 0o644, long),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAA me\nssh-ed25519 BBBB you"),
        ],
        ..Boot::default()
    };
    boot.run(|_| {
        ensure!(server.requests().len() == 1, "{:?}", server.lines());
        Ok(())
    })
}

/// No network at all: a disc in the drive, by its label.
#[test]
fn nocloud_from_a_disc() -> Result<()> {
    let files = Folder::new("metadata-nocloud")?;
    let metadata_file = b"instance-id: iid-7\nlocal-hostname: disc-host\npublic-keys:\n  - ssh-rsa AAAA me\n";
    let contents: discs::Files<'_> = &[("user-data", TREE.as_bytes()), ("meta-data", metadata_file)];
    let boot = Boot {
        name: "metadata-nocloud",
        onboot: metadata("metadata", ""),
        disc: Some(discs::iso(files.path(), "cidata", &["-R", "-J"], contents)),
        container: "000-metadata",
        hostname: "disc-host",
        tree: vec![
            ("provider", 0o644, "CDROM /dev/sr0"),
            ("userdata", 0o644, TREE),
            ("hello", 0o600, "world"),
            ("hostname", 0o644, "disc-host"),
            ("instance_id", 0o644, "iid-7"),
            ("ssh/authorized_keys", 0o600, "ssh-rsa AAAA me"),
        ],
        ..Boot::default()
    };
    boot.run(|_| Ok(()))
}
