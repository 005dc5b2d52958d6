// SPDX-License-Identifier: Apache-2.0
//! A default image listens on nothing, and has the kernel settings that
//! LinuxKit's has: LinuxKit's own security tests, from inside and from outside.

use anyhow::{Context, Result, ensure};
use tests::examples::image;
use tests::inside::Inside as _;
use tests::network::Cable;
use tests::vm::Vm;

/// The settings of LinuxKit's sysctl package. Not read from ours: it is ours
/// that is tried.
const SETTINGS: &[(&str, &str)] = &[
    ("fs.aio-max-nr", "1048576"),
    ("fs.file-max", "524288"),
    ("fs.inotify.max_user_watches", "524288"),
    ("fs.protected_hardlinks", "1"),
    ("fs.protected_symlinks", "1"),
    ("kernel.dmesg_restrict", "1"),
    ("kernel.kptr_restrict", "2"),
    ("kernel.perf_event_paranoid", "3"),
    ("kernel.unprivileged_bpf_disabled", "1"),
    ("net.core.somaxconn", "1024"),
    ("net.ipv4.conf.all.rp_filter", "1"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.accept_redirects", "0"),
    ("net.ipv4.conf.default.accept_source_route", "0"),
    ("net.ipv4.conf.default.rp_filter", "1"),
    ("net.ipv4.neigh.default.gc_thresh1", "80000"),
    ("net.ipv4.neigh.default.gc_thresh2", "90000"),
    ("net.ipv4.neigh.default.gc_thresh3", "100000"),
    ("net.ipv4.ping_group_range", "999 59999"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv6.conf.all.accept_redirects", "0"),
    ("net.ipv6.conf.default.accept_redirects", "0"),
    ("vm.max_map_count", "262144"),
    ("vm.overcommit_memory", "1"),
];

#[test]
fn a_default_image_listens_on_nothing_and_keeps_its_settings() -> Result<()> {
    let name = "open-ports";
    let cable = Cable::new()?;
    let machine = image("minimal")?.machine(name)?.qemu(&cable.qemu());
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* onboot 000-sysctl: done in")?;
        vm.expect("^lkinit: .* service getty: running")?;
        vm.check("kernel settings", settings);
        vm.check("nothing listens, seen from inside", inside);
        vm.sh(&Cable::setup())?;
        // The kernel says seldom that a port is closed; here it is to say it
        // each time.
        vm.sh("cd /proc/sys/net/ipv4; echo 0 >icmp_ratelimit; echo 100000 >icmp_msgs_per_sec; echo 100000 >icmp_msgs_burst")?;
        vm.check("nothing listens, seen from the network", |vm| {
            // A port of each kind that is open shows that one would be seen: a
            // program's, and one that the kernel has open for WireGuard.
            vm.sh("(tail -f /dev/null | nc -l -p 4711 >/dev/null 2>&1) & ip link add wg0 type wireguard && ip link set wg0 up")?;
            vm.until("grep -i ':1267 .* 0A ' /proc/net/tcp /proc/net/tcp6")?;
            let port = vm.sh("tail -n 1 /proc/net/udp | tr -s ' ' | cut -d ' ' -f 3 | cut -d : -f 2")?;
            let port = u16::from_str_radix(port.trim(), 16).with_context(|| port)?;
            let (tcp, udp) = (cable.scan_tcp()?, cable.scan_udp()?);
            eprintln!("  TCP: {} closed, open: {:?}", tcp.closed.len(), tcp.open);
            eprintln!("  UDP: {} closed, open: {:?}", udp.closed.len(), udp.open);
            ensure!(tcp.open.iter().eq([&4711]) && tcp.closed.len() == 65534, "TCP: {:?}", tcp.open);
            ensure!(udp.open.iter().eq([&port]) && udp.closed.len() == 65534, "UDP: {:?}, not {port}", udp.open);
            Ok(())
        });
        Ok(())
    })
}

fn settings(vm: &mut Vm) -> Result<()> {
    let paths: Vec<_> = SETTINGS.iter().map(|(key, _)| key.replace('.', "/")).collect();
    let found = vm.sh(&format!("cd /proc/sys; cat {}", paths.join(" ")))?;
    ensure!(found.lines().count() == SETTINGS.len(), "{found}");
    let wrong: Vec<_> = SETTINGS
        .iter()
        .zip(found.lines())
        .filter(|((_, wanted), found)| !found.split_whitespace().eq(wanted.split_whitespace()))
        .map(|((key, wanted), found)| format!("{key} is {found}, not {wanted}"))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Every namespace's sockets: of TCP those that listen, of the others all.
fn inside(vm: &mut Vm) -> Result<()> {
    let namespaces = vm.sh("for ns in /proc/[0-9]*/ns/net; do readlink $ns; done | sort -u | wc -l")?;
    ensure!(namespaces.trim() == "1", "{namespaces} network namespaces: look into each");
    let listening = vm.sh(
        "cat /proc/net/tcp /proc/net/tcp6 | tr -s ' ' | cut -d ' ' -f 3,5 | grep -v local_address || true",
    )?;
    ensure!(!listening.lines().any(|line| line.ends_with(" 0A")), "TCP:\n{listening}");
    for kind in ["udp", "udp6", "udplite", "udplite6", "raw", "raw6", "packet"] {
        let sockets = vm.sh(&format!("tail -n +2 /proc/net/{kind} 2>/dev/null || true"))?;
        ensure!(sockets.is_empty(), "{kind}:\n{sockets}");
    }
    // Families that have no table of their own, by their number of sockets.
    let protocols = vm.sh("tail -n +2 /proc/net/protocols | tr -s ' ' | cut -d ' ' -f 1,3")?;
    for line in protocols.lines() {
        let (name, count) = line.split_once(' ').context(line.to_owned())?;
        let local = ["UNIX", "UNIX-STREAM", "NETLINK"].contains(&name);
        // The kernel's own, in every namespace: for resets and ICMP.
        let kernels = ["TCP", "TCPv6", "RAW", "RAWv6", "PING", "PINGv6"].contains(&name);
        ensure!(local || kernels || count == "0" || count == "-1", "{name}: {count} sockets");
    }
    Ok(())
}
