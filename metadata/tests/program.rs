// SPDX-License-Identifier: Apache-2.0
//! The program from outside: its command line, its files, its exit status,
//! its time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use support::image;
use support::program::{Machine, expected, run};
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

fn url(name: &str, server: &Server) -> String {
    format!("--metadata-url={name}={}", server.base())
}

#[test]
fn a_file_is_user_data() {
    let machine = Machine::new();
    let userdata = r#"{"a":{"content":"1","perm":"0600"},"d":{"perm":"0711","entries":{"b":{"content":"2"}}},"../x":{"content":""}}"#;
    fs::write(machine.path("input"), userdata).unwrap();
    let path = machine.path("input").display().to_string();
    let result = machine.run(&[&format!("file={path}")]);
    assert_eq!(result.status, 0, "{result:?}");
    assert_eq!(
        machine.files(),
        expected(&[("provider", &path), ("userdata", userdata), ("a", "1"), ("d/b", "2")])
    );
    assert_eq!(
        ["provider", "userdata", "a", "d", "d/b"].map(|name| machine.mode(name)),
        [0o644, 0o644, 0o600, 0o711, 0o644]
    );
    assert!(!machine.path("x").exists());
    assert!(result.stderr.contains(&format!("Trying file {path}\n")), "{}", result.stderr);
    assert!(result.stderr.contains("\"../x\" is refused: it leads out of the tree"), "{}", result.stderr);
}

#[test]
fn user_data_that_is_no_tree_is_kept() {
    let machine = Machine::new();
    for userdata in [b"#!/bin/sh\n\xff\0".as_slice(), b"", b"[]", b"{\"a\":1}"] {
        fs::write(machine.path("input"), userdata).unwrap();
        let result = machine.run(&[&format!("file={}", machine.path("input").display())]);
        assert_eq!(result.status, 0);
        assert_eq!(fs::read(machine.config().join("userdata")).unwrap(), userdata);
        assert_eq!(machine.tree().len(), 2);
        assert!(result.stderr.contains("Could not unmarshall userdata: "), "{}", result.stderr);
    }
}

#[test]
fn a_second_run_changes_nothing_and_follows_no_link() {
    let machine = Machine::new();
    let userdata = r#"{"ssh":{"entries":{"authorized_keys":{"content":"k","perm":"0600"}}},"f":{"content":"x"},
        "link":{"entries":{"f":{"content":"x"}}}}"#;
    fs::write(machine.path("input"), userdata).unwrap();
    let argument = format!("file={}", machine.path("input").display());
    fs::create_dir_all(machine.config()).unwrap();
    fs::create_dir_all(machine.path("outside")).unwrap();
    symlink(machine.path("outside"), machine.config().join("link")).unwrap();
    let first = machine.run(&[&argument]);
    let tree = machine.tree();
    assert_eq!(machine.run(&[&argument]).stderr, first.stderr);
    assert_eq!(machine.tree(), tree);
    assert_eq!(fs::read_dir(machine.path("outside")).unwrap().count(), 0);
    assert!(first.stderr.contains("/config/link: cannot make the directory"), "{}", first.stderr);
    assert_eq!(machine.file("f").as_deref(), Some("x"));
}

#[test]
fn the_command_line_is_linuxkits() {
    let machine = Machine::new();
    let result = machine.run(&["nonsense"]);
    assert_eq!((result.status, result.stderr.as_str()), (1, "Unrecognised metadata provider: nonsense\n"));
    assert_eq!(machine.run(&["--nonsense"]).status, 2);
    assert_eq!(machine.run(&["--timeout", "soon"]).status, 2);
    assert_eq!(machine.run(&["--metadata-url", "aws"]).status, 2);
    for argument in ["--help", "-h"] {
        let help = machine.run(&[argument]);
        assert!(help.status == 0 && help.stdout.starts_with("usage: metadata "), "{help:?}");
    }
    let all = "aws azure gcp hetzner openstack scaleway vultr digitalocean equinixmetal packet metaldata vmware cdrom";
    let names: Vec<&str> = all.split(' ').chain(["-v", "-explain"]).collect();
    assert_eq!(machine.run(&names).status, 0);
    assert!(!machine.config().exists(), "--explain writes nothing");
}

#[test]
fn a_base_that_cannot_be_made_is_fatal() {
    let machine = Machine::new();
    fs::write(machine.path("config"), "a file").unwrap();
    let result = machine.run(&["file=/etc/hostname"]);
    assert_eq!(result.status, 1);
    assert!(result.stderr.contains("cannot make or open the directory"), "{}", result.stderr);
}

#[test]
fn nothing_found_is_an_error_only_for_what_was_named() {
    let machine = Machine::new().cmdline("metadata.provider=none");
    let result = machine.run(&[]);
    assert_eq!((result.status, result.stderr.as_str()), (0, "No metadata/userdata found. Bye\n"));
    assert!(machine.config().is_dir());
    let named = machine.run(&["cdrom", "file=/nonexistent"]);
    assert_eq!(named.status, 1);
    assert!(named.stderr.contains("/nonexistent: there is no such file"), "{}", named.stderr);
    assert!(named.stderr.ends_with("No metadata/userdata found. Bye\n"), "{}", named.stderr);
}

#[test]
fn a_machine_known_to_have_no_provider_waits_for_nothing() {
    for machine in [
        Machine::new().cmdline("ds=None"),
        Machine::new().dmi(&[("sys_vendor", "innotek GmbH"), ("product_name", "VirtualBox")]),
    ] {
        let times: Vec<Duration> = (0..5).map(|_| machine.run(&[]).time).collect();
        assert!(times.iter().min().unwrap() < &Duration::from_millis(50), "{times:?}");
    }
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
    // Where others answer in the tests' place nobody is: one address for all.
    let urls: Vec<String> =
        ["azure", "gcp", "hetzner", "digitalocean", "vultr", "scaleway", "openstack", "equinixmetal", "aws"]
            .iter()
            .map(|name| url(name, &server))
            .collect();
    let result = machine.run(&urls.iter().map(String::as_str).collect::<Vec<_>>());
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
    let mut arguments = urls.to_vec();
    arguments.extend(
        ["azure", "gcp", "hetzner", "digitalocean", "vultr", "scaleway", "equinixmetal"]
            .map(|name| url(name, &silent)),
    );
    let machine = Machine::new();
    machine.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(machine.file("provider").as_deref(), Some("openstack"));
}

#[test]
fn a_platform_that_never_answers_costs_two_seconds() {
    let silent = Server::start(|_| Reply::status(200).after(Duration::from_secs(60)));
    let names =
        ["azure", "gcp", "hetzner", "digitalocean", "vultr", "scaleway", "openstack", "equinixmetal", "aws"];
    let urls: Vec<String> = names.iter().map(|name| url(name, &silent)).collect();
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
fn disks_of_every_kind_are_found_at_once() {
    let dir = |_: usize| tempfile::tempdir().unwrap();
    let files: image::Files<'_> =
        &[("user-data", b"u"), ("meta-data", b"instance-id: i-9\nlocal-hostname: cd\n")];
    let (a, b, c) = (dir(0), dir(1), dir(2));
    let images = [
        image::iso(a.path(), "cidata", &["-R", "-J"], files),
        image::fat(b.path(), "CIDATA", 12, files),
        image::udf(c.path(), "cidata", files),
    ];
    for image in images {
        let machine = Machine::new().disk("sdb", &image);
        let result = machine.run(&[]);
        let provider = format!("CDROM {}", machine.path("dev/sdb").display());
        assert_eq!(
            machine.files(),
            expected(&[
                ("provider", &provider),
                ("userdata", "u"),
                ("hostname", "cd"),
                ("instance_id", "i-9")
            ]),
            "{result:?}"
        );
        assert!(result.stderr.starts_with(&format!("Trying {provider}\n")), "{}", result.stderr);
        assert!(result.time < Duration::from_millis(500), "{result:?}");
    }
}

#[test]
fn a_disk_without_a_label_counts_in_an_optical_drive_alone() {
    let dir = tempfile::tempdir().unwrap();
    let image = image::iso(dir.path(), "", &["-R"], &[("config", b"{\"f\":{\"content\":\"c\"}}")]);
    let machine = Machine::new().disk("sr0", &image);
    machine.run(&[]);
    assert_eq!(machine.file("f").as_deref(), Some("c"));
    let machine = Machine::new().disk("sdb", &image);
    assert_eq!(machine.run(&["cdrom"]).status, 1);
    let machine = Machine::new().disk("loop0", &image).disk("sda", &image);
    assert_eq!(machine.run(&["cdrom"]).status, 1);
}

#[test]
fn a_config_drive_goes_before_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let files: image::Files<'_> = &[
        (
            "openstack/latest/meta_data.json",
            br#"{"uuid": "u", "hostname": "drive", "public_keys": {"k": "ssh-rsa A k\n"}}"#,
        ),
        ("openstack/latest/user_data", b"from the drive"),
        (
            "ec2/latest/meta-data.json",
            br#"{"instance-id": "i-7", "instance-type": "m1", "local-ipv4": null}"#,
        ),
    ];
    let image = image::iso(dir.path(), "config-2", &["-R", "-J"], files);
    let server = Server::start(|_| Reply::status(404));
    for machine in [Machine::new(), Machine::new().dmi(&[("product_name", "OpenStack Nova")])] {
        let machine = machine.disk("vdb", &image);
        let result = machine.run(&[&url("openstack", &server)]);
        assert_eq!(
            machine.files(),
            expected(&[
                ("provider", "openstack"),
                ("hostname", "drive"),
                ("instance_id", "i-7"),
                ("instance_type", "m1"),
                ("userdata", "from the drive"),
                ("ssh/authorized_keys", "ssh-rsa A k\n"),
            ]),
            "{result:?}"
        );
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_disk_that_comes_late_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let image = image::iso(dir.path(), "cidata", &["-R"], &[("user-data", b"late")]);
    let machine = Machine::new().cmdline("ds=nocloud");
    let (class, dev) = (machine.path("sys/class/block/vdb"), machine.path("dev/vdb"));
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        fs::copy(image, dev).unwrap();
        fs::create_dir_all(class).unwrap();
    });
    // No kernel tells of this disk: it is found at the end of the time.
    let result = machine.run(&["--timeout", "1"]);
    late.join().unwrap();
    assert_eq!(machine.file("userdata").as_deref(), Some("late"), "{result:?}");
}

#[test]
fn a_disk_that_comes_while_the_network_is_asked_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let image = image::iso(dir.path(), "cidata", &["-R"], &[("user-data", b"late")]);
    let silent = Server::start(|_| Reply::status(200).after(Duration::from_secs(60)));
    let names =
        ["azure", "gcp", "hetzner", "digitalocean", "vultr", "scaleway", "openstack", "equinixmetal", "aws"];
    let urls: Vec<String> = names.iter().map(|name| url(name, &silent)).collect();
    // Not named, and named beside others.
    for more in [&[][..], &["gcp", "cdrom"]] {
        let machine = Machine::new();
        let (class, dev) = (machine.path("sys/class/block/vdb"), machine.path("dev/vdb"));
        let image = image.clone();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            fs::copy(image, dev).unwrap();
            fs::create_dir_all(class).unwrap();
        });
        let arguments: Vec<&str> =
            urls.iter().map(String::as_str).chain(["--timeout", "1"]).chain(more.to_vec()).collect();
        let result = machine.run(&arguments);
        late.join().unwrap();
        assert_eq!(machine.file("userdata").as_deref(), Some("late"), "{result:?}");
    }
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

#[test]
fn explaining_says_what_was_seen_what_it_means_and_who_is_left_out() {
    let machine = Machine::new().dmi(&[("sys_vendor", "Hetzner"), ("product_serial", "4711")]);
    let result = machine.run(&["--explain"]);
    assert_eq!(result.status, 0);
    for line in [
        "  SMBIOS sys_vendor: Hetzner\n",
        "  SMBIOS product_name: unavailable\n",
        "  kernel command line: console=ttyS0 quiet\n",
        "  hetzner: SMBIOS sys_vendor is Hetzner\n",
        "  ask hetzner for up to 30s: SMBIOS sys_vendor is Hetzner\n",
        "  aws: this is hetzner\n",
        "  disks: not looked at: they would not change the answer\n",
    ] {
        assert!(result.stdout.contains(line), "{line:?} is not in\n{}", result.stdout);
    }
    let unknown = Machine::new().run(&["--explain"]).stdout;
    assert!(unknown.contains("unknown: nothing speaks for a provider"), "{unknown}");
    assert!(unknown.contains("metaldata: a stranger could answer"), "{unknown}");
}

#[test]
fn verbose_lines_have_a_time_and_a_level() {
    let machine = Machine::new().cmdline("metadata.provider=none");
    let result = machine.run(&["-v"]);
    assert!(
        result.stderr.lines().all(|line| line.starts_with("time=") && line.contains(" level=")),
        "{}",
        result.stderr
    );
    assert!(result.stderr.contains("level=debug msg=\"aws: skipped: "), "{}", result.stderr);
}

fn root(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("LEFT OUT: {what}: only root can");
    }
    root
}

/// In a host name and mount namespace of its own, with an empty /run and /var.
fn in_namespace(script: &str, program: &str) -> support::program::Run {
    let mut command = Command::new("unshare");
    let mounts = "for dir in /run /var /mnt; do mount -t tmpfs tmpfs $dir; done; ";
    command.args([
        "--uts",
        "--mount",
        "--propagation=private",
        "sh",
        "-ec",
        &format!("{mounts}{script}"),
        program,
    ]);
    run(command)
}

#[test]
fn the_host_name_is_set_and_the_old_place_leads_to_the_new() {
    if !root("namespaces") {
        return;
    }
    let machine = Machine::new();
    let long = format!("host.{}", "very-long-domain.".repeat(5));
    for (served, kernel) in
        [("web-1.example.\\n", "web-1.example"), (long.as_str(), "host"), ("not a name", "before")]
    {
        fs::write(machine.path("input"), format!("{{\"hostname\":{{\"content\":\"{served}\"}}}}")).unwrap();
        let script = format!(
            "hostname before; \"$0\" --sysfs {0}/sys --cmdline {0}/cmdline file={0}/input; hostname; readlink /var/config; ls /var/config",
            machine.path("").display()
        );
        let result = in_namespace(&script, env!("CARGO_BIN_EXE_metadata"));
        assert_eq!(
            result.stdout,
            format!("{kernel}\n/run/config\nhostname\nprovider\nuserdata\n"),
            "{result:?}"
        );
    }
}

#[test]
fn an_old_place_with_something_in_it_is_left_alone() {
    if !root("namespaces") {
        return;
    }
    let run = |make: &str| {
        let script = format!("{make}; \"$0\" --no-hostname file=/etc/passwd; ls -d /var/config/*");
        in_namespace(&script, env!("CARGO_BIN_EXE_metadata"))
    };
    let result = run("mkdir /var/config; echo >/var/config/own");
    assert_eq!((result.status, result.stdout.as_str()), (0, "/var/config/own\n"), "{result:?}");
    let said = "/var/config is not made a link to /run/config: Directory not empty";
    assert!(result.stderr.contains(said), "{result:?}");
    let result = run("mkdir /mnt/own; echo >/mnt/own/file; ln -s /mnt/own /var/config");
    assert_eq!((result.status, result.stdout.as_str()), (0, "/var/config/file\n"), "{result:?}");
    assert!(result.stderr.contains("it is a link to /mnt/own"), "{result:?}");
    // An empty directory is nobody's, and a second run finds the link of the first.
    for make in ["mkdir /var/config", "\"$0\" --no-hostname file=/etc/passwd"] {
        let result = run(make);
        let tree = "/var/config/provider\n/var/config/userdata\n";
        assert_eq!((result.status, result.stdout.as_str()), (0, tree), "{result:?}");
        assert!(!result.stderr.contains("/var/config"), "{result:?}");
    }
}
