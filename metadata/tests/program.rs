// SPDX-License-Identifier: Apache-2.0
//! The program from outside: its command line, its files, its exit status,
//! its lines, and what it does to the machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use support::program::{self, Machine, expected, run};

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
fn in_namespace(script: &str) -> support::program::Run {
    let mut command = Command::new("unshare");
    let mounts = "for dir in /run /var /mnt; do mount -t tmpfs tmpfs $dir; done; ";
    command.args(["--uts", "--mount", "--propagation=private", "sh", "-ec", &format!("{mounts}{script}")]);
    command.arg(program::program());
    run(command)
}

#[test]
fn the_host_name_is_set_and_the_old_place_leads_to_the_new() {
    if !root("namespaces") {
        return;
    }
    let machine = Machine::new();
    let long = format!("host.{}", "very-long-domain.".repeat(5));
    for (served, kernel) in [
        ("web-1.example.\\n", "web-1.example"),
        (long.as_str(), "host"),
        ("not a name", "before"),
        ("a\\nb", "before"),
    ] {
        fs::write(machine.path("input"), format!("{{\"hostname\":{{\"content\":\"{served}\"}}}}")).unwrap();
        let script = format!(
            "hostname before; \"$0\" --sysfs {0}/sys --cmdline {0}/cmdline file={0}/input; hostname; readlink /var/config; ls /var/config",
            machine.path("").display()
        );
        let result = in_namespace(&script);
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
        in_namespace(&script)
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
