// SPDX-License-Identifier: Apache-2.0
//! The `service` command on a booted machine: what it prints, its exit
//! statuses, and that it answers while containerd hangs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::control::Output;
use tests::image::Image;
use tests::inside::Inside as _;
use tests::samples::yaml;
use tests::vm::Vm;

/// containerd with crun, whose `exec` this is; boot.rs has runc's.
const INIT: &[&str] = &["lkinit/init", "lkinit/crun", "lkinit/containerd"];

const CONTAINERS: &str = "
onboot:
  - name: sysctl
    image: lkinit/sysctl
  - name: hello
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo hello from onboot; exit 3']
services:
  - name: talker
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap \"exit 0\" TERM; echo talker out $$; echo talker err >&2; sleep 100000 & wait']
  - name: late
    image: lkinit/busybox
    command: POLITE
    annotations:
      lkinit.after: talker
";

#[test]
fn the_service_command() -> Result<()> {
    let name = "service";
    let machine = Image::new(&yaml(INIT, CONTAINERS))?.machine(name)?;
    let machine = machine.qemu(&["-device", "virtio-rng-pci", "-device", "virtio-net-pci"]);
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* boot: done")?;
        vm.supervised()?;
        vm.check("status", status);
        vm.check("list", list);
        vm.check("names that are none", names);
        vm.check("the boot's record", record);
        vm.check("boot", boot);
        vm.check("logs", logs);
        vm.check("exec", exec);
        vm.check("exec with a terminal", terminal);
        vm.check("events", events);
        vm.check("old spellings", old_spellings);
        vm.check("completion", completion);
        vm.check("the plan", plan);
        vm.check("while containerd hangs", containerd_hangs);
        vm.check("while rc hangs", rc_hangs);
        vm.check("after rc was killed", rc_killed);
        Ok(())
    })
}

/// A command whose exit status is to be this one.
fn exits(vm: &mut Vm, status: i32, command: &str) -> Result<String> {
    let Output { status: found, text } = vm.try_sh(command)?;
    ensure!(found == status, "`{command}`: exit status {found}, not {status}: {text}");
    Ok(text)
}

fn json(vm: &mut Vm, command: &str) -> Result<Value> {
    let text = vm.sh(command)?;
    serde_json::from_str(&text).with_context(|| format!("`{command}`: {text}"))
}

fn contains(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    Ok(())
}

fn status(vm: &mut Vm) -> Result<()> {
    let text = vm.sh("service status")?;
    contains(&text, &["SERVICE", "talker", "running", "LAST EXIT", "\ncontainerd: 1."])?;
    ensure!(text.lines().all(|line| line.chars().count() <= 80) && !text.contains('\x1b'), "{text}");
    let text = exits(vm, 0, "service status talker late")?;
    contains(&text, &["talker\n", "state: running", "/var/log/talker.log", "set: lkinit.after=talker"])?;
    let value = json(vm, "service status -json talker")?;
    let talker = &value["services"][0];
    ensure!(value["supervisor"] == true && talker["name"] == "talker" && talker["ready"] == true, "{value}");
    let pid = talker["pid"].as_u64().context("no pid")?;
    contains(&vm.sh(&format!("cat /proc/{pid}/cmdline"))?, &["talker out"])?;
    vm.sh("service stop late")?;
    contains(&exits(vm, 3, "service status late")?, &["state: stopped"])?;
    exits(vm, 3, "service status -q talker late")?;
    vm.sh("service start late")?;
    exits(vm, 0, "service status -q late").map(drop)
}

fn list(vm: &mut Vm) -> Result<()> {
    let text = vm.sh("service list")?;
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    contains(line("000-sysctl"), &["onboot", "done"])?;
    contains(line("001-hello"), &["onboot", "failed: exit status 3"])?;
    contains(line("talker"), &["services", "running"])?;
    ensure!(vm.sh("service list -names")? == "late\ntalker\n");
    let value = json(vm, "service list --json")?;
    ensure!(value.as_array().is_some_and(|list| list.len() == 4), "{value}");
    ensure!(value[0]["bundle"] == "/containers/onboot/000-sysctl", "{value}");
    Ok(())
}

fn names(vm: &mut Vm) -> Result<()> {
    for verb in ["start", "stop", "restart", "status", "logs"] {
        let text = exits(vm, 4, &format!("service {verb} talkr"))?;
        contains(&text, &["no service \"talkr\"", "is it \"talker\"?"])?;
    }
    contains(&exits(vm, 2, "service statsu")?, &["unknown command", "is it \"status\"?"])?;
    exits(vm, 2, "service start -fast talker")?;
    exits(vm, 2, "service start")?;
    contains(&exits(vm, 125, "service exec talkr true")?, &["is it \"talker\"?"])?;
    contains(&vm.sh("service help; service exec -help")?, &["usage: service", "125"])
}

fn record(vm: &mut Vm) -> Result<()> {
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
        ("service late", "waiting"),
        ("service late", "start"),
        ("boot", "done"),
    ] {
        ensure!(ended(lane, step), "{lane}/{step} is missing in\n{record}");
    }
    Ok(())
}

fn boot(vm: &mut Vm) -> Result<()> {
    let text = vm.sh("service boot")?;
    contains(&text, &["The boot took", "* onboot 000-sysctl", "failed: exit status 3", "containerd start"])?;
    ensure!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let value = json(vm, "service boot -json")?;
    let done = value["done"].as_f64().context("not done")?;
    let steps = value["steps"].as_array().context("no steps")?;
    let critical = value["critical"].as_array().context("no path")?;
    let ids: Vec<&str> = critical.iter().filter_map(|piece| piece["id"].as_str()).collect();
    // late comes after talker, and both after the containers of onboot.
    for id in ["onboot 001-hello/run", "service talker/start", "service late/start", "boot/done"] {
        ensure!(ids.contains(&id), "{id} is not on the path {ids:?}");
    }
    ensure!(critical[0]["from"] == 0.0 && ids[0].starts_with("kernel/"), "{critical:?}");
    let order = |two: &[Value]| two[0]["to"].as_f64() <= two[1]["from"].as_f64();
    ensure!(critical.windows(2).all(order), "{critical:?}");
    let sum: f64 =
        critical.iter().filter_map(|piece| Some(piece["to"].as_f64()? - piece["from"].as_f64()?)).sum();
    eprintln!("  {} steps; the path explains {sum:.3} of {done:.3} s", steps.len());
    ensure!(sum > 0.8 * done, "the path explains {sum} of {done} s: {critical:?}");
    let svg = vm.sh("service boot -svg")?;
    std::fs::write(vm.folder().join("boot.svg"), &svg)?;
    ensure!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("<script"), "{svg}");
    contains(&svg, &["onboot 000-sysctl", "service late", "virtio_pci", "class=\"on\"", "class=\"failed\""])
}

fn logs(vm: &mut Vm) -> Result<()> {
    vm.until("test $(service logs talker | grep -c '^talker ') -ge 2")?;
    contains(&vm.sh("service logs talker")?, &["talker out ", "talker err\n"])?;
    for name in ["001-hello", "hello"] {
        ensure!(vm.sh(&format!("service logs {name}"))? == "hello from onboot\n");
    }
    let last = vm.sh("service logs -n 1 talker")?;
    ensure!(last.lines().count() == 2, "one line of each stream: {last}");
    vm.sh("service logs -f -n1 talker >/tmp/followed 2>&1 & echo $! >/tmp/follower")?;
    // With the last line of each stream, it follows.
    vm.until("test $(wc -l </tmp/followed) = 2")?;
    vm.sh("service restart talker")?;
    vm.until("test $(wc -l </tmp/followed) -ge 4")?;
    let followed = vm.sh("sleep 1; tail -n +3 /tmp/followed; kill $(cat /tmp/follower)")?;
    ensure!(followed.lines().count() == 2, "what it printed after the restart, once: {followed:?}");
    contains(&followed, &["talker out ", "talker err\n"])?;
    ensure!(vm.sh("service logs talker | head -n 1")?.lines().count() == 1);
    Ok(())
}

fn exec(vm: &mut Vm) -> Result<()> {
    exits(vm, 7, "service exec talker sh -c 'exit 7'")?;
    ensure!(vm.sh("service exec talker ls / -d")? == "/\n", "what follows is the command's own");
    contains(&vm.sh("service exec talker cat /proc/1/cmdline")?, &["talker out"])?;
    ensure!(vm.sh("echo a b | service exec talker cat")? == "a b\n");
    ensure!(vm.sh("service exec talker sh -c 'echo lost >&2' 2>/dev/null")?.is_empty());
    contains(&exits(vm, 255, "service exec talker nonesuch")?, &["nonesuch"])?;
    // A signal goes through, and the exit status comes back.
    let waits = "trap \"kill \\$!; exit 9\" TERM; sleep 4321 & wait";
    let waits = format!("service exec talker sh -c '{waits}' & pid=$!");
    let runs = "until ps | grep -q 'root  *sleep 4321$'; do sleep 0.2; done";
    exits(vm, 9, &format!("{waits}; {runs}; kill -TERM $pid; wait $pid"))?;
    ensure!(vm.try_sh("ps | grep -q 'root  *sleep 4321$'")?.status != 0, "{}", vm.sh("ps")?);
    vm.sh("service stop late")?;
    contains(&exits(vm, 125, "service exec late true")?, &["does not run"])?;
    vm.sh("service start late")?;
    exits(vm, 2, "service exec talker").map(drop)
}

fn terminal(vm: &mut Vm) -> Result<()> {
    // On the console, which is a terminal: this shell has it.
    vm.try_sh("setsid sh -c 'exec </dev/ttyS0 >/dev/ttyS0 2>&1; service exec talker sh -c \"tty; echo left \\$((40+2))\"' &")?;
    vm.expect_within(r"^/dev/pts/\d+", Duration::from_secs(60))?;
    vm.expect_within("^left 42", Duration::from_secs(60))?;
    vm.sh("service exec -T talker sh -c 'tty || true'").and_then(|text| contains(&text, &["not a tty"]))
}

fn events(vm: &mut Vm) -> Result<()> {
    let text = vm.sh("service events talker")?;
    contains(&text, &["talker: new -> ", "talker: starting -> "])?;
    let first = vm.sh("service events -json -n 1000 | head -n 1")?;
    let first: Value = serde_json::from_str(&first)?;
    ensure!(first["time"].is_f64() && first["service"].is_string(), "{first}");
    contains(&vm.sh("service events containerd")?, &["containerd: starting -> running (1."])?;
    ensure!(vm.sh("service events -n 3")?.lines().count() == 3);
    vm.sh("service events -f -n1 -json talker >/tmp/events & echo $! >/tmp/follower")?;
    vm.until("test -s /tmp/events")?;
    vm.sh("service restart talker")?;
    vm.until("tail -n +2 /tmp/events | tail -n 1 | grep '\"to\":\"running\"'")?;
    let followed = vm.sh("sleep 1; tail -n +2 /tmp/events; kill $(cat /tmp/follower)")?;
    let states: Vec<String> = followed
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["to"].as_str().unwrap_or_default().to_owned()))
        .collect::<Result<_>>()?;
    ensure!(states.first().is_some_and(|state| state == "stopping"), "{states:?}");
    ensure!(states.last().is_some_and(|state| state == "running"), "{states:?}");
    Ok(())
}

fn old_spellings(vm: &mut Vm) -> Result<()> {
    vm.sh("service -q stop talker")?;
    exits(vm, 3, "service -q status talker")?;
    ensure!(vm.sh("service -q --sock /run/containerd/containerd.sock start talker")?.is_empty());
    ensure!(vm.sh("service -v restart talker")? == "service: restart talker: done\n");
    vm.sh("service --containerd-namespace=services.linuxkit status")?;
    vm.sh("service start -path /containers/services -dump-spec /tmp/spec talker")?;
    let spec: Value = serde_json::from_str(&vm.sh("cat /tmp/spec")?)?;
    ensure!(spec["process"]["args"][0] == "/bin/sh", "{spec}");
    vm.sh("service system-init -sock /run/containerd/containerd.sock")?;
    vm.sh("ln -s /usr/bin/service /tmp/020-containerd && /tmp/020-containerd").map(drop)
}

fn completion(vm: &mut Vm) -> Result<()> {
    vm.sh("service completion bash | cmp - /usr/share/bash-completion/completions/service").map(drop)
}

fn plan(vm: &mut Vm) -> Result<()> {
    let plan = vm.sh("rc.init --plan")?;
    contains(&plan, &["mounts:", "services: containerd", "OCI runtime: /usr/bin/crun", "service late"])?;
    contains(
        &plan,
        &["insmod", "# lkinit.after=talker", "/etc/shutdown.d:", "start /usr/bin/containerd", "hostname "],
    )?;
    // The word forgotten: the one that is at work stays, and keeps its socket.
    let pid = vm.sh("pidof rc.init")?;
    let again = vm.try_sh("rc.init 2>&1")?;
    ensure!(again.status == 1 && again.text.starts_with("rc.init: there is one already"), "{}", again.text);
    ensure!(vm.sh("pidof rc.init; service status talker >/dev/null")? == pid);
    Ok(())
}

/// How long a command takes, by the clock of the machine, in seconds.
fn takes(vm: &mut Vm, command: &str) -> Result<f64> {
    let times = vm.sh(&format!(
        "cut -d ' ' -f 1 /proc/uptime; {command} >/dev/null 2>&1; cut -d ' ' -f 1 /proc/uptime"
    ))?;
    let times: Vec<f64> = times.lines().map(str::parse).collect::<Result<_, _>>()?;
    Ok(times[1] - times[0])
}

fn containerd_hangs(vm: &mut Vm) -> Result<()> {
    let before = takes(vm, "service status")?;
    vm.sh("kill -STOP $(pidof containerd)")?;
    let stopped = takes(vm, "service status")?;
    eprintln!("  service status: {before:.2} s, {stopped:.2} s while containerd is stopped");
    let text = vm.sh("service status")?;
    contains(&text, &["talker", "running", "is stopped"])?;
    exits(vm, 7, "service exec talker sh -c 'exit 7'")?;
    contains(&vm.sh("service logs talker")?, &["talker out "])?;
    contains(&vm.sh("service list; service events; service boot")?, &["talker", "The boot took"])?;
    vm.sh("kill -CONT $(pidof containerd)")?;
    // Where it waited it would be ten seconds.
    ensure!(stopped < before + 6.0, "it took {stopped} s, and {before} s before");
    // It answers again, within the 30 ms that it gets: not at once, under emulation.
    let again = "i=0; while service status | grep 'not answered'; do i=$((i+1)); [ $i -lt 40 ] || exit 1; sleep 0.5; done";
    vm.sh(again).map(drop)
}

fn rc_hangs(vm: &mut Vm) -> Result<()> {
    let pid = json(vm, "service status -json talker")?["services"][0]["pid"].clone();
    vm.sh("kill -STOP $(pidof rc.init)")?;
    let text = vm.try_sh("service status -json talker")?;
    let exec = vm.try_sh("service exec talker sh -c 'exit 7'");
    vm.sh("kill -CONT $(pidof rc.init)")?;
    contains(&text.text, &["does not answer"])?;
    let (_, value) = text.text.split_once('\n').context("no JSON")?;
    let value: Value = serde_json::from_str(value).context(value.to_owned())?;
    ensure!(value["supervisor"] == false && value["services"][0]["pid"] == pid, "{value}");
    ensure!(text.status == 0 && exec?.status == 7);
    Ok(())
}

fn rc_killed(vm: &mut Vm) -> Result<()> {
    vm.sh("kill -9 $(pidof rc.init)")?;
    vm.expect("^lkinit: .* rc.init: started again")?;
    vm.expect("^lkinit: .* containerd: .* ready in")?;
    let text = vm.sh("service events")?;
    contains(&text, &["talker: new -> ", "rc.init: ended -> running (started again)"])?;
    contains(&vm.sh("service boot")?, &["The boot took", "onboot 000-sysctl"])
}
