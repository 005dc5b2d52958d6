// SPDX-License-Identifier: Apache-2.0
//! Where a boot is not the usual one: a device that comes when the boot is
//! over, and an image that runs as a container.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::samples::yaml;
use tests::vm::Vm;

/// Asks QEMU for something by its monitor protocol (QMP), on the socket `qmp`
/// in the machine's folder.
fn qmp(vm: &Vm, command: &str) -> Result<()> {
    // As in tests::vm: the folder may lie too deep for a socket's path.
    let folder = File::open(vm.folder())?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}/qmp", folder.as_raw_fd()))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    lines.next().context("QEMU does not greet")??;
    for request in [r#"{"execute":"qmp_capabilities"}"#, command] {
        writeln!(&stream, "{request}")?;
        loop {
            let line = lines.next().context("QEMU does not answer")??;
            if line.contains("\"error\"") {
                bail!("{request}: {line}");
            }
            if line.contains("\"return\"") {
                break;
            }
        }
    }
    Ok(())
}

const WAITER: &str = "
services:
  - name: waiter
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
  - name: disk
    image: lkinit/mount
    command: [/usr/bin/mountie, -timeout, '600', -label, late, /var/late]
    annotations: {lkinit.restart: 'no'}
";

/// A file with a filesystem that is labelled `late`.
fn labelled(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("late.img");
    File::create(&file)?.set_len(16 << 20)?;
    let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-L", "late"]).arg(&file).status();
    ensure!(made.context("mkfs.ext4 (package e2fsprogs)")?.success(), "mkfs.ext4 failed");
    Ok(file)
}

/// Nothing of the device was there at boot, so its module was not loaded; the
/// kernel's message about it has to be what loads it. Then it goes, and comes
/// back.
#[test]
fn a_device_that_comes_late_gets_its_module() -> Result<()> {
    let name = "late-device";
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], WAITER))?;
    let folder = tempfile::tempdir()?;
    let disk = format!(
        "driver=raw,node-name=late,file.driver=file,file.filename={}",
        labelled(folder.path())?.display()
    );
    let machine = image.machine(name)?.qemu(&["-qmp", "unix:qmp,server=on,wait=off", "-blockdev", &disk]);
    let current = "cat /sys/class/misc/hw_random/rng_current";
    let until = |what: &str| format!("i=0; until {what}; do i=$((i+1)); test $i -lt 600; sleep 0.1; done");
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* boot: done")?;
        let modules = vm.sh("cat /proc/modules")?;
        ensure!(!modules.contains("virtio_rng"), "loaded before there is a device:\n{modules}");
        qmp(vm, r#"{"execute":"device_add","arguments":{"driver":"virtio-rng-pci","id":"late"}}"#)?;
        vm.sh(&until(&format!("{current} | grep virtio_rng"))).context("plugged in")?;
        vm.sh("grep virtio_rng /proc/modules")?;
        // Taken out and unloaded: what comes back is served once more.
        let device =
            vm.sh("basename $(dirname $(readlink -f /sys/bus/virtio/drivers/virtio_rng/virtio*))")?;
        vm.sh(&format!("echo 1 >/sys/bus/pci/devices/{}/remove && rmmod virtio_rng", device.trim()))?;
        ensure!(!vm.sh(current)?.contains("virtio_rng"));
        vm.sh("echo 1 >/sys/bus/pci/rescan")?;
        vm.sh(&until(&format!("{current} | grep virtio_rng"))).context("plugged in again")?;
        vm.check("a disk is waited for", |vm| {
            ensure!(!vm.sh("cat /proc/mounts")?.contains("/var/late"));
            vm.until("grep 'waiting for it, 600 s at most' /var/log/disk.out.log")?;
            let arguments = r#"{"driver":"virtio-blk-pci","id":"disk","drive":"late"}"#;
            qmp(vm, &format!(r#"{{"execute":"device_add","arguments":{arguments}}}"#))?;
            vm.sh(&until("grep -q ' /var/late ext4' /proc/mounts")).map(drop)
        });
        Ok(())
    })
}

/// `/init` of the outer machine: what a container engine gives a container,
/// and the image in it, twice: by PID 1, as an engine that was told to run
/// `/sbin/init` does, and by rc.init itself, as images of LinuxKit's formats
/// `docker` and `tar` are run.
const OUTER: &str = "#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t tmpfs outer /mnt
mkdir /mnt/inner
for first in /sbin/init /bin/rc.init; do
    mount --bind / /mnt/inner; mount --make-rprivate /mnt/inner
    for tree in sys dev; do mount --rbind /$tree /mnt/inner/$tree; done
    for tree in run tmp var; do mount -t tmpfs $tree /mnt/inner/$tree; done
    mkdir -p /mnt/inner/var/log
    export FIRST=$first
    unshare --mount --pid --net --uts --ipc --fork chroot /mnt/inner /bin/sh -c \\
        'mount -t proc proc /proc; exec $FIRST' </dev/console >/dev/console 2>&1
    echo \"outer: $first ended with $?\"
    umount -l /mnt/inner
done
exec sleep 100000
";

const CONTAINED: &str = "
onboot:
  - name: hello
    image: lkinit/busybox
    command: [/bin/echo, hello from onboot]
services:
  - name: waiter
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo waiter out; exec sleep 100000']
";

/// In a container the mounts, the clock, the devices and the kernel are
/// somebody else's: containers run all the same, and the container ends when
/// nothing is left. The control channel is inside: its script is one of the
/// image's.
#[test]
fn an_image_runs_as_a_container() -> Result<()> {
    let name = "contained";
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], CONTAINED))?.change(|root| {
        root.remove("init")?;
        root.file("init", 0o755, OUTER)
    })?;
    let machine = image.machine(name)?.append("lkinit.log=debug").qemu(&["-device", "virtio-rng-pci"]);
    Vm::run(name, machine, |vm| {
        for first in ["/sbin/init", "/bin/rc.init"] {
            vm.expect("hello from onboot")?;
            vm.expect("^lkinit: .* boot: done")?;
            vm.check(format!("{first}: is PID 1"), |vm| {
                let command = vm.sh("tr '\\0' ' ' </proc/1/cmdline")?;
                ensure!(command.trim() == first, "PID 1 is {command}");
                Ok(())
            });
            vm.check(format!("{first}: services"), |vm| {
                let status = vm.sh("service status")?;
                ensure!(status.contains("waiter") && status.contains("running"), "{status}");
                vm.reads("/var/log/waiter.out.log", "waiter out\n")
            });
            vm.check(format!("{first}: the machine is left alone"), |vm| {
                ensure!(!vm.console().text().contains("devices:"), "cold plug in a container");
                ensure!(!vm.sh("cat /proc/modules")?.contains("virtio_rng"), "a module was loaded");
                let mounts = vm.sh("cat /proc/mounts")?;
                ensure!(!mounts.contains("debugfs"), "{mounts}");
                let links = vm.sh("ip -o link show lo")?;
                ensure!(!links.contains(",UP"), "the loopback was set up: {links}");
                vm.sh("test ! -e /run/lkinit/machine")?;
                Ok(())
            });
            if first == "/sbin/init" {
                vm.check("rc killed", |vm| {
                    let sleeper = vm.until("pidof sleep")?;
                    vm.sh("kill -9 $(pidof rc.init)")?;
                    vm.expect("^lkinit: .* rc.init: started again; taking over")?;
                    vm.expect("^lkinit: .* service waiter: taken over")?;
                    ensure!(vm.sh("pidof sleep")? == sleeper, "the service was started again");
                    Ok(())
                });
            }
            vm.try_sh("(sleep 1; rc.shutdown poweroff) >/dev/null 2>&1 &")?;
            vm.expect("^lkinit: .* service waiter: stopped")?;
            vm.expect(&format!("outer: {first} ended with "))?;
        }
        Ok(())
    })
}
