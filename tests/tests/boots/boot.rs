// SPDX-License-Identifier: Apache-2.0
//! A whole boot of a typical image, looked at from inside, through containerd
//! with runc, up to its shutdown.

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::samples::{CONTAINERD, TYPICAL, yaml};
use tests::vm::Vm;

#[test]
fn a_typical_image_boots_runs_and_shuts_down() -> Result<()> {
    let name = "boot-typical";
    let image = Image::new(&yaml(CONTAINERD, TYPICAL))?;
    let machine = image.machine(name)?.qemu(&["-device", "virtio-rng-pci", "-device", "virtio-serial"]);
    Vm::run(name, machine, |vm| {
        vm.expect("Run /init as init process")?;
        vm.said("^lkinit: .* onboot 000-sysctl: done in")?;
        vm.said("hello from onboot")?;
        vm.expect("^lkinit: .* service (talker|sleeper): running")?;
        vm.expect("^lkinit: .* service (talker|sleeper): running")?;

        vm.check("the root can be left", root);
        vm.check("mounts", mounts);
        vm.check("devices", devices);
        vm.check("cold plug", cold_plug);
        vm.check("the machine's settings", settings);
        vm.check("onboot", onboot);
        vm.check("services", services);
        vm.check("the service command", service_command);
        vm.check("PID 1", pid_1);
        vm.check("orphans", orphans);
        vm.check("shutdown", shutdown);
        Ok(())
    })
}

/// pivot_root(2) needs a root that is itself mounted on something; the
/// kernel's own rootfs, mount 1, is not.
fn root(vm: &mut Vm) -> Result<()> {
    let mountinfo = vm.sh("cat /proc/1/mountinfo")?;
    let root =
        mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/")).context(mountinfo.clone())?;
    let words: Vec<_> = root.split(' ').collect();
    ensure!(words[0] != words[1], "the root has no parent: {root}");
    ensure!(root.contains(" ro,"), "the root is writable: {root}");
    ensure!(root.contains(" shared:"), "the root is not shared: {root}");
    ensure!(vm.try_sh("touch /somewhere")?.status != 0);
    Ok(())
}

fn mounts(vm: &mut Vm) -> Result<()> {
    let mounts = vm.sh("cat /proc/mounts")?;
    let expected = [
        ("/proc", "proc", "nosuid,nodev,noexec"),
        ("/run", "tmpfs", "nosuid,nodev,noexec"),
        ("/tmp", "tmpfs", "nosuid,nodev,noexec"),
        ("/var", "tmpfs", "nosuid,nodev,noexec"),
        ("/dev", "devtmpfs", "nosuid,noexec"),
        ("/dev/mqueue", "mqueue", "nosuid,nodev,noexec"),
        ("/dev/shm", "tmpfs", "nosuid,nodev,noexec"),
        ("/dev/pts", "devpts", "nosuid,noexec"),
        ("/sys", "sysfs", "nosuid,nodev,noexec"),
        ("/sys/kernel/security", "securityfs", "nosuid,nodev,noexec"),
        ("/sys/kernel/debug", "debugfs", "nosuid,nodev,noexec"),
        ("/sys/fs/bpf", "bpf", "nosuid,nodev,noexec"),
        ("/sys/fs/cgroup", "cgroup2", "nosuid,nodev,noexec"),
    ];
    for (place, kind, flags) in expected {
        let found = mounts.lines().find(|line| {
            let words: Vec<_> = line.split(' ').collect();
            words[1] == place && words[2] == kind && words[3].contains(flags)
        });
        ensure!(found.is_some(), "no {kind} on {place} with {flags} in\n{mounts}");
    }
    let modes = vm.sh("stat -c '%n %a' /run /tmp /var /var/tmp /var/empty /dev/shm")?;
    ensure!(
        modes == "/run 755\n/tmp 1777\n/var 755\n/var/tmp 1777\n/var/empty 555\n/dev/shm 1777\n",
        "modes:\n{modes}"
    );
    ensure!(vm.sh("readlink /var/run")?.trim() == "/run");
    Ok(())
}

fn devices(vm: &mut Vm) -> Result<()> {
    let links = "fd stdin stdout stderr kcore";
    let links = vm.sh(&format!("cd /dev; for l in {links}; do readlink $l; done"))?;
    ensure!(
        links == "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/kcore\n",
        "{links}"
    );
    vm.sh("for d in console null kmsg tty tty1; do test -c /dev/$d || { echo no $d; exit 1; }; done")?;
    ensure!(vm.sh("stat -c %a /dev/pts/ptmx")?.trim() != "0");
    Ok(())
}

/// Both devices are on the PCI bus only: virtio_pci came by its modalias, and
/// the drivers of its children by theirs.
fn cold_plug(vm: &mut Vm) -> Result<()> {
    let modules = vm.sh("cut -d ' ' -f 1 /proc/modules")?;
    for module in ["virtio_pci", "virtio_rng", "virtio_console"] {
        ensure!(modules.lines().any(|line| line == module), "{module} is not loaded:\n{modules}");
    }
    ensure!(vm.sh("cat /sys/class/misc/hw_random/rng_current")?.contains("virtio_rng"));
    Ok(())
}

fn settings(vm: &mut Vm) -> Result<()> {
    let lo = vm.sh("ip addr show lo")?;
    ensure!(lo.contains("inet 127.0.0.1/8") && lo.contains("inet6 ::1/128") && lo.contains("UP"), "{lo}");
    let limits = vm.sh("ulimit -n; cat /proc/$(pidof containerd)/limits | grep 'Max open files'")?;
    ensure!(limits.starts_with("1048576\n"), "{limits}");
    ensure!(vm.sh("cat /proc/sys/kernel/panic_on_oops")?.trim() == "1", "sysctl did not apply its file");
    let ages = vm.sh("cat /sys/class/rtc/rtc0/since_epoch; date +%s")?;
    let mut ages = ages.lines().filter_map(|age| age.parse::<i64>().ok());
    let (rtc, system) = (ages.next().context("no RTC")?, ages.next().context("no date")?);
    ensure!((rtc - system).abs() <= 2, "RTC {rtc}, system {system}");
    Ok(())
}

fn onboot(vm: &mut Vm) -> Result<()> {
    let logs = vm.sh("cd /run/log/onboot; cat onboot.001-hello.out.log onboot.001-hello.log")?;
    ensure!(logs == "hello from onboot\nto stderr\n", "{logs}");
    ensure!(vm.sh("cat /var/log/onboot/onboot.001-hello.log")? == "to stderr\n");
    // The last one is removed beside what comes next.
    vm.until("test -z \"$(ctr -n onboot.linuxkit containers ls -q)\"").map(drop)
}

fn services(vm: &mut Vm) -> Result<()> {
    let tasks = vm.sh("ctr -n services.linuxkit tasks ls")?;
    for name in ["talker", "sleeper"] {
        ensure!(tasks.lines().any(|l| l.starts_with(name) && l.contains("RUNNING")), "{name}:\n{tasks}");
    }
    vm.reads("/var/log/talker.out.log", "talker out\n")?;
    vm.reads("/var/log/talker.log", "talker err\n")
}

fn service_command(vm: &mut Vm) -> Result<()> {
    let pid = |vm: &mut Vm| {
        vm.try_sh("ctr -n services.linuxkit tasks ls | grep sleeper | tr -s ' ' | cut -d ' ' -f 2")
    };
    let before = pid(vm)?.text;
    vm.sh("service restart sleeper")?;
    let after = pid(vm)?.text;
    ensure!(!after.is_empty() && before != after, "before: {before}after: {after}");
    vm.sh("service stop sleeper")?;
    ensure!(pid(vm)?.text.is_empty(), "it runs after stop: {}", pid(vm)?.text);
    vm.sh("service start sleeper")?;
    ensure!(!pid(vm)?.text.is_empty(), "it does not run after start");
    let status = vm.sh("service status")?;
    ensure!(status.contains("talker") && status.contains("sleeper"), "{status}");
    // By runc, which is this image's runtime.
    let inside = vm.try_sh("service exec sleeper sh -c 'test -e /run/lkinit || exit 5'")?;
    ensure!(inside.status == 5, "{inside:?}");
    let unknown = vm.try_sh("service start nonesuch")?;
    ensure!(unknown.status != 0 && unknown.text.contains("nonesuch"), "{unknown:?}");
    Ok(())
}

fn pid_1(vm: &mut Vm) -> Result<()> {
    ensure!(vm.sh("readlink /proc/1/exe")?.trim() == "/sbin/init");
    let memory = vm.sh("grep Private_Dirty /proc/1/smaps_rollup")?;
    let kib: u32 = memory.split_whitespace().nth(1).context(memory.clone())?.parse()?;
    eprintln!("  PID 1: {kib} KiB private");
    ensure!(kib <= 300, "PID 1 has {kib} KiB of private memory:\n{}", vm.sh("cat /proc/1/smaps")?);
    Ok(())
}

/// Processes whose parent ends before them, many at a time.
fn orphans(vm: &mut Vm) -> Result<()> {
    vm.sh("i=0; while [ $i -lt 300 ]; do (true & true & true & true &) ; i=$((i+1)); done")?;
    vm.until("! grep '^State:.Z' /proc/[0-9]*/status 2>/dev/null").context("not reaped").map(drop)
}

fn shutdown(vm: &mut Vm) -> Result<()> {
    vm.send("")?;
    vm.try_sh("(sleep 1; poweroff) >/dev/null 2>&1 &")?;
    vm.expect("goodbye from onshutdown")?;
    vm.wait_end()?;
    Ok(())
}
