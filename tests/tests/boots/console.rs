// SPDX-License-Identifier: Apache-2.0
//! What a person at the console sees, and can do there: lines on every
//! console, shells, break points, gettys, and the watchdog for when nobody is
//! there.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::native::run_native;
use tests::samples::{with_kernel, yaml};
use tests::vm::Vm;

/// Without containerd: what is tried here has nothing to do with it.
const DIRECT: &[&str] = &["lkinit/init", "lkinit/crun"];

/// An onboot container that fails.
const FAILS: &str = "
onboot:
  - name: fails
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo the reason why >&2; exit 3']
";

/// One that hangs.
const HANGS: &str = "
onboot:
  - name: hangs
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
";

const SERVICE: &str = "
services:
  - name: idle
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
";

/// Types a command into a shell on the console, and waits for what it prints.
fn types(vm: &mut Vm, command: &str, answer: &str) -> Result<Vec<String>> {
    vm.send(&format!("{command}\n"))?;
    vm.expect(answer).with_context(|| format!("after typing {command:?}"))
}

/// One boot, stopped at every kind of place, with a second serial console
/// whose bytes are kept as they come.
#[test]
fn a_boot_stops_where_it_is_told_to_and_says_how_to_go_on() -> Result<()> {
    let name = "console-shells";
    let words = "console=ttyS2 console=ttyS0 lkinit.shell=early,failure lkinit.break=services,nonesuch";
    let machine = Image::new(&yaml(DIRECT, &format!("{FAILS}{SERVICE}")))?.machine(name)?;
    let machine = machine.append(words).qemu(&["-serial", "file:ttyS2"]);
    Vm::run(name, machine, |vm| {
        vm.expect(
            "lkinit: .* lkinit.break=nonesuch: no such stage; those of this image: \
             devices, init.d, 000-control, volumes, onboot, services, booted$",
        )?;
        vm.expect(
            r"lkinit: .* boot: stopped before init.d \(lkinit.shell=early\); `exit` .*; on /dev/ttyS0$",
        )?;
        vm.check("the shell is root's, on its own terminal", |vm| {
            types(vm, "tty; id -u", "^/dev/ttyS0$")?;
            vm.expect("^0$")?;
            // Its session's number is its own, and it has a controlling terminal.
            types(vm, "set -- $(cat /proc/$$/stat); echo $(($6 - $$)) $(($7 != 0))", "^0 1$").map(drop)
        });
        vm.check("Ctrl-C and job control", |vm| {
            vm.send("sleep 1000\n")?;
            std::thread::sleep(Duration::from_secs(2));
            vm.send("\x03")?;
            types(vm, "echo interrupted: $?", "^interrupted: 130$")?;
            types(vm, "sleep 1000 & jobs", r"^\[1\].*Running.*sleep 1000")?;
            types(vm, "jobs; kill %1; wait; echo job gone", "^job gone$").map(drop)
        });
        vm.check("rc may die under it", |vm| {
            types(vm, "kill -9 $(pidof rc.init)", "lkinit: .* rc.init ended: killed by signal 9")?;
            vm.expect(r"stopped before init.d .* it is process \d+ and was started before rc was")?;
            types(vm, "echo still $((40 + 2))", "^still 42$").map(drop)
        });
        vm.send("exit\n")?;
        vm.expect(
            r#"lkinit: .* onboot 000-fails: failed: .*3.*last output: "the reason why"; log: /run/log/onboot/onboot.000-fails.log$"#,
        )?;
        vm.expect(r"onboot 000-fails has failed: the boot is stopped \(lkinit.shell=failure\)")?;
        ensure!(!vm.console().text().contains("service idle"), "the boot went on without asking");
        types(vm, "cat /run/log/onboot/onboot.000-fails.log", "^the reason why$")?;
        vm.send("exit\n")?;
        vm.expect(r"boot: stopped before services \(lkinit.break=services\)")?;
        types(vm, "service status >/dev/null && echo the supervisor answers", "^the supervisor answers$")?;
        vm.send("exit\n")?;
        vm.expect("lkinit: .* service idle: running")?;
        vm.expect("lkinit: .* boot: done")?;
        vm.try_sh("(sleep 1; poweroff) </dev/null >/dev/null 2>&1 &")?;
        vm.wait_end()?;
        let other = fs::read_to_string(vm.folder().join("ttyS2"))?;
        let first: Vec<String> = vm.console().lines().into_iter().map(|line| line.text).collect();
        vm.check("the second console has every line of the first", |_| {
            let ours = first.iter().filter(|line| line.starts_with("lkinit: ["));
            let missing: Vec<_> = ours
                .filter(|line| {
                    let text = line.split_once("] ").map_or("", |(_, text)| text);
                    !other.contains(text)
                })
                .collect();
            ensure!(missing.is_empty(), "missing: {missing:#?}");
            Ok(())
        });
        vm.check("failures are red, on a terminal", |_| {
            let line = other.lines().find(|line| line.contains("onboot 000-fails: failed"));
            let line = line.context("no failure")?;
            ensure!(
                line.contains("] \x1b[31monboot 000-fails") && line.trim_end().ends_with("\x1b[0m"),
                "{line:?}"
            );
            Ok(())
        });
        Ok(())
    })
}

/// A shell that is always there, a watchdog, and an rc that cannot be brought
/// back.
#[test]
fn a_shell_stays_beside_the_boot_and_the_watchdog_ends_what_is_hopeless() -> Result<()> {
    let name = "console-watchdog";
    // Debian 12's cloud kernel has no driver for QEMU's watchdog.
    let machine = Image::new(&with_kernel("6.12", DIRECT, &format!("{HANGS}{SERVICE}")))?.machine(name)?;
    let machine = machine.append("lkinit.shell=always lkinit.watchdog=8").qemu(&[
        "-device",
        "i6300esb",
        "-action",
        "watchdog=reset",
    ]);
    Vm::run(name, machine, |vm| {
        vm.expect(r"lkinit: .* shell: a root shell \(lkinit.shell=always\); on /dev/ttyS0")?;
        vm.said("lkinit: .* init: watchdog: on; it resets the machine 8s after PID 1 stops feeding it")?;
        let armed = Instant::now();
        vm.check("a container that hangs is seen, and killed from the shell", |vm| {
            let line = r"onboot 000-hangs: still running after 10s: process (\d+); `kill -9 (\d+)` ends it";
            let found = vm.expect(&format!("lkinit: .* {line}"))?;
            ensure!(found[1] == found[2], "{found:?}");
            let killed = r"lkinit: .* onboot 000-hangs: failed: .*SIGKILL";
            types(vm, &format!("kill -9 {}", found[1]), killed).map(drop)
        });
        vm.said("lkinit: .* service idle: running")?;
        vm.check("the shell comes back when it ends", |vm| {
            vm.send("exit\n")?;
            vm.expect("shell: a root shell")?;
            types(vm, "echo back $((6 * 7))", "^back 42$").map(drop)
        });
        vm.check("rc may die beside it", |vm| {
            let idle = vm.until("pidof sleep")?;
            vm.sh("kill -9 $(pidof rc.init)")?;
            vm.expect("rc.init: started again; taking over")?;
            types(vm, "echo same $((50 - 8))", "^same 42$")?;
            ensure!(vm.sh("pidof sleep")? == idle);
            Ok(())
        });
        vm.check("PID 1 stays small with it", |vm| {
            // Between two feedings, for it has just been up at each.
            let look = "for n in 1 2 3 4; do sleep 0.4; grep Private_Dirty /proc/1/smaps_rollup; done";
            let sizes = vm.sh(look)?;
            let sizes = sizes.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            let kib = sizes.min().context("no Private_Dirty")?;
            eprintln!("  PID 1: {kib} KiB private");
            ensure!(kib <= 300, "{kib} KiB");
            Ok(())
        });
        // Fed for longer than it has patience, so far.
        std::thread::sleep(Duration::from_secs(18).saturating_sub(armed.elapsed()));
        vm.sh(
            "mount -o remount,rw / && mv /usr/bin/service /usr/bin/service.away && kill -9 $(pidof rc.init)",
        )?;
        vm.expect("cannot run /bin/rc.init: No such file or directory")?;
        vm.expect("rc.init cannot be brought back: the watchdog resets the machine in 8s")?;
        let starved = Instant::now();
        vm.wait_end()?;
        let took = starved.elapsed().as_secs_f32();
        eprintln!("  reset {took:.1}s after the last feeding");
        ensure!(took > 3.0, "that was no watchdog: {took:.1}s");
        ensure!(!vm.console().text().contains("Kernel panic"), "the kernel panicked");
        Ok(())
    })
}

/// Root's password is `abcdefgh`.
const GETTY: &str = "
services:
  - name: getty
    image: lkinit/getty
  - name: open
    image: lkinit/getty
    env: [INSECURE=true]
    command: [/bin/sh, -c, 'until [ -e /run/go ]; do sleep 0.2; done; exec /usr/bin/rungetty.sh']
files:
  - path: etc/getty.shadow
    mode: '0600'
    contents: 'root:$6$saltsalt$ktNFQWGdFkLNXhg3QHhkA22hxn6L4.7b.pWegONXnLk4ydOvSr9LydVrQzv/MoMhZw92bvW8uehk3dnCIiDm21:17322:0:::::'
";

#[test]
fn a_getty_asks_for_the_password_unless_it_is_told_not_to() -> Result<()> {
    let name = "console-getty";
    // A speed with the rest of the kernel's options, and a console that is not there.
    let words = "console=ttyS0,115200n8 console=ttyUSB7";
    let machine = Image::new(&yaml(DIRECT, GETTY))?.machine(name)?.append(words);
    Vm::run(name, machine, |vm| {
        vm.expect("login: $")?;
        vm.check("a wrong password", |vm| {
            types(vm, "root", "Password: $")?;
            types(vm, "wrong", "Login incorrect")?;
            vm.expect("login: $").map(drop)
        });
        vm.check("the right one, and the prompt says where one is", |vm| {
            types(vm, "root", "Password: $")?;
            types(vm, "abcdefgh", r"\(ns: getty\) .*# $")?;
            types(vm, "tty; id -u; stty | head -n 1", "^/dev/ttyS0$")?;
            vm.expect("^0$")?;
            vm.expect("speed 115200 baud")?;
            types(vm, "service status", "^getty +[a-z]+ +[0-9]+ ").map(drop)
        });
        vm.check("another login when it ends", |vm| {
            vm.send("exit\n")?;
            vm.expect("login: $").map(drop)
        });
        vm.check("what it says of the consoles", |vm| {
            let log = vm.sh("cat /var/log/getty.out.log")?;
            ensure!(log.matches("getty: on ttyS0\n").count() == 1, "{log}");
            ensure!(log.contains("console=ttyUSB7: /dev/ttyUSB7 is no character device"), "{log}");
            Ok(())
        });
        vm.check("INSECURE", |vm| {
            vm.sh("service stop getty; touch /run/go")?;
            vm.expect(r"\(ns: getty\) .*# $")?;
            types(vm, "id -u; ls /hostroot/etc/getty.shadow", "^0$")?;
            vm.expect("^/hostroot/etc/getty.shadow$").map(drop)
        });
        vm.check("poweroff from the shell", |vm| {
            vm.send("poweroff\n")?;
            vm.expect("lkinit: .* shutdown: poweroff now, after")?;
            vm.wait_end().map(drop)
        });
        Ok(())
    })
}

/// By containerd, natively, where no console is a terminal: that is said, the
/// service stays up all the same, and it stops when it is asked to.
#[test]
fn a_getty_without_a_console_is_no_failure() -> Result<()> {
    let name = "console-getty-native";
    let init = ["lkinit/init", "lkinit/runc", "lkinit/containerd"];
    // All capabilities are more than a sandbox that runs this test may have.
    let service = "services:\n  - {name: getty, image: lkinit/getty, capabilities: [CAP_KILL]}\n";
    // A container engine brings its own.
    let image = Image::new(&yaml(&init, service))?.change(|root| {
        root.remove("etc/resolv.conf")?;
        root.file("etc/resolv.conf", 0o644, "")
    })?;
    run_native(name, &image, "", |inside| {
        inside.expect("service getty: running")?;
        inside.expect("boot: done")?;
        let said = inside.until("grep -s 'no console' /var/log/getty.out.log")?;
        ensure!(said.contains("the kernel's command line names no console that is there"), "{said}");
        // It waits for a signal just before it can be told one.
        inside.until("pidof sleep")?;
        inside.sh("service stop getty")?;
        // It is not killed.
        inside.expect(r"service getty: stopped \(exit status 0\)")?;
        Ok(())
    })
}

/// Among the `init:` images it is for machines whose services do not start.
#[test]
fn a_getty_among_the_init_images_is_a_shell_in_the_roots_namespaces() -> Result<()> {
    let name = "console-getty-init";
    let machine =
        Image::new(&yaml(&["lkinit/init", "lkinit/crun", "lkinit/getty"], SERVICE))?.machine(name)?;
    Vm::run(name, machine, |vm| {
        vm.expect(":~# $")?;
        types(
            vm,
            "test $(readlink /proc/self/ns/mnt) = $(readlink /proc/1/ns/mnt) && echo in the root",
            "^in the root$",
        )?;
        ensure!(!vm.console().text().contains("(ns: getty)"), "the prompt is the service's");
        vm.said("lkinit: .* service idle: running")?;
        vm.send("\nreboot\n")?;
        vm.expect("lkinit: .* shutdown: reboot now, after")?;
        vm.wait_end()?;
        Ok(())
    })
}
