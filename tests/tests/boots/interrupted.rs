// SPDX-License-Identifier: Apache-2.0
//! A boot that goes on where it was: what is to run once runs once, and how it
//! ended is known, whoever is killed meanwhile. Natively.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::image::Image;
use tests::inside::Inside;
use tests::native::{Native, run_native};
use tests::samples::{CONTAINERD, yaml};

/// A script and three containers, each with time to kill somebody in.
const BOOT: &str = "
onboot:
  - name: one
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo begin; sleep 4; echo end; exit 7']
  - name: two
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo begin; sleep 4; echo end; exit 8']
  - name: three
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo begin; sleep 4; echo end; exit 9']
  - name: four
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo begin; echo end']
services:
  - name: idle
    image: lkinit/busybox
    command: POLITE
files:
  - path: etc/init.d/003-slow
    mode: '0755'
    contents: |
      #!/bin/sh
      echo begin >>/var/log/slow
      sleep 3
      echo end >>/var/log/slow
      exit 5
";

/// Waits until a log has its first line, and kills programs then.
fn kill_when(inside: &mut Native, log: &str, programs: &str) -> Result<()> {
    let killed = inside.sh(&format!(
        "i=0; until grep -q begin {log} 2>/dev/null; do i=$((i+1)); test $i -lt 600; sleep 0.1; done
         kill -9 $(pidof {programs}) && cat {log}"
    ))?;
    ensure!(killed == "begin\n", "{log} was over before {programs} were killed: {killed}");
    Ok(())
}

/// `containerd`: what is killed of it, with a blank before; nothing where there is none.
fn once(inside: &mut Native, containerd: &str) -> Result<()> {
    kill_when(inside, "/var/log/slow", "rc.init")?;
    inside.expect("^lkinit: .*/003-slow: was started before rc was; waiting for its end")?;
    inside.expect("^lkinit: .*/003-slow: failed: exit status 5; the boot goes on")?;
    let onboot = "/run/log/onboot/onboot";
    kill_when(inside, &format!("{onboot}.000-one.out.log"), "rc.init")?;
    inside.expect("^lkinit: .* onboot 000-one: was started before rc was; waiting for its end")?;
    let failed =
        |name: &str, status: u8| format!("^lkinit: .* onboot {name}: failed: exit status {status} after");
    inside.expect(&failed("000-one", 7))?;
    if !containerd.is_empty() {
        kill_when(inside, &format!("{onboot}.001-two.out.log"), "containerd")?;
    }
    inside.expect(&failed("001-two", 8))?;
    kill_when(inside, &format!("{onboot}.002-three.out.log"), &format!("rc.init{containerd}"))?;
    // The next one is begun while this one is removed.
    inside.said(&failed("002-three", 9))?;
    inside.said("^lkinit: .* onboot 003-four: done in ")?;
    inside.expect("^lkinit: .* service idle: running")?;
    inside.expect("^lkinit: .* boot: done")?;
    let logs = inside.sh("cd /var/log; for log in slow onboot/*.out.log; do tr '\\n' ' ' <$log; done")?;
    ensure!(logs == "begin end ".repeat(5), "not each of them ran exactly once: {logs}");
    // It is kept for whoever asks later.
    let boot = inside.sh("service boot")?;
    for status in 7..=9 {
        ensure!(boot.contains(&format!("exit status {status}")), "no exit status {status} in\n{boot}");
    }
    Ok(())
}

#[test]
fn what_runs_once_runs_once_with_containerd() -> Result<()> {
    let image = Image::new(&yaml(CONTAINERD, BOOT))?;
    run_native("interrupted-containerd", &image, "", |inside| once(inside, " containerd"))
}

#[test]
fn what_runs_once_runs_once_with_the_runtime_alone() -> Result<()> {
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], BOOT))?;
    run_native("interrupted-direct", &image, "", |inside| {
        once(inside, "")?;
        followers_find_the_next_rc(inside)
    })
}

/// rc is killed when it has noted that a container is next, and nothing is made
/// of it yet; and when containerd is started, and its process not yet noted.
#[test]
fn what_was_only_begun_is_done() -> Result<()> {
    let image = Image::new(&yaml(CONTAINERD, BOOT))?;
    run_native("interrupted-begun", &image, "", |inside| {
        let log = "/run/log/onboot/onboot.000-one.out.log";
        inside.until(&format!("grep -q begin {log}"))?;
        inside.sh(
            "for name in 001-two 003-four; do echo onboot $name started >>/run/lkinit/progress; done
             rm /run/lkinit/containerd.pid; pidof containerd >/tmp/containerd
             kill -9 $(pidof rc.init)",
        )?;
        inside.expect("^lkinit: .* containerd: taking over process")?;
        inside.expect("^lkinit: .* onboot 001-two: failed: exit status 8 after")?;
        inside.expect("^lkinit: .* onboot 003-four: done in ")?;
        inside.expect("^lkinit: .* boot: done")?;
        inside.sh("pidof containerd | cmp - /tmp/containerd")?;
        let logs = inside.sh("cd /var/log; for log in onboot/*.out.log; do tr '\\n' ' ' <$log; done")?;
        ensure!(logs == "begin end ".repeat(4), "not each of them ran exactly once: {logs}");
        Ok(())
    })
}

/// Who follows events is told of what happened while there was no rc, once.
fn followers_find_the_next_rc(inside: &mut Native) -> Result<()> {
    inside.sh("service events -f -n1 -json >/tmp/events 2>/tmp/errors &")?;
    // With the last event that was before, it follows.
    inside.until("test -s /tmp/events")?;
    inside.sh("service restart idle")?;
    inside.sh("kill -9 $(pidof rc.init)")?;
    inside.expect("^lkinit: .* service idle: taken over")?;
    inside.sh("service restart idle")?;
    inside.until(
        "test $(tail -n +2 /tmp/events | grep -c '\"to\":\"running\"') -ge 3 && tail -n 1 /tmp/events | grep running",
    )?;
    let text = inside.sh("sleep 1; tail -n +2 /tmp/events")?;
    let changes: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let is = |change: &Value, who: &str, to: &str| change["service"] == who && change["to"] == to;
    let count = |who: &str, to: &str| changes.iter().filter(|change| is(change, who, to)).count();
    ensure!(count("rc.init", "running") == 1 && count("idle", "running") == 2, "{text}");
    ensure!(changes.last().is_some_and(|last| is(last, "idle", "running")), "{text}");
    let mut once = changes.clone();
    once.dedup();
    ensure!(once == changes, "told twice: {text}");
    let errors = inside.sh("cat /tmp/errors")?;
    ensure!(errors == "service: the supervisor has ended; waiting for the next one\n", "{errors}");
    Ok(())
}
