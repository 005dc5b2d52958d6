// SPDX-License-Identifier: Apache-2.0
//! Annotations in booted machines: readiness against real services, order,
//! health, giving up, and what takes the machine down.

use anyhow::{Context, Result, ensure};
use tests::console::excerpt;
use tests::image::Image;
use tests::inside::Inside;
use tests::machine::Machine;
use tests::native::run_native;
use tests::samples::yaml;
use tests::vm::Vm;

const DIRECT: &[&str] = &["lkinit/init", "lkinit/crun"];

/// Services that say what they do, and a step later what their annotations
/// wait for. Each sleeps in a way that SIGTERM ends at once.
const SERVICES: &str = "
onboot:
  - name: hangs
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo hanging; sleep 100000']
    annotations: {lkinit.timeout: 2s}
  - name: fails
    image: lkinit/busybox
    command: [/bin/false]
    annotations: {lkinit.on-failure: continue}
  - name: last
    image: lkinit/busybox
    command: [/bin/echo, the last one ran]
services:
  - name: file
    image: lkinit/busybox
    tmpfs: [/tmp]
    command: [/bin/sh, -c, 'sleep 2; mkdir -p /tmp/a/b; ln -s /tmp/a /tmp/link; sleep 1; : >/tmp/a/b/c; exec sleep 100000']
    annotations: {lkinit.ready: 'file:/tmp/link/b/c'}
  - name: unix
    image: lkinit/busybox
    command: [/bin/sh, -c, 'sleep 2; exec syslogd -n -O -']
    annotations: {lkinit.ready: 'unix:/dev/log', lkinit.after: hangs}
  - name: tcp-host
    image: lkinit/busybox
    net: host
    command: [/bin/sh, -c, 'sleep 2; exec httpd -f -p 127.0.0.1:8001 -h /etc']
    annotations: {lkinit.ready: 'tcp:127.0.0.1:8001', lkinit.healthcheck: 'tcp:localhost:8001', lkinit.healthcheck-interval: 1s}
  - name: tcp-own
    image: lkinit/busybox
    net: new
    command: [/bin/sh, -c, 'sleep 2; exec httpd -f -p 8002 -h /etc']
    annotations: {lkinit.ready: 'tcp:localhost:8002'}
  - name: log
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo not ready yet; sleep 2; echo now ready >&2; exec sleep 100000']
    annotations: {lkinit.ready: 'log:^now ready$'}
  - name: exec
    image: lkinit/busybox
    tmpfs: [/tmp]
    command: [/bin/sh, -c, 'sleep 2; : >/tmp/given; exec sleep 100000']
    annotations: {lkinit.ready: \"exec:/bin/sh -c 'test -e /tmp/given || { echo no /tmp/given; exit 1; }'\"}
  - name: never
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 1; done']
    annotations: {lkinit.ready: 'file:/never', lkinit.ready-timeout: 3s, lkinit.restart: 'no'}
  - name: flaky
    image: lkinit/busybox
    command: [/bin/sh, -c, 'exit 7']
    annotations: {lkinit.restart-max: 2/60s}
  - name: heir
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
    annotations: {lkinit.after: never, lkinit.stop-signal: KILL}
  - name: sick
    image: lkinit/busybox
    tmpfs: [/tmp]
    command: [/bin/sh, -c, 'trap \"exit 0\" TERM; : >/tmp/well; sleep 4; rm /tmp/well; while :; do sleep 1; done']
    annotations: {lkinit.ready: 'file:/tmp/well', lkinit.healthcheck: 'file:/tmp/well', lkinit.healthcheck-interval: 500ms, lkinit.healthcheck-retries: '2'}
  - name: round-a
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
    annotations: {lkinit.after: 'round-b, log', lkinit.stop-signal: KILL}
  - name: round-b
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
    annotations: {lkinit.after: 'round-a nobody', lkinit.stop-signal: KILL}
  - name: vital
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
    annotations: {lkinit.critical: reboot, lkinit.restart: 'no', lkinit.redy: started}
  - name: base
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap \"sleep 1; exit 0\" TERM; while :; do sleep 1; done']
    annotations: {lkinit.after: log}
  - name: middle
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap \"sleep 1; exit 0\" INT; trap : TERM; while :; do sleep 1; done']
    annotations: {lkinit.after: base, lkinit.stop-signal: INT}
  - name: top
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap : TERM; while :; do sleep 1; done']
    annotations: {lkinit.after: middle, lkinit.stop-timeout: 1s}
";

/// The same in namespaces of this kernel: all but the machine's end.
#[test]
fn every_annotation_natively() -> Result<()> {
    let image = Image::new(&yaml(DIRECT, SERVICES))?;
    let cmdline = "lkinit.engine=direct lkinit.shutdown-timeout=40s";
    run_native("supervision-native", &image, cmdline, |native| {
        native.expect("^lkinit: .* boot: done")?;
        wait_for_all(native)?;
        let text = native.console().text();
        onboot(&text)?;
        readiness(&text, 0.7)?;
        starts(&text)?;
        faults(&text)?;
        sickness(&text)?;
        states(native)?;
        native.sh("(sleep 1; rc.shutdown noop) >/dev/null 2>&1 &")?;
        native.expect("^lkinit: .* shutdown: noop now")?;
        native.said("service log: stopped")?;
        stops(&native.console().text())
    })
}

/// For machines: not every kernel has vsock_loopback.
const VSOCK: &str = "
  - name: vsock
    image: lkinit/vsudd
    net: host
    command: [/vsudd, -inport, '5000:unix:/run/nothing.sock']
    annotations: {lkinit.ready: 'vsock:5000'}
";

#[test]
fn every_annotation_does_what_it_says() -> Result<()> {
    let name = "supervision-direct";
    let all = format!("{SERVICES}{}", VSOCK.trim_start_matches('\n'));
    // Three of the services take their time to end, and so does emulation.
    let machine = Image::new(&yaml(DIRECT, &all))?.machine(name)?.append("lkinit.shutdown-timeout=40s");
    Vm::run(name, machine, |vm| {
        vm.said("the last one ran")?;
        vm.expect("^lkinit: .* boot: done")?;
        wait_for_all(vm)?;
        vm.said("service vsock: ready after ")?;
        let text = vm.console().text();
        vm.check("onboot", |_| onboot(&text));
        vm.check("every kind of readiness", |_| {
            // Under emulation rc may hear of the start when the second is over.
            readiness(&text, 0.0)?;
            place(&text, "service vsock: ready after ").map(drop)
        });
        vm.check("starts in order", |_| starts(&text));
        vm.check("faults in the order are told, and stop nobody else", |_| faults(&text));
        vm.check("an unhealthy service is started again", |_| sickness(&text));
        vm.check("states", states);
        vm.check("a critical service takes the machine down, in reverse order", |vm| {
            let pid = column(&vm.sh("service status")?, "vital", 2)?;
            vm.sh(&format!("kill -9 {pid}"))?;
            vm.expect("^lkinit: .* service vital: the machine cannot be without it: reboot")?;
            vm.wait_end()?;
            stops(&vm.console().text())
        });
        Ok(())
    })
}

/// Waits until the slow ones have come to their ends too, in whatever order.
fn wait_for_all(inside: &mut impl Inside) -> Result<()> {
    for ready in ["file", "unix", "tcp-host", "tcp-own", "log", "exec"] {
        inside.said(&format!("service {ready}: ready after "))?;
    }
    for line in [
        "onboot 000-hangs: failed: ",
        "onboot 001-fails: failed: ",
        "onboot 002-last: done in ",
        "service sick: failed: unhealthy",
        "service never: failed: not ready in time",
        "service flaky: .*given up",
        "service heir: running",
        "service round-a: running",
        "service round-b: running",
        "service top: running",
    ] {
        inside.said(line)?;
    }
    Ok(())
}

/// The line of lkinit that has this in it, by its place in the transcript.
fn place(text: &str, what: &str) -> Result<usize> {
    let found = text.lines().position(|line| line.starts_with("lkinit: ") && line.contains(what));
    let subject = what.split(':').next().unwrap_or(what);
    found.with_context(|| format!("no line of lkinit has {what:?}; there are\n{}", excerpt(text, subject)))
}

/// What hangs is killed, what fails is told, and the next one runs. The lines
/// of two may change places: a container's removal overlaps with the next one.
fn onboot(text: &str) -> Result<()> {
    place(text, "onboot 000-hangs: failed: did not end in time and was killed after ")?;
    place(text, "onboot 001-fails: failed: exit status 1 after ")?;
    place(text, "onboot 002-last: done in ").map(drop)
}

fn readiness(text: &str, least: f64) -> Result<()> {
    for (name, probe) in [
        ("file", "file:/tmp/link/b/c"),
        ("unix", "unix:/dev/log"),
        ("tcp-host", "tcp:127.0.0.1:8001"),
        ("tcp-own", "tcp:localhost:8002"),
        ("log", "log:^now ready$"),
        ("exec", "exec:/bin/sh -c"),
    ] {
        let running = place(text, &format!("service {name}: running"))?;
        let regex = regex::Regex::new(&format!(
            r"service {name}: ready after (\d+\.\d+)s \({}",
            regex::escape(probe)
        ))?;
        let subject = format!("service {name}:");
        let ready =
            regex.captures(text).with_context(|| format!("not ready:\n{}", excerpt(text, &subject)))?;
        let took: f64 = ready[1].parse()?;
        // It was not taken for ready before it could be.
        ensure!(took >= least, "{name} was ready after {took} s");
        ensure!(place(text, &format!("service {name}: ready"))? > running);
    }
    Ok(())
}

fn starts(text: &str) -> Result<()> {
    for (first, second) in [
        ("log: ready", "base: running"),
        ("log: ready", "round-a: running"),
        ("base: running", "middle: running"),
        ("middle: running", "top: running"),
        ("never: failed: not ready in time", "heir: comes after never, which has failed"),
        ("heir: comes after never", "heir: running"),
    ] {
        let order = (place(text, &format!("service {first}"))?, place(text, &format!("service {second}"))?);
        ensure!(order.0 < order.1, "{first} came after {second}:\n{}", excerpt(text, "service "));
    }
    Ok(())
}

fn faults(text: &str) -> Result<()> {
    place(text, "services: round-a after round-b after round-a (lkinit.after): they wait for each other")?;
    place(
        text,
        "service round-b: annotation lkinit.after: \"nobody\" is no service and no onboot container",
    )?;
    place(text, "service vital: annotation lkinit.redy: \"started\" is of a key that means nothing here")?;
    place(text, "service round-b: running")?;
    Ok(())
}

fn states(inside: &mut impl Inside) -> Result<()> {
    let status = inside.sh("service status")?;
    for (name, state) in [
        ("file", "running"),
        ("unix", "running"),
        ("tcp-own", "running"),
        ("never", "failed"),
        ("flaky", "given-up"),
        ("heir", "running"),
        ("top", "running"),
    ] {
        ensure!(column(&status, name, 1)? == state, "{name} is not {state}:\n{status}");
    }
    // Two restarts in the window, and no third.
    ensure!(column(&status, "flaky", 4)? == "2", "{status}");
    Ok(())
}

fn sickness(text: &str) -> Result<()> {
    let told = place(text, "service sick: unhealthy: /tmp/well: ")?;
    let stopped = place(text, "service sick: unhealthy too often: /tmp/well: ")?;
    let sick = || excerpt(text, "service sick:");
    ensure!(told < stopped, "{}", sick());
    // Stopping it went well, and still it is a failure.
    let failed = place(text, "service sick: failed: unhealthy: /tmp/well: ")?;
    ensure!(stopped < failed, "{}", sick());
    Ok(())
}

/// A column of `service status`.
fn column(status: &str, name: &str, column: usize) -> Result<String> {
    let row = status.lines().find(|line| line.split_whitespace().next() == Some(name));
    let row = row.with_context(|| format!("no {name} in\n{status}"))?;
    Ok(row.split_whitespace().nth(column).context("a short row")?.to_owned())
}

fn stops(text: &str) -> Result<()> {
    place(text, "service top: did not end in time: killing it")?;
    for (first, second) in [("top", "middle"), ("middle", "base"), ("base", "log")] {
        let stopped = |name: &str| place(text, &format!("service {name}: stopped"));
        ensure!(
            stopped(first)? < stopped(second)?,
            "{first} was stopped after {second}:\n{}",
            excerpt(text, "stopped")
        );
    }
    Ok(())
}

const BY_CONTAINERD: &str = "
services:
  - name: log
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo not ready yet; sleep 1; echo now ready; exec sleep 100000']
    annotations: {lkinit.ready: 'log:^now ready$'}
  - name: exec
    image: lkinit/busybox
    tmpfs: [/tmp]
    command: [/bin/sh, -c, 'sleep 1; : >/tmp/given; exec sleep 100000']
    annotations: {lkinit.ready: 'exec:/bin/test -e /tmp/given', lkinit.after: log, lkinit.healthcheck: 'exec:/bin/test -e /tmp/given', lkinit.healthcheck-interval: 10s}
";

#[test]
fn readiness_by_containerd() -> Result<()> {
    let name = "supervision-containerd";
    let init = ["lkinit/init", "lkinit/runc", "lkinit/containerd"];
    Vm::run(name, Image::new(&yaml(&init, BY_CONTAINERD))?.machine(name)?, |vm| {
        vm.expect(r"^lkinit: .* service log: ready after .*log:\^now ready")?;
        vm.expect("^lkinit: .* service exec: running")?;
        vm.expect("^lkinit: .* service exec: ready after .*exec:/bin/test")?;
        vm.check("rc that is killed meanwhile", |vm| {
            let sleepers = vm.until("test $(pidof sleep | wc -w) = 2 && pidof sleep")?;
            vm.sh("kill -9 $(pidof rc.init)")?;
            vm.expect("^lkinit: .* rc.init: started again")?;
            vm.expect("^lkinit: .* service (log|exec): taken over")?;
            vm.expect("^lkinit: .* service (log|exec): taken over")?;
            // Health checks go on, and find it well.
            vm.sh("sleep 12")?;
            let status = vm.sh("service status")?;
            for name in ["log", "exec"] {
                ensure!(column(&status, name, 1)? == "running", "{status}");
            }
            ensure!(vm.sh("pidof sleep")? == sleepers, "services were restarted");
            Ok(())
        });
        Ok(())
    })
}

/// A machine whose first onboot container fails, with `what` to follow; `rest`
/// comes after it.
fn failing(name: &str, what: &str, rest: &str) -> Result<Machine> {
    let onboot = format!(
        "onboot:
  - name: fails
    image: lkinit/busybox
    command: [/bin/false]
    annotations: {{lkinit.on-failure: {what}}}
{rest}"
    );
    Image::new(&yaml(DIRECT, &onboot))?.machine(name)
}

const MISSING: &str = "  - name: missing
    image: lkinit/busybox
    command: [/bin/nonesuch]
    annotations: {lkinit.on-failure: reboot}
  - name: last
    image: lkinit/busybox
    command: [/bin/echo, the last one ran]
";

#[test]
fn a_failed_onboot_container_asks_for_a_shell_or_reboots() -> Result<()> {
    let name = "supervision-reboot";
    Vm::run(name, failing(name, "shell", MISSING)?, |vm| {
        vm.expect("^lkinit: .* onboot 000-fails: failed: exit status 1.*shell")?;
        vm.expect(r"\(lkinit\) .*# ")?;
        vm.send("echo shell is $((40 + 2))\n")?;
        vm.expect("shell is 42")?;
        // Not in one line: what the terminal still has to send when the shell
        // ends is lost with it.
        vm.send("exit\n")?;
        vm.expect("^lkinit: .* onboot 001-missing: failed to start: .*reboot")?;
        vm.wait_end()?;
        let text = vm.console().text();
        ensure!(text.contains("shutdown: reboot now"), "{}", excerpt(&text, "shutdown"));
        ensure!(!text.contains("the last one ran"), "the boot went on:\n{}", excerpt(&text, "onboot"));
        Ok(())
    })
}

#[test]
fn a_failed_onboot_container_halts() -> Result<()> {
    let name = "supervision-halt";
    Vm::run(name, failing(name, "halt", "")?, |vm| {
        vm.expect("^lkinit: .* onboot 000-fails: failed: exit status 1.*halt")?;
        vm.expect("reboot: System halted").map(drop)
    })
}
