// SPDX-License-Identifier: Apache-2.0
//! Each file of `examples/` is assembled and booted, and what it is an example
//! of is looked at from inside or outside.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::examples::{folder, image};
use tests::inside::Inside as _;
use tests::paths;
use tests::vm::Vm;

/// Waits until these services run, in whatever order.
fn running(vm: &mut Vm, services: &[&str]) -> Result<()> {
    let mut left = services.to_vec();
    while !left.is_empty() {
        let found = vm.expect(r"^lkinit: .* service (\S+): running")?;
        left.retain(|name| *name != found[1]);
    }
    Ok(())
}

fn power_off(vm: &mut Vm) -> Result<()> {
    vm.try_sh("(sleep 1; poweroff) >/dev/null 2>&1 &")?;
    vm.wait_end()?;
    Ok(())
}

/// An empty disk, removed when the test has passed.
fn disk(name: &str, mib: u64) -> Result<PathBuf> {
    let folder = paths::target().join("tests");
    fs::create_dir_all(&folder)?;
    let path = folder.canonicalize()?.join(format!("{name}.img"));
    File::create(&path)?.set_len(mib << 20)?;
    Ok(path)
}

/// Nobody can forget the test of a new example.
#[test]
fn every_example_is_booted_by_a_test() -> Result<()> {
    let mut tests = String::new();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boots"))? {
        tests += &fs::read_to_string(entry?.path())?;
    }
    let mut count = 0;
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a name")?.to_owned();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        count += 1;
        ensure!(tests.contains(&format!("image(\"{name}\")")), "no test boots examples/{name}.yml");
        // Only what `make images` makes; other images can only be spoken of.
        let text = fs::read_to_string(&path)?;
        let named = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        ensure!(
            !named.clone().any(|line| line.contains("linuxkit/")),
            "examples/{name}.yml names an image of LinuxKit's"
        );
        image(&name)?;
    }
    ensure!(count >= 10, "only {count} examples in {}", folder().display());
    Ok(())
}

#[test]
fn volumes_are_shared_with_a_service() -> Result<()> {
    let name = "example-service-volumes";
    Vm::run(name, image("service-volumes")?.machine(name)?.append("lkinit.engine=direct"), |vm| {
        running(vm, &["www"])?;
        // It runs, and listens a moment later.
        let page = vm.until(r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 10 127.0.0.1 80")?;
        ensure!(page.ends_with("written at boot\n"), "{page}");
        let read_only = vm.try_sh("touch /containers/volumes/tools/merged/x")?;
        ensure!(read_only.status != 0, "the volume `tools` can be written");
        power_off(vm)
    })
}

#[test]
fn an_image_without_containerd() -> Result<()> {
    let name = "example-no-containerd";
    Vm::run(name, image("no-containerd")?.machine(name)?, |vm| {
        vm.said("hello from onboot")?;
        running(vm, &["clock"])?;
        ensure!(vm.try_sh("which containerd; pidof containerd")?.text.is_empty());
        vm.until("grep ' UTC ' /var/log/clock.out.log")?;
        power_off(vm)
    })
}

#[test]
fn two_disks_by_their_labels() -> Result<()> {
    let name = "example-two-disks";
    let (one, two) = (disk("example-two-disks-1", 64)?, disk("example-two-disks-2", 512)?);
    let machine = image("two-disks")?.machine(name)?.disk(&one).disk(&two).reboots();
    Vm::run(name, machine, |vm| {
        for boot in 1..=2 {
            running(vm, &["copy"])?;
            let mounts = vm.sh("grep /var/lib/ /proc/mounts")?;
            ensure!(mounts.contains("/dev/vda1 /var/lib/data ext4"), "{mounts}");
            ensure!(mounts.contains("/dev/vdb1 /var/lib/backup xfs"), "{mounts}");
            vm.until(&format!("test $(wc -l </var/lib/backup/boots) = {boot}"))?;
            let links = vm.sh("cd /dev/disk/by-label; readlink data; readlink backup; ls ../by-uuid")?;
            ensure!(links.starts_with("../../vda1\n../../vdb1\n") && links.lines().count() == 4, "{links}");
            if boot == 1 {
                vm.try_sh("(sleep 1; reboot) >/dev/null 2>&1 &")?;
                vm.expect_restart()?;
                // Full disks are left alone, and that is no failure.
                vm.expect("/dev/vda: has the label data already; nothing to do")?;
                vm.expect("/dev/vdb: has the label backup already; nothing to do")?;
            }
        }
        power_off(vm)
    })?;
    fs::remove_file(one)?;
    Ok(fs::remove_file(two)?)
}

/// `format`, `mount`, `swap` and `modprobe` in one boot, and what they refuse.
#[test]
fn an_encrypted_swap_file() -> Result<()> {
    let name = "example-swap";
    let disk = disk(name, 256)?;
    Vm::run(name, image("swap")?.machine(name)?.disk(&disk), |vm| {
        running(vm, &["idle"])?;
        vm.check("swap", |vm| {
            let swaps = vm.sh("cat /proc/swaps")?;
            ensure!(swaps.lines().count() == 2 && swaps.contains("65532"), "{swaps}");
            let table = vm.sh("cat /sys/block/dm-0/dm/name /sys/block/dm-0/dm/uuid; ls /sys/block/dm-0/slaves")?;
            ensure!(table.starts_with("swapfile\nCRYPT-PLAIN-swapfile\nloop0"), "{table}");
            let file = vm.sh("stat -c '%a %s' /var/external/swap; head -c 4096 /var/external/swap | grep -c SWAPSPACE2 || true")?;
            ensure!(file == "600 67108864\n0\n", "the header is there in the clear: {file}");
            Ok(())
        });
        vm.check("a module stays loaded", |vm| {
            ensure!(vm.sh("grep -c '^dm_crypt ' /proc/modules")? == "1\n");
            Ok(())
        });
        power_off(vm)
    })?;
    Ok(fs::remove_file(disk)?)
}

#[test]
fn the_machine_switches_itself_off() -> Result<()> {
    let name = "example-poweroff";
    Vm::run(name, image("poweroff")?.machine(name)?, |vm| {
        vm.expect("the work is done")?;
        // Not by force: the shutdown goes its usual way.
        vm.expect("^lkinit: .* shutdown: poweroff now")?;
        vm.wait_end()?;
        Ok(())
    })
}

#[test]
fn namespaces_with_a_cable_between_them() -> Result<()> {
    let name = "example-namespaces-veth";
    Vm::run(name, image("namespaces-veth")?.machine(name)?, |vm| {
        running(vm, &["server", "client"])?;
        let page = vm.until("grep . /var/log/client.out.log")?;
        ensure!(page == "through the cable\n", "{page}");
        let links = vm.sh("ip -o link")?;
        ensure!(!links.contains("cable") && !links.contains("other-end"), "left outside:\n{links}");
        power_off(vm)
    })
}

#[test]
fn namespaces_with_wireguard_between_them() -> Result<()> {
    let name = "example-namespaces-wireguard";
    Vm::run(name, image("namespaces-wireguard")?.machine(name)?, |vm| {
        running(vm, &["server", "client"])?;
        let page = vm.until("grep . /var/log/client.out.log")?;
        ensure!(page == "through the tunnel\n", "{page}");
        let links = vm.sh("ip -o link")?;
        ensure!(!links.contains("wg0") && !links.contains("wg1"), "left outside:\n{links}");
        power_off(vm)
    })
}

#[test]
fn a_program_that_drives_containerd_is_left_alone() -> Result<()> {
    let name = "example-containerd-client";
    Vm::run(name, image("containerd-client")?.machine(name)?, |vm| {
        running(vm, &["orchestrator"])?;
        vm.until("grep -q 'app runs' /var/log/orchestrator.out.log")?;
        let app = "ctr -n apps task ls | grep '^app ' | tr -s ' ' | cut -d ' ' -f 2,3";
        let before = vm.sh(app)?;
        ensure!(before.ends_with(" RUNNING\n"), "{before}");
        vm.check("it outlives a restart of the service", |vm| {
            vm.sh("service restart orchestrator")?;
            ensure!(vm.sh(app)? == before);
            Ok(())
        });
        vm.check("it outlives rc", |vm| {
            vm.sh("kill -9 $(pidof rc.init)")?;
            vm.expect("^lkinit: .* service orchestrator: taken over")?;
            ensure!(vm.sh(app)? == before);
            Ok(())
        });
        vm.check("it outlives containerd", |vm| {
            vm.sh("kill -9 $(pidof containerd)")?;
            vm.expect("^lkinit: .* containerd: .* ready in")?;
            ensure!(vm.sh(app)? == before);
            Ok(())
        });
        vm.check("it is none of our services", |vm| {
            let status = vm.sh("service status")?;
            ensure!(!status.lines().any(|line| line.starts_with("app ")), "{status}");
            Ok(())
        });
        power_off(vm)
    })
}

#[test]
fn supervision_by_annotations() -> Result<()> {
    let name = "example-supervision";
    Vm::run(name, image("supervision")?.machine(name)?, |vm| {
        running(vm, &["database", "web"])?;
        vm.check("web starts when the database is ready, and not before", |vm| {
            let told = events(vm)?;
            let place = |name: &str, state: &str| {
                let found = told.iter().position(|event| event.service == name && event.to == state);
                found.with_context(|| format!("{name} was never {state}: {told:#?}"))
            };
            let order = [
                place("web", "waiting")?,
                place("database", "readying")?,
                place("database", "running")?,
                place("web", "starting")?,
                place("web", "running")?,
            ];
            ensure!(order[0] < order[3] && order[1..].is_sorted(), "{order:?} in {told:#?}");
            // Its file comes three seconds after its start.
            let readying = told[order[2]].time - told[order[1]].time;
            ensure!(readying > 2.5, "the database was ready after {readying} s");
            let said = vm.until("grep . /var/log/web.out.log")?;
            ensure!(said == "the database was ready\n", "{said}");
            Ok(())
        });
        vm.said("^lkinit: .* service crashes: .*(gives? up|given up)")?;
        vm.check("the one that crashes is started again twice, the one that is done never", |vm| {
            let told = events(vm)?;
            let starts = |name: &str| {
                told.iter().filter(|event| event.service == name && event.to == "starting").count()
            };
            ensure!((starts("crashes"), starts("once")) == (3, 1), "{told:#?}");
            let status = vm.sh("service status")?;
            let state = |name: &str| {
                let row = status.lines().find(|line| line.split_whitespace().next() == Some(name));
                row.and_then(|row| row.split_whitespace().nth(1)).unwrap_or_default().to_owned()
            };
            let states = ["database", "web", "crashes", "once"].map(state);
            ensure!(states == ["running", "running", "given-up", "exited"], "{status}");
            vm.reads("/var/log/once.out.log", "done once\n")
        });
        Ok(())
    })
}

/// A change of a service's state, as `service events` tells it.
#[derive(Debug)]
struct Event {
    /// Seconds since the kernel started.
    time: f64,
    service: String,
    to: String,
}

fn events(vm: &mut Vm) -> Result<Vec<Event>> {
    let lines = vm.sh("service events -json")?;
    let event = |line: &str| {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let text = |key: &str| value[key].as_str().map(str::to_owned).with_context(|| line.to_owned());
        let time = value["time"].as_f64().with_context(|| line.to_owned())?;
        Ok(Event { time, service: text("service")?, to: text("to")? })
    };
    lines.lines().map(event).collect()
}

/// The numbers of what `talker` said, which have no gap from 1 on.
fn lines_of_talker<'a>(lines: impl Iterator<Item = &'a str>, before: &str) -> Result<usize> {
    let mut count = 0;
    for line in lines.filter_map(|line| line.split_once(before)) {
        count += 1;
        ensure!(line.1 == format!("line {count}"), "{line:?} where line {count} should be");
    }
    Ok(count)
}

#[test]
fn all_output_in_memory_and_in_files() -> Result<()> {
    let name = "example-logging";
    Vm::run(name, image("logging")?.machine(name)?, |vm| {
        vm.said("^000-hello: hello from onboot")?;
        running(vm, &["talker", "write-and-rotate-logs"])?;
        vm.until("grep -q 'line 3$' /var/log/talker.out.log")?;
        vm.check("memlogd has the lines of all", |vm| {
            let text = vm.sh("/usr/bin/logread")?;
            for line in [
                ";onboot.000-hello.out;hello from onboot",
                ";talker;this is standard error",
                ";talker.out;line 1",
            ] {
                let found = text.lines().filter(|found| found.ends_with(line)).count();
                ensure!(found == 1, "{found} times {line:?} in\n{text}");
            }
            ensure!(lines_of_talker(text.lines(), ";talker.out;")? >= 3, "{text}");
            Ok(())
        });
        vm.check("service logs asks memlogd", |vm| {
            let text = vm.sh("service logs talker")?;
            ensure!(text.lines().any(|line| line == "this is standard error"), "{text}");
            let numbers = text.lines().filter(|line| line.starts_with("line "));
            ensure!(lines_of_talker(numbers, "")? >= 3, "{text}");
            ensure!(vm.sh("service logs hello")? == "hello from onboot\n");
            let followed = vm.try_sh("timeout 15 service logs -f -n 1 talker")?.text;
            let lines: Vec<&str> = followed.lines().filter(|line| line.starts_with("line ")).collect();
            ensure!(lines.len() >= 2 && lines[0] != lines[1], "{followed}");
            Ok(())
        });
        vm.check("logwrite has the same lines in its files", |vm| {
            let files = vm.sh("cat /var/log/talker.log /var/log/talker.out.log")?;
            ensure!(lines_of_talker(files.lines(), "Z talker.out ")? >= 3, "{files}");
            // TIME;SOURCE;MSG there, TIME SOURCE MSG here, and only to the second.
            let memory = vm.sh("/usr/bin/logread")?;
            let known = |line: &str| {
                let (seconds, rest) = line.split_once("Z ")?;
                let tail = format!(";{}", rest.replacen(' ', ";", 1));
                memory.lines().find(|known| known.starts_with(seconds) && known.ends_with(&tail))
            };
            for line in files.lines() {
                ensure!(known(line).is_some(), "{line} is not in memory:\n{memory}");
            }
            let onboot = vm.sh("cat /var/log/onboot.000-hello.out.log")?;
            ensure!(onboot.ends_with("Z onboot.000-hello.out hello from onboot\n"), "{onboot}");
            Ok(())
        });
        vm.check("files are rotated, and no line is lost", |vm| {
            // Fewer than memlogd has, and more than two files hold.
            let said = vm.sh("/usr/bin/logwrite -n burst /bin/sh -c 'seq 4000' | tail -n 1")?;
            ensure!(said == "4000\n", "{said}");
            vm.until("grep -q ' 4000$' /var/log/burst.stdout.log")?;
            let text = vm.sh("cd /var/log; test -e burst.stdout.log.0; cat $(ls -r burst.stdout.log*) | sed 's/.* //' | tr '\\n' ' '")?;
            let numbers: Vec<u32> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            ensure!(numbers.iter().copied().eq(1..=4000), "{} lines: {text}", numbers.len());
            let sizes = vm.sh("stat -c '%s' /var/log/burst.stdout.log*")?;
            let sizes: Vec<u64> = sizes.lines().map(str::parse).collect::<Result<_, _>>()?;
            eprintln!("    4000 lines in files of {sizes:?} bytes");
            ensure!((2..=4).contains(&sizes.len()) && sizes.iter().all(|size| *size <= 65536), "{sizes:?}");
            Ok(())
        });
        power_off(vm)
    })
}
