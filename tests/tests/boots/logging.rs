// SPDX-License-Identifier: Apache-2.0
//! What containers print: none of it is lost, none of it is too much.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::native::run_native;
use tests::samples::yaml;
use tests::vm::Vm;

/// Prints numbers as fast as the shell can, and says when it is told to end.
const COUNTER: &str = "n=0; trap 'echo last $n; exit 0' TERM; while :; do echo n $n; n=$((n+1)); done";

const SERVICES: &str = "
onboot:
  - name: flood
    image: lkinit/busybox
    command: [/bin/sh, -c, 'head -c 5000000 /dev/zero | tr \"\\\\0\" \"x\" | fold -w 99; echo the end of the flood']
    annotations:
      lkinit.log-size: 1M
services:
  - name: counter
    image: lkinit/busybox
    command: [/bin/sh, -c, \"COUNTER\"]
    annotations:
      lkinit.log-size: 40M
      lkinit.log-files: '20'
  - name: pace
    image: lkinit/busybox
    command: [/bin/sh, -c, 'n=0; while :; do echo n $n $(cut -d\" \" -f1 /proc/uptime); n=$((n+1)); sleep 0.2; done']
    annotations:
      lkinit.stop-timeout: 1s
  - name: flood
    image: lkinit/busybox
    command: [/bin/sh, -c, 'while ! test -e /run/go; do sleep 1; done; timeout 5 yes a line of a flood that is some sixty bytes long, which is usual; sleep 10000']
    binds: ['/run:/run']
    annotations:
      lkinit.stop-timeout: 1s
      lkinit.log-size: 3M
      lkinit.log-files: '4'
";

/// The numbers of all of a log's files, the oldest first.
fn numbers(vm: &mut Vm, name: &str) -> Result<Vec<u64>> {
    let older = format!("$(ls /var/log/{name}.out.log.* 2>/dev/null | sort -t. -k4 -nr)");
    let text = vm.sh(&format!("cat {older} /var/log/{name}.out.log | sed -n 's/^n //p'"))?;
    let number = |line: &str| line.split_whitespace().next()?.parse().ok();
    text.lines().map(|line| number(line).with_context(|| format!("the line {line:?}"))).collect()
}

fn every_number_once(numbers: &[u64]) -> Result<()> {
    for (expected, found) in (0..).zip(numbers) {
        ensure!(expected == *found, "{found} where {expected} should be");
    }
    Ok(())
}

/// What a process has on its heap, stacks and in variables, in KiB. Its
/// program's pages do not count: on a root in memory they are its own as soon
/// as they are used, as those that rotate a log are by the first flood.
fn anonymous_memory(vm: &mut Vm, process: &str) -> Result<u64> {
    let text = vm.sh(&format!("sed -n 's/^Anonymous: *//p' /proc/{process}/smaps_rollup"))?;
    Ok(text.split_whitespace().next().with_context(|| format!("no process {process}"))?.parse()?)
}

fn sizes(vm: &mut Vm, files: &str) -> Result<Vec<u64>> {
    let text = vm.sh(&format!("stat -c %s {files}"))?;
    text.lines().map(|line| Ok(line.trim().parse()?)).collect()
}

#[test]
fn kills_and_floods_lose_nothing_and_slow_nobody() -> Result<()> {
    let name = "logging-files";
    let init = ["lkinit/init", "lkinit/crun", "lkinit/containerd"];
    let image = Image::new(&yaml(&init, &SERVICES.replace("COUNTER", COUNTER)))?;
    Vm::run(name, image.machine(name)?, |vm| {
        vm.said("the end of the flood")?;
        for _ in 0..3 {
            vm.expect("^lkinit: .* service (counter|pace|flood): running")?;
        }
        vm.check("an onboot container's flood is capped, its end is shown", |vm| {
            let sizes = sizes(vm, "/run/log/onboot/onboot.000-flood.*")?;
            ensure!(sizes.iter().sum::<u64>() <= 1 << 20, "{sizes:?}");
            let last = vm.sh("tail -n 1 /var/log/onboot/onboot.000-flood.out.log")?;
            ensure!(last.ends_with("the end of the flood\n"), "{last}");
            Ok(())
        });
        vm.check("rc and containerd are killed", |vm| {
            for _ in 0..3 {
                vm.sh("kill -9 $(pidof rc.init) $(pidof containerd)")?;
                vm.expect("^lkinit: .* rc.init: started again")?;
                vm.expect("^lkinit: .* containerd: .* ready in")?;
                vm.expect("^lkinit: .* service counter: taken over")?;
            }
            let logger = vm.sh("pidof rc.logger")?;
            vm.sh(&format!("kill -9 {logger}"))?;
            vm.expect("^lkinit: .* logs: the logger ended: .*SIGKILL.*; starting it again")?;
            vm.sh("service stop counter")?;
            vm.until("tail -n 1 /var/log/counter.out.log | grep '^last '")?;
            let found = numbers(vm, "counter")?;
            every_number_once(&found)?;
            let last = vm.sh("tail -n 1 /var/log/counter.out.log")?;
            let last: u64 = last.trim().strip_prefix("last ").context(last.clone())?.parse()?;
            // The trap may run between printing a number and counting it.
            ensure!(
                found.len() as u64 >= last && found.len() as u64 <= last + 1,
                "{} of {last}",
                found.len()
            );
            eprintln!("    {} lines", found.len());
            Ok(())
        });
        vm.check("a flood beside a service", |vm| {
            let calm = vm.sh("{ grep -c ^n /var/log/pace.out.log; sleep 4; grep -c ^n /var/log/pace.out.log; }")?;
            let calm: Vec<usize> = calm.lines().map(str::parse).collect::<Result<_, _>>()?;
            let calm = calm[1] - calm[0];
            let before = anonymous_memory(vm, "$(pidof rc.init)")?;
            let logger = anonymous_memory(vm, "$(pidof rc.logger)")?;
            let begin = numbers(vm, "pace")?.len();
            vm.sh("touch /run/go; sleep 4")?;
            let after = anonymous_memory(vm, "$(pidof rc.init)")?;
            let logger_after = anonymous_memory(vm, "$(pidof rc.logger)")?;
            let found = numbers(vm, "pace")?;
            every_number_once(&found)?;
            let printed = found.len() - begin;
            // All of it is in its files when it is over; the logger takes what
            // waits in the pipe in no time.
            vm.sh("while pidof yes; do sleep 0.2; done; sleep 1")?;
            let sizes = sizes(vm, "/var/log/flood.*")?;
            eprintln!(
                "    {printed} lines in 4 s beside the flood, {calm} without; rc {before} -> {after} KiB, logger {logger} -> \
                 {logger_after} KiB; {sizes:?} bytes kept"
            );
            ensure!(after <= before + 128 && logger_after <= logger + 128, "memory grows");
            // Four files of 384 KiB: just after a rotation three of them are full.
            let sum = sizes.iter().sum::<u64>();
            ensure!(sizes.iter().all(|size| *size <= 3 << 17) && sum >= 1 << 20, "{sizes:?}: {sum}");
            // The flood has one of the two processors.
            ensure!(2 * printed >= calm, "only {printed} lines beside the flood, and {calm} without");
            Ok(())
        });
        vm.check("containerd's own log goes the same way", |vm| {
            ensure!(vm.sh("cat /var/log/containerd.log")?.contains("containerd"));
            let pipes = vm.sh("ls /run/lkinit/logs")?;
            let pipes: BTreeSet<&str> = pipes.split_whitespace().collect();
            ensure!(
                pipes.contains("daemon.containerd.err") && pipes.contains("service.pace.out"),
                "{pipes:?}"
            );
            ensure!(!pipes.iter().any(|pipe| pipe.starts_with("onboot.")), "{pipes:?}");
            Ok(())
        });
        vm.check("shutdown", |vm| {
            vm.try_sh("(sleep 1; poweroff) >/dev/null 2>&1 &")?;
            vm.wait_end().map(drop)
        });
        Ok(())
    })
}

const EXTERNAL: &str = "
onboot:
  - name: hello
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo hello from onboot; echo to stderr >&2']
services:
  - name: talker
    image: lkinit/busybox
    command: [/bin/sh, -c, \"COUNTER; sleep 0.1; done\"]
  - name: writer
    image: lkinit/logwrite
    command: [/usr/bin/logwrite, -max-log-size, '500', -max-log-files, '50']
";

/// rc has found the service, the logger is killed, and the service ends before
/// there is another: what it printed last waits in its pipe.
#[test]
fn what_is_in_a_pipe_waits_for_the_next_logger_natively() -> Result<()> {
    let services = "
services:
  - name: counter
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap \"echo last; exit 0\" TERM; while :; do echo n; sleep 0.1; done']
";
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], services))?;
    run_native("logging-held", &image, "", |inside| {
        inside.until("grep -q n /var/log/counter.out.log")?;
        inside.sh("kill -9 $(pidof rc.init)")?;
        inside.expect("^lkinit: .* service counter: taken over")?;
        inside.supervised()?;
        inside.sh("counter=$(service status | awk '$1 == \"counter\" { print $3 }'); rc=$(pidof rc.init)
             kill -STOP $rc; kill -9 $(pidof rc.logger); kill $counter
             while kill -0 $counter; do sleep 0.1; done 2>/dev/null; kill -CONT $rc")?;
        inside.until("tail -n 1 /var/log/counter.out.log | grep '^last$'").map(drop)
    })
}

/// The same with memlogd, and with the OCI runtime alone.
#[test]
fn memlogd_has_it_and_may_be_killed() -> Result<()> {
    let name = "logging-memlogd";
    let init = ["lkinit/init", "lkinit/crun", "lkinit/memlogd"];
    let counter = COUNTER.strip_suffix("; done").context(COUNTER)?;
    let image = Image::new(&yaml(&init, &EXTERNAL.replace("COUNTER", counter)))?;
    Vm::run(name, image.machine(name)?, |vm| {
        vm.check("onboot's output is on the console", |vm| {
            vm.said("^000-hello: hello from onboot")?;
            vm.said("^000-hello: to stderr").map(drop)
        });
        vm.expect("^lkinit: .* boot: done")?;
        vm.check("logread has it too", |vm| {
            for line in
                [";onboot.000-hello.out;hello from onboot", ";onboot.000-hello;to stderr", ";talker.out;n 3"]
            {
                vm.until(&format!("/usr/bin/logread | grep '{line}$'"))?;
            }
            Ok(())
        });
        vm.check("memlogd is killed, and comes back", |vm| {
            // What it has read and not yet told would be lost with it: it has told
            // all when it is stopped, and what comes then is still in the pipe.
            vm.sh(
                "talker=$(service status | awk '$1 == \"talker\" { print $3 }'); memlogd=$(pidof memlogd)
                 kill -STOP $talker; sleep 1; kill -STOP $memlogd; kill -CONT $talker; sleep 1; kill -9 $memlogd",
            )?;
            vm.expect("^lkinit: .* logs: the external logger no longer reads talker.out: .*fallback.log")?;
            vm.sh("sleep 2; /etc/init.d/002-logging")?;
            vm.expect("^lkinit: .* logs: the external logger reads talker.out again")?;
            vm.until("ls /var/log/talker.out.log.*")?;
            vm.sh("sleep 2; service stop talker")?;
            // Not all that was printed last is in the files at once.
            let all = "cat /var/log/talker.out.log* /var/log/talker.out.fallback.log | sed -n 's/^.*n //p' | sort -n";
            vm.until(&format!("{all} | awk '$1 != NR - 1 {{ exit 1 }}'"))?;
            let text = vm.sh(&format!("sleep 1; {all}"))?;
            let found = text.lines().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
            every_number_once(&found)?;
            let counts = vm.sh("cat /var/log/talker.out.fallback.log | wc -l; ls /var/log/talker.out.log.* | wc -l")?;
            eprintln!("    {} lines; in the fallback, and older files: {}", found.len(), counts.replace('\n', " "));
            ensure!(!counts.lines().any(|count| count.trim() == "0"), "{counts}");
            Ok(())
        });
        vm.check("shutdown", |vm| {
            vm.try_sh("(sleep 1; poweroff) >/dev/null 2>&1 &")?;
            vm.wait_end().map(drop)
        });
        Ok(())
    })
}

const FAILS: &str = "
services:
  - name: fails
    image: lkinit/busybox
    command: [/bin/sh, -c, 'sleep 1; echo one; echo the reason why; exit 3']
    annotations: {lkinit.restart-max: 1/1h}
  - name: slow
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo not ready yet; sleep 2; echo now ready; exec sleep 100000']
    annotations: {lkinit.ready: 'log:^now ready$'}
files:
  - path: etc/init.d/001-run
    mode: '0755'
    contents: |
      #!/bin/sh
      # A machine has this link; whoever starts a container may not.
      test -e /var/run || ln -s /run /var/run
";

/// A failure says what was printed last and where all of it is, and readiness
/// is found in what is printed: in files, and with an external logger.
#[test]
fn what_is_printed_is_looked_at_wherever_it_goes() -> Result<()> {
    let ready = r"service slow: ready after ([0-9.]+)s \(log:\^now ready\$\)";
    for (name, init, end) in [
        (
            "logging-native",
            &["lkinit/init", "lkinit/crun"][..],
            "; last output: \"one \\| the reason why\"; log: /var/log/fails.out.log",
        ),
        (
            "logging-native-memlogd",
            &["lkinit/init", "lkinit/crun", "lkinit/memlogd"][..],
            "; log: service logs fails",
        ),
    ] {
        run_native(name, &Image::new(&yaml(init, FAILS))?, "", |inside| {
            let took = inside.said(ready)?;
            ensure!(took[1].parse::<f64>()? >= 0.7, "taken for ready before it was: {took:?}");
            inside.said(&format!("^lkinit: .* service fails: failed: exit status 3; .*given up{end}$"))?;
            inside.until("service logs fails | tail -n 1 | grep '^the reason why$'").map(drop)
        })
        .context(name)?;
    }
    Ok(())
}
