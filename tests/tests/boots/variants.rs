// SPDX-License-Identifier: Apache-2.0
//! The same image on every kernel, containerd, cgroup version, root and engine.

use anyhow::{Result, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::machine::Machine;
use tests::samples::{CONTAINERD, TYPICAL, with_kernel, yaml};
use tests::vm::Vm;

/// Boots up to the last service, does `more`, and powers off.
fn boots(name: &str, machine: Machine, more: impl Fn(&mut Vm) -> Result<()>) -> Result<()> {
    Vm::run(name, machine, |vm| {
        vm.said("^lkinit: .* onboot 000-sysctl: done in")?;
        vm.said("hello from onboot")?;
        for _ in 0..2 {
            vm.expect("^lkinit: .* service (talker|sleeper): running")?;
        }
        vm.reads("/var/log/talker.out.log", "talker out\n")?;
        more(vm)?;
        vm.try_sh("(sleep 1; poweroff) >/dev/null 2>&1 &")?;
        vm.expect("goodbye from onshutdown")?;
        vm.wait_end()?;
        Ok(())
    })
}

fn with_containerd(name: &str, kernel: &str, version: &str) -> Result<()> {
    let containerd = format!("lkinit/containerd:{version}");
    let init = ["lkinit/init", "lkinit/runc", &containerd];
    let machine = Image::new(&with_kernel(kernel, &init, TYPICAL))?.machine(name)?;
    boots(name, machine, |vm| {
        let found = vm.sh("containerd --version; ctr -n services.linuxkit tasks ls; uname -r")?;
        ensure!(found.contains(&format!(" {version}.")), "not containerd {version}:\n{found}");
        ensure!(found.matches("RUNNING").count() == 2, "{found}");
        if kernel != "testing" {
            ensure!(found.contains(&format!("\n{kernel}.")), "not kernel {kernel}:\n{found}");
        }
        Ok(())
    })
}

#[test]
fn kernel_6_12_and_containerd_1_7() -> Result<()> {
    with_containerd("variant-trixie", "6.12", "1.7")
}

#[test]
fn the_newest_kernel_and_containerd_2_1() -> Result<()> {
    with_containerd("variant-testing", "testing", "2.1")
}

#[test]
fn cgroup_v1() -> Result<()> {
    let name = "variant-cgroup-v1";
    let machine = Image::new(&yaml(CONTAINERD, TYPICAL))?.machine(name)?;
    boots(name, machine.append("linuxkit.unified_cgroup_hierarchy=0"), |vm| {
        let mounts = vm.sh("grep cgroup /proc/mounts")?;
        ensure!(!mounts.contains("cgroup2"), "{mounts}");
        for place in ["/sys/fs/cgroup tmpfs", "/sys/fs/cgroup/memory cgroup", "/sys/fs/cgroup/systemd cgroup"]
        {
            ensure!(mounts.contains(place), "no {place} in\n{mounts}");
        }
        Ok(())
    })
}

#[test]
fn a_squashfs_root_is_left_alone() -> Result<()> {
    let name = "variant-squashfs";
    let machine = Image::new(&yaml(CONTAINERD, TYPICAL))?.squashfs_machine(name)?;
    boots(name, machine, |vm| {
        let root = vm.sh("grep ' / ' /proc/mounts | tail -n 1")?;
        ensure!(root.contains(" squashfs ro"), "{root}");
        // The kernel has mounted it, without a word of ours.
        let dev = vm.sh("grep ' /dev devtmpfs ' /proc/mounts")?;
        ensure!(dev.contains(" rw,nosuid,noexec,relatime,size=10240k,"), "{dev}");
        Ok(())
    })
}

/// crun is the runtime that containerd's shims run, where the image has it.
#[test]
fn crun_under_containerd() -> Result<()> {
    let name = "variant-crun";
    let init = ["lkinit/init", "lkinit/crun", "lkinit/containerd"];
    let machine = Image::new(&yaml(&init, TYPICAL))?.machine(name)?;
    boots(name, machine, |vm| {
        ensure!(vm.sh("ctr -n services.linuxkit tasks ls")?.matches("RUNNING").count() == 2);
        ensure!(vm.try_sh("test -e /usr/bin/runc")?.status != 0);
        Ok(())
    })
}

fn without_shims(vm: &mut Vm) -> Result<()> {
    ensure!(vm.try_sh("pidof containerd containerd-shim-runc-v2")?.text.is_empty());
    vm.until("test $(pidof sleep | wc -w) = 2").map(drop)
}

#[test]
fn an_image_without_containerd_runs_by_runc() -> Result<()> {
    let name = "variant-no-containerd";
    let machine = Image::new(&yaml(&["lkinit/init", "lkinit/runc"], TYPICAL))?.machine(name)?;
    boots(name, machine, without_shims)
}

#[test]
fn the_direct_engine_on_request() -> Result<()> {
    let name = "variant-direct";
    let init = ["lkinit/init", "lkinit/runc", "lkinit/crun", "lkinit/containerd"];
    let machine = Image::new(&yaml(&init, TYPICAL))?.machine(name)?;
    boots(name, machine.append("lkinit.engine=direct"), without_shims)
}

#[test]
fn direct_onboot_and_services_by_containerd() -> Result<()> {
    let name = "variant-direct-onboot";
    let init = ["lkinit/init", "lkinit/runc", "lkinit/crun", "lkinit/containerd"];
    let machine = Image::new(&yaml(&init, TYPICAL))?.machine(name)?;
    boots(name, machine.append("lkinit.engine=direct-onboot"), |vm| {
        ensure!(vm.sh("ctr -n services.linuxkit tasks ls")?.matches("RUNNING").count() == 2);
        Ok(())
    })
}
