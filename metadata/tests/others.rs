// SPDX-License-Identifier: Apache-2.0
//! The program against programs that others have written: moto as an EC2,
//! and cloud-init's ds-identify as a second opinion on whose machine it is.
//! Both are fetched once, into the build directory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pkg::debian::{Follow, Suite};
use support::image::{self, run};
use support::program::{Machine, expected};
use support::tls::Killed;

/// A directory that `make` fills if it is not there yet. It appears complete
/// or not at all.
fn fetched(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !dir.exists() {
        let unfinished = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        make(unfinished.path());
        // Another test may have been faster.
        let _ = fs::rename(unfinished.keep(), &dir);
    }
    dir
}

/// moto's server at a free port.
fn moto() -> (Killed, String) {
    let dir = fetched("moto-5.1.22", |dir| {
        let dir = dir.to_str().unwrap();
        let packages = ["moto==5.1.22", "flask==3.1.3", "flask-cors==6.0.5"];
        let install = ["-m", "pip", "install", "--quiet", "--target", dir];
        run("python3-pip", "python3", &[&install[..], &packages].concat());
    });
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("python3");
    server.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    server.env("PYTHONPATH", dir).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Killed(server.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "moto does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    (child, format!("http://127.0.0.1:{port}"))
}

/// moto knows a service without tokens and, of that, little: credentials. To
/// a request for a token its S3 answers that there is no such bucket, to any
/// other value it answers 500. What can be found out is that it is an EC2.
#[test]
fn moto_is_an_ec2_without_tokens() {
    let (_server, url) = moto();
    let machine = Machine::new();
    let result = machine.run(&["aws", &format!("--metadata-url=aws={url}")]);
    assert_eq!(machine.files(), expected(&[("provider", "AWS")]), "{result:?}");
    assert!(result.stderr.contains("AWS: Probe succeeded"), "{result:?}");
    let missing = format!("AWS: GET {url}/latest/meta-data/instance-id: status 500");
    assert!(result.stderr.contains(&missing), "{result:?}");
    assert_eq!(result.status, 0, "{result:?}");
}

/// One machine, and who ds-identify and this program take it for.
struct Case {
    what: &'static str,
    dmi: &'static [(&'static str, &'static str)],
    cmdline: &'static str,
    disk: Option<&'static str>,
    /// Debian 12's ds-identify, of 2022.
    theirs: &'static str,
    /// Debian 13's, of 2025, where it says something else.
    newer: Option<&'static str>,
    ours: &'static str,
    /// Where one of the two and this program differ: why.
    difference: &'static str,
}

const UUID: &str = "ec2e1916-9099-7caf-fd21-012345abcdef";

const NOBODY: Case = Case {
    what: "",
    dmi: &[],
    cmdline: "quiet",
    disk: None,
    theirs: "",
    newer: None,
    ours: "",
    difference: "",
};

const CASES: &[Case] = &[
    Case {
        what: "an unknown machine",
        dmi: &[("sys_vendor", "QEMU"), ("product_name", "Standard PC")],
        ..NOBODY
    },
    Case {
        what: "EC2 on Xen or Nitro",
        dmi: &[("product_uuid", UUID), ("product_serial", UUID), ("sys_vendor", "Amazon EC2")],
        theirs: "Ec2",
        ours: "aws",
        ..NOBODY
    },
    Case {
        what: "EC2 whose serial number is another",
        dmi: &[("product_uuid", UUID), ("product_serial", "1")],
        newer: Some("Ec2"),
        ours: "aws",
        difference: "ds-identify of 2022 still wants the serial number to be the UUID; newer ones do not",
        ..NOBODY
    },
    Case {
        what: "EC2 with the UUID in the other byte order",
        dmi: &[("product_uuid", "45e12aec-dcd1-b213-94ed-012345abcdef")],
        newer: Some("Ec2"),
        ours: "aws",
        difference: "newer than the ds-identify of 2022",
        ..NOBODY
    },
    Case {
        what: "EC2 by its vendor alone",
        dmi: &[("sys_vendor", "Amazon EC2"), ("product_name", "t3.micro")],
        ours: "aws",
        difference: "ds-identify goes by the UUID, which only root can read",
        ..NOBODY
    },
    Case {
        what: "Brightbox, which imitates EC2",
        dmi: &[("product_serial", "srv-otuxg.gb1.brightbox.com")],
        theirs: "Ec2",
        ours: "aws",
        ..NOBODY
    },
    Case {
        what: "Outscale",
        dmi: &[("sys_vendor", "3DS Outscale"), ("product_name", "3DS Outscale VM")],
        theirs: "Ec2",
        ours: "aws",
        ..NOBODY
    },
    Case {
        what: "Tilaa",
        dmi: &[("sys_vendor", "Tilaa")],
        ours: "aws",
        difference: "newer than both: cloud-init 26.2 of Debian's testing says Ec2",
        ..NOBODY
    },
    Case { what: "e24cloud", dmi: &[("sys_vendor", "e24cloud")], theirs: "Ec2", ours: "aws", ..NOBODY },
    Case {
        what: "ZStack",
        dmi: &[("chassis_asset_tag", "123456.zstack.io")],
        theirs: "Ec2",
        ours: "aws",
        ..NOBODY
    },
    Case {
        what: "Azure",
        dmi: &[("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")],
        theirs: "Azure",
        ours: "azure",
        ..NOBODY
    },
    Case {
        what: "Compute Engine by its product",
        dmi: &[("product_name", "Google Compute Engine")],
        theirs: "GCE",
        ours: "gcp",
        ..NOBODY
    },
    Case {
        what: "Compute Engine by its serial number",
        dmi: &[("product_serial", "GoogleCloud-8f2e88f")],
        theirs: "GCE",
        ours: "gcp",
        ..NOBODY
    },
    Case { what: "Hetzner", dmi: &[("sys_vendor", "Hetzner")], theirs: "Hetzner", ours: "hetzner", ..NOBODY },
    Case {
        what: "DigitalOcean",
        dmi: &[("sys_vendor", "DigitalOcean")],
        theirs: "DigitalOcean",
        ours: "digitalocean",
        ..NOBODY
    },
    Case { what: "Vultr", dmi: &[("sys_vendor", "Vultr")], theirs: "Vultr", ours: "vultr", ..NOBODY },
    Case { what: "Vultr's bare metal", cmdline: "quiet vultr", theirs: "Vultr", ours: "vultr", ..NOBODY },
    Case {
        what: "Scaleway",
        dmi: &[("sys_vendor", "Scaleway")],
        theirs: "Scaleway",
        ours: "scaleway",
        ..NOBODY
    },
    Case {
        what: "Scaleway's bare metal",
        cmdline: "scaleway",
        theirs: "Scaleway",
        ours: "scaleway",
        ..NOBODY
    },
    Case {
        what: "OpenStack",
        dmi: &[("product_name", "OpenStack Nova")],
        theirs: "OpenStack",
        ours: "openstack",
        ..NOBODY
    },
    Case {
        what: "OpenStack under another name",
        dmi: &[("chassis_asset_tag", "OpenTelekomCloud")],
        theirs: "OpenStack",
        ours: "openstack",
        ..NOBODY
    },
    Case {
        what: "a config drive",
        disk: Some("config-2"),
        theirs: "ConfigDrive",
        ours: "openstack",
        ..NOBODY
    },
    Case { what: "a NoCloud disk", disk: Some("cidata"), theirs: "NoCloud", ours: "cdrom", ..NOBODY },
    Case {
        what: "a NoCloud disk in capitals",
        disk: Some("CIDATA"),
        theirs: "NoCloud",
        ours: "cdrom",
        ..NOBODY
    },
    Case {
        what: "NoCloud on the command line",
        cmdline: "ds=nocloud",
        theirs: "NoCloud",
        newer: Some("nocloud"),
        ours: "cdrom",
        ..NOBODY
    },
    Case {
        what: "NoCloud in the serial number",
        dmi: &[("product_serial", "ds=nocloud;s=http://10.0.0.1/")],
        theirs: "NoCloud",
        ours: "cdrom",
        ..NOBODY
    },
    Case {
        what: "another provider on the command line",
        cmdline: "ds=hetzner",
        newer: Some("hetzner"),
        ours: "hetzner",
        difference: "ds-identify of 2022 knows ds= for NoCloud alone",
        ..NOBODY
    },
    Case {
        what: "VMware without anything to say",
        dmi: &[("product_name", "VMware7,1"), ("sys_vendor", "VMware, Inc.")],
        ours: "vmware",
        difference: "ds-identify asks VMware's own program for guestinfo; this one asks the hypervisor, later",
        ..NOBODY
    },
];

/// ds-identify of the cloud-init of a release of Debian.
fn ds_identify(suite: &str) -> PathBuf {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debian");
    let package = Suite::new(suite, &cache)
        .and_then(|suite| suite.unpack("cloud-init", &["cloud-init"], Follow::Nothing));
    package.unwrap().path.join("usr/lib/cloud-init/ds-identify")
}

/// Whose machine it is to this ds-identify: the first of its list.
fn theirs(machine: &Machine, identify: &Path) -> String {
    // As cloud-init's own tests do it: the script is read, what looks at the
    // machine underneath is replaced, and then it is run.
    let script = "DI_MAIN=noop . \"$0\"
        detect_virt() { _RET=kvm; }
        blkid_export() {
            DI_BLKID_EXPORT_OUT=$(find \"$PATH_ROOT/dev\" -type f -exec /usr/sbin/blkid -o export {} ';')
        }
        main --force";
    let root = machine.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    // What another version has left.
    let _ = (fs::remove_dir_all(machine.path("run")), fs::remove_file(machine.path("log")));
    fs::create_dir_all(machine.path("proc/1")).unwrap();
    fs::copy(machine.path("cmdline"), machine.path("proc/cmdline")).unwrap();
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(identify)
        .env_clear()
        .env("PATH_ROOT", root)
        .env("DI_LOG", machine.path("log"))
        .output()
        .unwrap();
    let found = fs::read_to_string(machine.path("run/cloud-init/cloud.cfg")).unwrap_or_default();
    let log = || fs::read_to_string(machine.path("log")).unwrap_or_default();
    assert!(log().contains("ds-identify"), "{output:?}");
    let list = found.lines().find_map(|line| line.trim().strip_prefix("datasource_list: ["));
    let first = list.and_then(|list| list.split([',', ']']).next()).unwrap_or_default().trim();
    if first == "None" { String::new() } else { first.to_owned() }
}

/// Whose machine it is to this program.
fn ours(machine: &Machine) -> String {
    let result = machine.run(&["--explain"]);
    let meaning = result.stdout.split("meaning:\n").nth(1).unwrap().lines().next().unwrap();
    let name = meaning.trim().split(':').next().unwrap();
    if matches!(name, "unknown" | "none") { String::new() } else { name.to_owned() }
}

#[test]
fn ds_identify_is_of_the_same_opinion() {
    let same = |theirs: &str| match theirs {
        "Ec2" => "aws".to_owned(),
        "GCE" => "gcp".to_owned(),
        "ConfigDrive" => "openstack".to_owned(),
        "NoCloud" | "nocloud" => "cdrom".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    let versions = ["bookworm", "trixie"].map(ds_identify);
    for case in CASES {
        // A directory without fields says more than none: that nobody knows.
        let mut machine = Machine::new().dmi(case.dmi).cmdline(case.cmdline);
        let dir = tempfile::tempdir().unwrap();
        if let Some(label) = case.disk {
            let image = image::iso(dir.path(), label, &["-R"], &[("user-data", b"x"), ("meta-data", b"")]);
            machine = machine.disk("vdb", &image);
        }
        let theirs = versions.each_ref().map(|version| theirs(&machine, version));
        let expected = [case.theirs, case.newer.unwrap_or(case.theirs)];
        let ours = ours(&machine);
        assert_eq!(
            (theirs.each_ref().map(String::as_str), ours.as_str()),
            (expected, case.ours),
            "{}",
            case.what
        );
        let agree = theirs.iter().all(|theirs| same(theirs) == ours);
        assert_eq!(agree, case.difference.is_empty(), "{}: {}", case.what, case.difference);
    }
}
