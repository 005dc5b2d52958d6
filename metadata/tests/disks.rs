// SPDX-License-Identifier: Apache-2.0
//! The program and disks: which count, and when they are waited for.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use support::image;
use support::program::{Machine, expected, url, urls};
use support::server::{Reply, Server};

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

/// Puts the disk in after a while.
fn later(machine: &Machine, image: PathBuf) -> JoinHandle<()> {
    let (class, dev) = (machine.path("sys/class/block/vdb"), machine.path("dev/vdb"));
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        fs::copy(image, dev).unwrap();
        fs::create_dir_all(class).unwrap();
    })
}

#[test]
fn a_disk_that_comes_late_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let image = image::iso(dir.path(), "cidata", &["-R"], &[("user-data", b"late")]);
    let machine = Machine::new().cmdline("ds=nocloud");
    let late = later(&machine, image);
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
    let urls = urls(&silent);
    // Not named, and named beside others.
    for more in [&[][..], &["gcp", "cdrom"]] {
        let machine = Machine::new();
        let late = later(&machine, image.clone());
        let arguments: Vec<&str> =
            urls.iter().map(String::as_str).chain(["--timeout", "1"]).chain(more.to_vec()).collect();
        let result = machine.run(&arguments);
        late.join().unwrap();
        assert_eq!(machine.file("userdata").as_deref(), Some("late"), "{result:?}");
    }
}
