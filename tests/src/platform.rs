// SPDX-License-Identifier: Apache-2.0
//! Machines on a cloud, as far as a test goes: SMBIOS by QEMU, an address by
//! DHCP, and the platform's services at their real addresses. QEMU's user
//! network hands connections to those addresses to servers of this process,
//! and leads nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::image::Image;
use crate::inside::Inside as _;
use crate::machine::Machine;
use crate::paths;
use crate::samples::yaml;
use crate::vm::Vm;

/// `init:` images of a machine without containerd.
pub const CRUN: &[&str] = &["lkinit/init", "lkinit/crun"];

/// One network that has the addresses of all services in it: 168.63.129.16
/// and 169.254.169.254. The first machine gets 168.0.2.15 by DHCP.
const NETWORK: &str = "168.0.0.0/7";
/// Where most platforms have their metadata service, and where Azure has its
/// second one.
pub const IMDS: &str = "169.254.169.254:80";
/// See [`IMDS`].
pub const WIRESERVER: &str = "168.63.129.16:80";

/// An onboot container that gets an address by DHCP, from QEMU, as a platform
/// gives it.
pub const DHCP: &str = r#"
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

/// An onboot container of ours with this name and these arguments, in the form
/// they have in YAML: each with a comma before it.
pub fn metadata(name: &str, arguments: &str) -> String {
    format!("\n  - name: {name}\n    image: lkinit/metadata\n    command: [/usr/bin/metadata, -v{arguments}]")
}

/// A card in the network, whose addresses lead to these servers.
pub fn nic(machine: Machine, forwards: &[(&str, SocketAddr)]) -> Machine {
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

/// A machine on a platform, and what is to come of it.
pub struct Boot<'a> {
    /// Its own and its test's.
    pub name: &'a str,
    /// Its `init:` images.
    pub init: &'a [&'a str],
    /// The onboot containers, `metadata` among them.
    pub onboot: String,
    /// Changes the machine before it boots.
    pub machine: Box<dyn FnOnce(Machine) -> Machine + 'a>,
    /// Files that are added to the root filesystem.
    pub files: Vec<(&'a str, Vec<u8>)>,
    /// Which addresses of the network lead to which servers. Without any
    /// there is no network.
    pub services: Vec<(&'a str, SocketAddr)>,
    /// Done when the machine has been switched on, which may be more than once:
    /// what was asked before is of no account.
    pub begin: Box<dyn Fn() + 'a>,
    /// What is in the optical drive.
    pub disc: Option<PathBuf>,
    /// SMBIOS, as QEMU's option `-smbios` has it.
    pub smbios: &'a str,
    /// The container `metadata`, with its number.
    pub container: &'a str,
    /// The kernel's host name afterwards.
    pub hostname: &'a str,
    /// The tree afterwards: path, mode, contents.
    pub tree: Vec<(&'a str, u32, &'a str)>,
}

impl Default for Boot<'_> {
    /// A machine without containerd and with a network that leads nowhere.
    fn default() -> Self {
        Self {
            name: "",
            init: CRUN,
            onboot: format!("{DHCP}{}", metadata("metadata", "")),
            machine: Box::new(|machine| machine),
            files: Vec::new(),
            services: Vec::new(),
            begin: Box::new(|| ()),
            disc: None,
            smbios: "",
            container: "001-metadata",
            hostname: "",
            tree: Vec::new(),
        }
    }
}

impl Boot<'_> {
    /// Boots it, checks what holds on every platform, and then `more`.
    pub fn run(self, mut more: impl FnMut(&mut Vm) -> Result<()>) -> Result<()> {
        let source = yaml(self.init, &format!("\nonboot:{}{SERVICES}", self.onboot));
        let mut image = Image::new(&source)?;
        for (path, bytes) in self.files {
            image = image.change(|root| root.file(path, 0o644, bytes))?;
        }
        let mut machine = image.machine(self.name)?;
        if !self.services.is_empty() {
            machine = nic(machine, &self.services);
        }
        if let Some(image) = &self.disc {
            machine = disc(machine, image);
        }
        if !self.smbios.is_empty() {
            machine = machine.qemu(&["-smbios", self.smbios]);
        }
        let machine = (self.machine)(machine);
        let (container, hostname, wanted) = (self.container, self.hostname, shown(&self.tree));
        let begin = self.begin;
        Vm::run(self.name, machine, |vm| {
            begin();
            check(vm, container, hostname, &wanted)?;
            more(vm)
        })
    }
}

/// What the services are to show.
fn shown(files: &[(&str, u32, &str)]) -> String {
    let sorted: BTreeMap<_, _> = files.iter().map(|(path, mode, text)| (*path, (mode, text))).collect();
    let lines = sorted.iter().map(|(path, (mode, text))| format!("./{path} {mode:o} [{text}]\n"));
    lines.chain(["end\n".to_owned()]).collect()
}

/// Waits for the services, and checks what holds on every platform.
fn check(vm: &mut Vm, container: &str, hostname: &str, wanted: &str) -> Result<()> {
    vm.expect(&format!("^lkinit: .* onboot {container}: done in"))?;
    for _ in 0..2 {
        vm.expect("^lkinit: .* service (today|older): running")?;
    }
    for service in ["today", "older"] {
        vm.check(format!("the tree as the service {service} sees it"), |vm| {
            let log = format!("/var/log/{service}.out.log");
            // The service runs; its lines may be on their way.
            vm.until(&format!("grep -qx end {log}"))?;
            let tree = vm.sh(&format!("cat {log}"))?;
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

/// A folder for images and keys of a test, which goes with it.
pub struct Folder(PathBuf);

impl Folder {
    /// That of the test `name`, empty.
    pub fn new(name: &str) -> Result<Self> {
        let path = paths::target().join("tests").canonicalize()?.join(format!("{name}.files"));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
