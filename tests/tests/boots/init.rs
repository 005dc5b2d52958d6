// SPDX-License-Identifier: Apache-2.0
//! `/init` and PID 1 on a real kernel, with a shell script where rc would be.

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::machine::Machine;
use tests::samples::{CONTAINERD, TYPICAL, yaml};
use tests::vm::Vm;

/// What some initrds do before the real first program: a mount, which has to
/// come along.
const EARLY: &str = "#!/bin/sh
mount -t tmpfs early /opt/early
echo early >/opt/early/file
cp /sbin/init /init.real
mv /init.real /init
exec /init
";

const MOUNTS: &str = "#!/bin/sh
test -e /run/lkinit && exec sleep 100000
test -e /proc/self && echo script: proc was there already
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
mkdir /run/lkinit
/etc/init.d/000-control
echo script: up
";

/// A machine with our programs, `script` behind the first mounts as rc.init,
/// and a tree to compare.
fn machine(name: &str, script: &str) -> Result<Machine> {
    let image = Image::new(&yaml(&["lkinit/init"], ""))?.change(|root| {
        for path in ["bin/rc.init", "bin/rc.shutdown"] {
            root.remove(path)?;
        }
        root.remove("init")?;
        root.file("init", 0o755, EARLY)?;
        root.dir("opt/early", 0o755)?;
        root.file("bin/rc.init", 0o755, format!("{MOUNTS}{script}\nexec sleep 100000\n"))?;
        root.file("bin/rc.shutdown", 0o755, "#!/bin/sh\necho script: $1\nexec $1 -f\n")?;
        root.dir("opt/tree", 0o1770)?;
        root.file("opt/tree/file", 0o4711, "content")?;
        root.hard_link("opt/tree/same", "opt/tree/file")?;
        root.symlink("opt/tree/link", "file")
    })?;
    image.machine(name)
}

/// Everything a shell can see of the tree, and of the room the root takes.
fn tree(vm: &mut Vm) -> Result<(String, u64)> {
    let tree = vm.sh("cd /opt/tree; stat -c '%n %A %u %g %h %Y %t' . *; cat file; readlink link")?;
    let same = vm.sh("stat -c %i /opt/tree/file /opt/tree/same | sort -u | wc -l")?;
    ensure!(same.trim() == "1", "the hard link is a file of its own");
    let shared = vm.sh("grep Shmem: /proc/meminfo")?;
    let kib = shared.split_whitespace().nth(1).context(shared.clone())?.parse()?;
    Ok((tree, kib))
}

/// By a move and by copying: the same files, no memory taken twice, and a root
/// that pivot_root(2) can leave.
#[test]
fn the_root_is_left_both_ways() -> Result<()> {
    let mut trees = Vec::new();
    for way in ["move", "copy"] {
        let name = format!("init-{way}");
        let machine = machine(&name, "")?.append(&format!("lkinit.root={way}"));
        Vm::run(&name, machine, |vm| {
            vm.expect("script: up")?;
            ensure!(!vm.console().text().contains("proc was there"), "/proc was left mounted");
            ensure!(vm.console().text().contains("was copied into a tmpfs") == (way == "copy"));
            let root = vm.sh("grep ' / / ' /proc/1/mountinfo")?;
            let words: Vec<_> = root.split(' ').collect();
            ensure!(words[0] != words[1], "the root has no parent: {root}");
            ensure!(vm.try_sh("ls -d /.lkinit-root")?.status != 0, "the working directory is still there");
            ensure!(vm.sh("cat /opt/early/file")? == "early\n");
            ensure!(vm.sh("grep -c ' /opt/early ' /proc/self/mountinfo")?.trim() == "1");
            let pivot = "mkdir /new && mount -t tmpfs new /new && mkdir /new/old && \
                unshare -m sh -c 'mount --make-rprivate / && pivot_root /new /new/old && test -x /old/sbin/init'";
            vm.sh(pivot)?;
            trees.push(tree(vm)?);
            vm.try_sh("(sleep 1; kill -USR1 1) </dev/null >/dev/null 2>&1 &")?;
            vm.expect("script: poweroff")?;
            vm.wait_end()?;
            Ok(())
        })?;
    }
    let [(moved, room_moved), (copied, room_copied)] = &trees[..] else { unreachable!("two ways") };
    ensure!(moved == copied, "moved:\n{moved}\ncopied:\n{copied}");
    eprintln!("  in memory: {room_moved} KiB moved, {room_copied} KiB copied");
    ensure!(*room_copied < room_moved + 512, "{room_moved} KiB moved, {room_copied} KiB copied");
    Ok(())
}

/// runc and containerd on a root that was copied; every other test has them
/// on one that was moved.
#[test]
fn containers_run_on_a_copied_root() -> Result<()> {
    let name = "init-copy-containers";
    let machine = Image::new(&yaml(CONTAINERD, TYPICAL))?.machine(name)?.append("lkinit.root=copy");
    Vm::run(name, machine, |vm| {
        vm.expect("the root was copied into a tmpfs")?;
        vm.said("hello from onboot")?;
        vm.expect("^lkinit: .* service (talker|sleeper): running")?;
        Ok(())
    })
}

/// Whoever destroys PID 1's code ends the machine, and the machine says why.
#[test]
fn a_fault_in_pid_1_is_on_the_console_and_in_the_kernels_log() -> Result<()> {
    let name = "init-fault";
    let fault = "set -- $(cat /proc/1/syscall); shift $(($# - 1))
        printf '\\017\\013' | dd of=/proc/1/mem bs=1 seek=$(($1)) conv=notrunc 2>/dev/null
        kill -HUP 1";
    Vm::run(name, machine(name, fault)?.panics(), |vm| {
        // The kernel's log shows its line with a time, the console as it is.
        let line = r"lkinit: fault in init: SIGILL, address 0x[0-9a-f]+, instruction 0x[0-9a-f]+, code";
        vm.expect(&format!("^\\[ *[0-9.]+\\] {line}"))?;
        vm.said(&format!("^{line}"))?;
        vm.expect("Kernel panic - not syncing: Attempted to kill init!")?;
        Ok(())
    })
}

/// Idle PID 1, measured as the kernel counts it: on a root in memory its own
/// file counts too.
#[test]
fn pid_1_is_small() -> Result<()> {
    let name = "init-small";
    Vm::run(name, machine(name, "")?, |vm| {
        vm.expect("script: up")?;
        // Something to do, and then nothing.
        vm.sh("i=0; while [ $i -lt 100 ]; do (true & true); i=$((i+1)); done")?;
        // What a command leaves behind has to be reaped, too.
        let kib =
            "kib=$(awk '/Private_Dirty/ { print $2 }' /proc/1/smaps_rollup); echo $kib; [ $kib -le 300 ]";
        let kib = vm.until(kib)?;
        eprintln!("  {} KiB private", kib.trim());
        Ok(())
    })
}
