// SPDX-License-Identifier: Apache-2.0
//! The `service` command on a booted machine.

use anyhow::{Result, ensure};
use tests::image::Image;
use tests::samples::{CONTAINERD, TYPICAL, yaml};
use tests::vm::Vm;

#[test]
fn the_service_command() -> Result<()> {
    let name = "service";
    let machine = Image::new(&yaml(CONTAINERD, TYPICAL))?.machine(name)?;
    let machine = machine.qemu(&["-device", "virtio-rng-pci", "-device", "virtio-net-pci"]);
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* boot: done")?;
        vm.check("the record of the boot", |vm| {
            let record = vm.sh("cat /run/lkinit/timeline")?;
            std::fs::write(vm.folder().join("timeline"), &record)?;
            let ended = |lane: &str, step: &str| {
                let begins = format!("{{\"lane\":\"{lane}\",\"name\":\"{step}\"");
                record.lines().any(|line| line.starts_with(&begins) && !line.contains("\"end\":null"))
            };
            for (lane, step) in [
                ("initrd", "unpacked"),
                ("init", "root switch, PID 1"),
                ("boot", "mounts"),
                ("devices", "settle"),
                ("module virtio_pci", "load"),
                ("boot", "clock"),
                ("containerd", "start"),
                ("script 000-control", "run"),
                ("onboot 000-sysctl", "prepare"),
                ("onboot 000-sysctl", "create"),
                ("onboot 000-sysctl", "start"),
                ("onboot 000-sysctl", "run"),
                ("onboot 000-sysctl", "delete"),
                ("service talker", "waiting"),
                ("service talker", "start"),
                ("boot", "done"),
            ] {
                ensure!(ended(lane, step), "{lane}/{step} is missing in\n{record}");
            }
            Ok(())
        });
        Ok(())
    })
}
