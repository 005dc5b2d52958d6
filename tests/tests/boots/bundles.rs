// SPDX-License-Identifier: Apache-2.0
//! What `runtime.json` and volumes ask for, on a real kernel.

use std::fs::File;

use anyhow::{Result, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::paths;
use tests::samples::{CONTAINERD, yaml};
use tests::vm::Vm;

/// Interfaces of every kind go into the namespace of an onboot container; the
/// namespace outlives it by its bind-mount, and a service joins it.
const NAMESPACES: &str = "
onboot:
  - name: existing
    image: lkinit/busybox
    net: host
    capabilities: [CAP_NET_ADMIN]
    command: [/bin/ip, link, add, moved, type, dummy]
  - name: namespace
    image: lkinit/busybox
    net: new
    capabilities: [CAP_NET_ADMIN]
    command:
      - /bin/sh
      - -c
      - ip addr add 10.1.0.1/24 dev inner && ip link set inner up && ip -o link
    runtime:
      mkdir: [/run/made]
      mounts:
        - {type: tmpfs, source: tmpfs, destination: /run/mounted, options: [size=1m, noexec]}
      interfaces:
        - {name: inner, add: veth, peer: outer}
        - {name: plain, add: dummy}
        - {name: wg0, add: wireguard, createInRoot: true}
        - {name: moved}
      bindNS:
        net: /run/netns/test
        uts: /run/utsns/test
services:
  - name: web
    image: lkinit/busybox
    net: /run/netns/test
    command: [/bin/sh, -c, 'mkdir /www; echo inside >/www/index.html; exec httpd -f -p 8080 -h /www']
";

#[test]
fn interfaces_and_namespaces() -> Result<()> {
    let name = "bundles-namespaces";
    Vm::run(name, Image::new(&yaml(CONTAINERD, NAMESPACES))?.machine(name)?, |vm| {
        vm.expect("^lkinit: .* onboot 001-namespace: done in")?;
        vm.expect("^lkinit: .* service web: running")?;
        vm.check("interfaces are in the namespace", |vm| {
            // Its log is whole when it has been removed.
            vm.said("^001-namespace: ")?;
            let links = vm.sh("cat /run/log/onboot/onboot.001-namespace.out.log")?;
            for link in ["inner", "plain", "wg0", "moved", "lo"] {
                let found = links.lines().any(|line| line.contains(&format!(" {link}")));
                ensure!(found, "no {link} in\n{links}");
            }
            let outside = vm.sh("ip -o link")?;
            ensure!(outside.contains(" outer") && !outside.contains(" moved"), "outside:\n{outside}");
            Ok(())
        });
        vm.check("folders and mounts", |vm| {
            vm.sh("test -d /run/made")?;
            let mounts = vm.sh("grep /run/mounted /proc/mounts")?;
            ensure!(mounts.lines().count() == 1, "mounted more than once:\n{mounts}");
            ensure!(mounts.contains("noexec") && mounts.contains("size=1024k"), "{mounts}");
            Ok(())
        });
        vm.check("bound namespaces", |vm| {
            let mounts = vm.sh("grep nsfs /proc/mounts")?;
            ensure!(mounts.contains("/run/netns/test") && mounts.contains("/run/utsns/test"), "{mounts}");
            Ok(())
        });
        vm.check("a service in that namespace answers through the veth", |vm| {
            vm.sh("ip addr add 10.1.0.2/24 dev outer && ip link set outer up")?;
            // Not wget: Debian's static one dies where there is no C library.
            let page = vm.until(r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 10 10.1.0.1 8080")?;
            ensure!(page.ends_with("inside\n"), "{page}");
            Ok(())
        });
        Ok(())
    })
}

const VOLUMES: &str = "
onboot:
  - name: writer
    image: lkinit/busybox
    binds: ['blank:/blank', 'full:/full:ro']
    command: [/bin/sh, -c, 'echo written >/blank/file; test -x /full/bin/busybox; touch /full/x || echo full is read-only']
services:
  - name: reader
    image: lkinit/busybox
    binds: ['blank:/blank']
    command: [/bin/sh, -c, 'cat /blank/file; exec sleep 100000']
volumes:
  - name: blank
  - name: full
    image: lkinit/busybox
    readonly: true
";

#[test]
fn volumes_are_shared_and_read_only_ones_stay_so() -> Result<()> {
    let name = "bundles-volumes";
    Vm::run(name, Image::new(&yaml(CONTAINERD, VOLUMES))?.machine(name)?, |vm| {
        vm.said("full is read-only")?;
        vm.expect("^lkinit: .* service reader: running")?;
        vm.reads("/var/log/reader.out.log", "written\n")
    })
}

/// An onboot container mounts a disk over containerd's folder.
const DISK: &str = "
onboot:
  - name: disk
    image: lkinit/busybox
    binds: ['/dev:/dev', '/var:/var:rshared,rbind']
    rootfsPropagation: shared
    capabilities: [all]
    devices:
      - {path: all, type: b}
    command:
      - /bin/sh
      - -c
      - mount -t ext4 /dev/vda /var/lib || { mke2fs /dev/vda && mount -t ext4 /dev/vda /var/lib; }
services:
  - name: counter
    image: lkinit/busybox
    binds: ['/var/lib/test:/data']
    runtime:
      mkdir: [/var/lib/test]
    command: [/bin/sh, -c, 'echo boot >>/data/boots; exec sleep 100000']
";

#[test]
fn containerd_moves_to_a_disk_mounted_over_its_root_and_back_after_a_reboot() -> Result<()> {
    let name = "bundles-disk";
    let disk = paths::target().join("tests").canonicalize()?.join("bundles-disk.img");
    File::create(&disk)?.set_len(256 << 20)?;
    let machine = Image::new(&yaml(CONTAINERD, DISK))?.machine(name)?.disk(&disk).reboots();
    Vm::run(name, machine, |vm| {
        for boot in 1..=2 {
            vm.expect("^lkinit: .* onboot 000-disk: done in")?;
            vm.expect("^lkinit: .* service counter: running")?;
            let places = vm.sh("stat -c %d /var/lib/containerd /var/lib /var")?;
            let places: Vec<_> = places.lines().collect();
            ensure!(places[0] == places[1] && places[1] != places[2], "not on the disk: {places:?}");
            // containerd holds its database open: which one tells where it runs.
            let open = vm.sh("ls -l /proc/$(pidof containerd)/fd")?;
            ensure!(open.contains("/var/lib/containerd/"), "{open}");
            ensure!(!vm.sh("ls /var/lib/containerd")?.is_empty(), "containerd is not on the disk");
            vm.reads("/var/lib/test/boots", &"boot\n".repeat(boot))?;
            ensure!(vm.sh("ctr -n services.linuxkit tasks ls")?.contains("RUNNING"));
            if boot == 1 {
                vm.try_sh("(sleep 1; reboot) >/dev/null 2>&1 &")?;
                vm.expect_restart()?;
            }
        }
        vm.try_sh("(sleep 1; poweroff) >/dev/null 2>&1 &")?;
        vm.wait_end()?;
        Ok(())
    })?;
    Ok(std::fs::remove_file(disk)?)
}
