// SPDX-License-Identifier: Apache-2.0
//! The way down: in order, as quick as what it waits for, and with disks that
//! are clean, looked at from outside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::console::excerpt;
use tests::image::Image;
use tests::inside::Inside as _;
use tests::machine::Machine;
use tests::native::run_native;
use tests::samples::yaml;
use tests::vm::Vm;

/// How many shutdowns in the usual test; `LKINIT_SOAK` sets another number.
const USUAL: usize = 2;

/// Writers of every kind, up to the last moment: one that is never told, one
/// that writes because it is told, one that is nobody's service, and all of
/// them keep a file open that has no name any more.
const WRITERS: &str = "
services:
  - name: deaf
    image: lkinit/busybox
    binds: ['/var/disk:/disk']
    command: [/bin/sh, -c, 'exec 3>/disk/gone; rm /disk/gone; while echo deaf >>/disk/deaf; do echo more >&3; sleep 0.02; done']
  - name: keeper
    image: lkinit/busybox
    binds: ['/var/disk:/disk']
    command: [/bin/sh, -c, 'trap \"echo stopped >>/disk/stopped; exit 0\" TERM; echo started >>/disk/started; sleep 100000 & wait']
onshutdown:
  - name: last
    image: lkinit/busybox
    binds: ['/var/disk:/disk']
    command: [/bin/sh, -c, 'test -e /disk/started && echo onshutdown >>/disk/onshutdown']
files:
  - path: etc/init.d/003-disk
    mode: '0755'
    contents: |
      #!/bin/sh
      mkdir /var/disk && mount -t ext4 /dev/vda /var/disk || exit 1
      (exec 3>/var/disk/nameless; rm /var/disk/nameless
      trap 'echo bye >>/var/disk/bye; exit' TERM
      while :; do i=$((i+1)); echo $i >/var/disk/count.new; mv /var/disk/count.new /var/disk/count; sleep 0.02; done) </dev/null >/dev/null 2>&1 &
";

/// Runs a program of the host's, which must succeed.
fn host(program: &str, arguments: &[&str]) -> Result<String> {
    // Debian keeps these out of an ordinary user's search path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.with_context(|| format!("running {program}: is e2fsprogs installed?"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {}\n{text}", output.status);
    Ok(text)
}

/// An empty ext4 filesystem.
fn disk(name: &str) -> Result<PathBuf> {
    let path = tests::paths::target().join(format!("tests/{name}.ext4"));
    std::fs::create_dir_all(path.parent().context("a path")?)?;
    let _ = std::fs::remove_file(&path);
    host("mkfs.ext4", &["-q", &path.display().to_string(), "64M"])?;
    Ok(path.canonicalize()?)
}

/// The filesystem has nothing to repair and nothing to replay, as it is.
fn clean(disk: &Path) -> Result<()> {
    let disk = disk.display().to_string();
    let said = host("e2fsck", &["-f", "-n", &disk])?;
    ensure!(!said.contains("recovery") && !said.contains("WARNING"), "{said}");
    let header = host("dumpe2fs", &["-h", &disk])?;
    let state = header.lines().find(|line| line.starts_with("Filesystem state:")).context(header.clone())?;
    ensure!(state.ends_with(" clean"), "{state}");
    ensure!(!header.contains("needs_recovery"), "the journal was not emptied:\n{header}");
    ensure!(!header.contains("First orphan inode"), "files without a name are left:\n{header}");
    Ok(())
}

/// How many lines a file on the disk has.
fn lines(disk: &Path, file: &str) -> Result<usize> {
    let text = host("debugfs", &["-R", &format!("cat {file}"), &disk.display().to_string()])?;
    Ok(text.lines().filter(|line| !line.starts_with("debugfs")).count())
}

/// The ways to ask for it, and what the kernel says at the end.
const WAYS: &[(&str, &str, &str)] = &[
    ("kill -TERM 1", "reboot", "reboot: Restarting system"),
    ("poweroff", "poweroff", "reboot: Power down"),
    ("rc.shutdown halt", "halt", "reboot: System halted"),
    ("kill -USR1 1", "poweroff", "reboot: Power down"),
    ("rc.shutdown reboot", "reboot", "reboot: Restarting system"),
    ("kill -PWR 1", "poweroff", "reboot: Power down"),
    ("reboot", "reboot", "reboot: Restarting system"),
    ("rc.shutdown poweroff", "poweroff", "reboot: Power down"),
    ("kill -INT 1", "reboot", "reboot: Restarting system"),
    ("kill -USR2 1", "poweroff", "reboot: Power down"),
];

/// Boots, lets everything write, and asks for the end. Gives what rc.shutdown
/// says of the time it took.
fn down(name: &str, machine: Machine, (command, action, last): (&str, &str, &str)) -> Result<String> {
    let mut said = String::new();
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* service (deaf|keeper): running")?;
        vm.expect("^lkinit: .* service (deaf|keeper): running")?;
        // What asks may end with everything else, before it can answer.
        vm.try_sh(&format!("(sleep 1; {command}) </dev/null >/dev/null 2>&1 &"))?;
        said = vm
            .expect(&format!("^lkinit: .* shutdown: {action} now, after (.*, filesystems [0-9.]+s)"))?
            .remove(1);
        vm.expect(last)?;
        let text = vm.console().text();
        for wrong in ["still there", "cannot unmount", "EXT4-fs error", "I/O error", "going down without"] {
            ensure!(!text.contains(wrong), "{wrong}: {}", vm.console().tail(30));
        }
        if action != "halt" {
            vm.wait_end()?;
        }
        Ok(())
    })?;
    Ok(said)
}

#[test]
fn a_disk_that_is_written_to_until_the_last_moment_is_clean() -> Result<()> {
    let name = "shutdown-disk";
    let count = std::env::var("LKINIT_SOAK").ok().map_or(Ok(USUAL), |text| text.parse())?;
    let disk = disk(name)?;
    let machine = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], WRITERS))?.machine(name)?;
    // Most of the time is for services: what is killed gets a quarter of it.
    let machine = machine.append("lkinit.shutdown-timeout=40s").disk(&disk).keep();
    for (at, way) in WAYS.iter().cycle().take(count).enumerate() {
        let number = at + 1;
        let said =
            down(name, machine.clone(), *way).with_context(|| format!("shutdown {number}, by {}", way.0))?;
        clean(&disk).with_context(|| format!("the disk after shutdown {number}, by {}", way.0))?;
        for file in ["started", "stopped", "onshutdown", "bye"] {
            let found = lines(&disk, file)?;
            ensure!(found == number, "{file}: {found} lines after {number} shutdowns, the last by {}", way.0);
        }
        eprintln!("  {number}: {}: clean, after {said}", way.0);
    }
    eprintln!("  {count} shutdowns, {count} clean disks");
    std::fs::remove_file(disk)?;
    Ok(())
}

const LIMITS: &str = "
onboot:
  - name: stuck
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
services:
  - name: idle
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
files:
  - path: etc/init.d/003-stubborn
    mode: '0755'
    contents: |
      #!/bin/sh
      (trap '' TERM HUP; while :; do sleep 1000; done) </dev/null >/dev/null 2>&1 &
      sleep 100000 </dev/null >/dev/null 2>&1 & kill -STOP $!
";

/// The ceiling, for what ignores that it is asked; a boot that is not over;
/// and `noop`, after which whoever called it is there to do the last step.
#[test]
fn what_will_not_end_is_killed_in_time_and_noop_returns() -> Result<()> {
    let name = "shutdown-limits";
    let machine = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], LIMITS))?.machine(name)?;
    Vm::run(name, machine.append("lkinit.shutdown-timeout=4s lkinit.shell=always"), |vm| {
        vm.expect("shell: a root shell")?;
        // The onboot container runs, and would do so for ever.
        vm.sh("until pidof sleep; do sleep 0.2; done; until grep -q 000-stuck /run/lkinit/progress; do sleep 0.2; done; sleep 1")?;
        let output = vm.try_sh("rc.shutdown noop; echo status $?")?;
        ensure!(output.text.ends_with("status 0\n"), "{output:?}");
        vm.expect("lkinit: .* boot: given up, as the machine goes down")?;
        vm.expect(r"lkinit: .* shutdown: still there \d.\ds after SIGTERM: .*003-stubborn \(")?;
        let took = vm.expect("lkinit: .* shutdown: noop now, after ([0-9.]+)s")?[1].parse::<f32>()?;
        // The machine stays up, with nothing on it but who has called.
        let left = vm.sh("ps -o pid,args | grep -v '\\['")?;
        ensure!(!left.contains("sleep 100000") && !left.contains("(lkinit)"), "{left}");
        ensure!(!left.contains("rc.init"), "rc is there again: {left}");
        ensure!(
            !vm.console().text().contains("service idle: running"),
            "a service was started on the way down"
        );
        let mounts = vm.sh("cut -d ' ' -f 2 /proc/mounts")?;
        ensure!(!mounts.lines().any(|point| point.starts_with("/containers")), "{mounts}");
        eprintln!("  noop after {took:.1}s, with a ceiling of 4s");
        ensure!((3.5..15.0).contains(&took), "{took}");
        vm.try_sh("(sleep 1; poweroff -f) </dev/null >/dev/null 2>&1 &")?;
        vm.wait_end()?;
        Ok(())
    })
}

const SLOW: &str = "
services:
  - name: idle
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
onshutdown:
  - name: slow
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo slow begins; sleep 5; echo slow ends']
    annotations: {lkinit.on-failure: reboot}
  - name: hangs
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
    annotations: {lkinit.timeout: 1s}
";

/// Two that want the machine down, by whatever ways: one at a time, and the
/// second neither ends the first nor is taken for one that has failed.
#[test]
fn a_second_request_waits_for_the_first_natively() -> Result<()> {
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], SLOW))?;
    for (first, second, done) in [
        ("rc.shutdown poweroff", "kill -USR2 1", &["poweroff"][..]),
        ("kill -USR2 1", "rc.shutdown poweroff", &["poweroff"][..]),
        ("rc.shutdown noop", "rc.shutdown poweroff", &["noop", "poweroff"][..]),
    ] {
        let context = || format!("{first}, then {second}");
        run_native("shutdown-two", &image, "", |inside| {
            inside.expect("boot: done")?;
            inside.sh(&format!("({first}) </dev/null >/dev/null 2>&1 &"))?;
            inside.expect("^lkinit: .* shutdown: (noop|poweroff)$")?;
            inside.expect("onshutdown 000-slow: annotation lkinit.on-failure: .reboot. is of a key that means nothing here")?;
            inside.sh(&format!("({second}) </dev/null >/dev/null 2>&1 &"))?;
            // PID 1 heeds one signal, and a request by hand is one of its own.
            inside.expect("shutdown: another one is under way: waiting for it")?;
            for action in done {
                inside.expect(&format!("shutdown: {action} now, after "))?;
            }
            let text = inside.console().text();
            let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
            for (what, times) in [
                ("000-slow: slow ends", 1),
                ("001-hangs: failed: did not end in time and was killed after", 1),
                ("; the shutdown goes on; ", 1),
                ("rc.shutdown ended", 0),
                ("still there", 0),
            ] {
                let found = count(what);
                ensure!(found == times, "{found} times {what:?}:\n{}", excerpt(&text, "shutdown"));
            }
            // In a namespace whoever calls reboot(2) ends a moment before all others
            // do: the one that waits may have its turn then, with nothing left to do.
            let ends = count(" now, after ").saturating_sub(count(" now, after 0.0"));
            ensure!(ends <= done.len(), "{ends} ends:\n{}", excerpt(&text, "shutdown"));
            Ok(())
        })
        .with_context(context)?;
    }
    Ok(())
}

const IDLE: &str = "
services:
  - name: one
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
  - name: two
    image: lkinit/busybox
    command: POLITE
  - name: three
    image: lkinit/busybox
    command: POLITE
";

/// What is wanted of a machine with nothing else to do is half a second; a
/// busy one that runs tests gets more. The times are printed.
const AT_ONCE: Duration = Duration::from_secs(6);

/// Without emulation. What is missing is the machine's own part: unmounting
/// disks, and reboot(2).
#[test]
fn three_idle_services_are_down_at_once_natively() -> Result<()> {
    let engines: [(&str, &[&str]); 3] = [
        ("direct", &["lkinit/init", "lkinit/crun"]),
        ("1.6", &["lkinit/init", "lkinit/runc", "lkinit/containerd"]),
        ("1.6-crun", &["lkinit/init", "lkinit/crun", "lkinit/containerd"]),
    ];
    for (engine, init) in engines {
        let name = format!("shutdown-native-{engine}");
        let image = Image::new(&yaml(init, IDLE))?;
        run_native(&name, &image, "", |inside| {
            inside.expect("boot: done")?;
            inside.until("test $(pidof sleep | wc -w) = 3")?;
            let begin = Instant::now();
            // Who asks is ended with everything else.
            inside.try_sh("kill -USR1 1")?;
            let split = inside.expect("shutdown: (onshutdown .*, containerd [0-9.]+s)")?.remove(1);
            let said = inside.expect("shutdown: poweroff now, after (.*, filesystems [0-9.]+s)")?.remove(1);
            let took = begin.elapsed();
            let text = inside.console().text();
            let late = ["still there", "did not end in time", "still up after"]
                .iter()
                .any(|late| text.contains(late));
            ensure!(!late, "{}", excerpt(&text, "shutdown"));
            eprintln!("  {engine}: down {:.3}s after the request: {said}; {split}", took.as_secs_f32());
            ensure!(took < AT_ONCE, "{took:?}");
            Ok(())
        })?;
    }
    Ok(())
}
