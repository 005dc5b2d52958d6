// SPDX-License-Identifier: Apache-2.0
//! What is wrong with one thing is said in one line, and stops nothing that
//! does not depend on it.

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside as _;
use tests::samples::{CONTAINERD, TYPICAL, yaml};
use tests::vm::Vm;

const FAULTS: &str = "
onboot:
  - name: fails
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo the reason why; exit 3']
  - name: missing
    image: lkinit/busybox
    command: [/bin/nonesuch]
  - name: corrupt
    image: lkinit/busybox
    command: [/bin/true]
  - name: runtime
    image: lkinit/busybox
    command: [/bin/true]
  - name: last
    image: lkinit/busybox
    command: [/bin/echo, the last one ran]
services:
  - name: absent
    image: lkinit/busybox
    command: [/bin/nonesuch]
  - name: broken
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
  - name: listed
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
  - name: sound
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
files:
  - path: etc/init.d/050-fails
    contents: \"#!/bin/sh\\nexit 7\\n\"
    mode: '0755'
  - path: etc/init.d/060-noprogram
    contents: \"#!/bin/nonesuch\\n\"
    mode: '0755'
";

#[test]
fn a_fault_is_one_line_and_the_boot_goes_on() -> Result<()> {
    let name = "faults-bundles";
    let image = Image::new(&yaml(CONTAINERD, FAULTS))?.change(|root| {
        root.file("containers/onboot/002-corrupt/config.json", 0o644, "{\"ociVersion\": ")?;
        root.file("containers/onboot/003-runtime/runtime.json", 0o644, "{\"mkdir\": 7}")?;
        root.remove("containers/services/broken/config.json")?;
        root.file("containers/services/listed/runtime.json", 0o644, "{\"bindNS\": [\"/run/x\"]}")?;
        let modules = root.iter().map(|(path, _)| path.to_owned());
        let dep = modules.filter(|path| path.ends_with("/modules.dep")).collect::<Vec<_>>();
        let dep = dep.first().context("the image has no modules.dep")?;
        let good = match &root.get(dep).context("modules.dep")?.kind {
            pkg::tree::Kind::File(content) => content.read()?,
            other => anyhow::bail!("modules.dep is {other:?}"),
        };
        let mut bad = b"\xff\xfe no colon here\n".repeat(200);
        bad.extend_from_slice(&good);
        root.file(dep, 0o644, bad)
    })?;
    let machine = image.machine(name)?.qemu(&["-device", "virtio-rng-pci"]);
    let machine = machine.append("lkinit.engien=direct lkinit.log=loud linuxkit.runc_debug=maybe");
    Vm::run(name, machine, |vm| {
        vm.said("the last one ran")?;
        vm.expect("^lkinit: .* service sound: running")?;
        vm.expect("^lkinit: .* boot: done")?;
        let lines = [
            ("an exit status, with the last output", r"onboot 000-fails: failed: .*3.*the reason why"),
            ("a missing program", r"onboot 001-missing: .*nonesuch"),
            ("a corrupt config.json", r"/containers/onboot/002-corrupt/config\.json:1:\d+: "),
            ("a wrong runtime.json", r"/containers/onboot/003-runtime/runtime\.json:1:\d+: .*`7`"),
            ("a service's missing program", r"service absent: .*nonesuch"),
            ("a service without config.json", r"/containers/services/broken/config\.json"),
            ("a list for an object", r"/containers/services/listed/runtime\.json: bindNS: a list"),
            ("bad lines of modules.dep", r"/modules\.dep:1: .* 199 more of this file"),
            ("a misspelt word", r"kernel command line: lkinit\.engien=direct: no word of lkinit's"),
            ("a value without a meaning", r"kernel command line: lkinit\.log=loud: none of debug"),
            ("a switch that is neither", r"kernel command line: linuxkit\.runc_debug=maybe: neither 0 nor 1"),
            ("a script that fails", r"050-fails: .*7"),
            ("a script without its program", r"060-noprogram: "),
        ];
        // A line may come after what it is about, and a second one still later.
        for (what, expected) in lines {
            vm.check(what, |vm| vm.said(&format!("^lkinit: .*{expected}")).map(drop));
        }
        vm.sh("sleep 2")?;
        let text = vm.console().text();
        for (what, expected) in lines {
            vm.check(format!("{what}, once"), |_| {
                let regex = regex::Regex::new(expected)?;
                let found: Vec<_> =
                    text.lines().filter(|l| l.starts_with("lkinit: ") && regex.is_match(l)).collect();
                // A service is tried again, and says so.
                let once = found.len() == 1 || what.contains("service's");
                ensure!(once, "more than one line: {found:#?}");
                Ok(())
            });
        }
        vm.check("what is sound runs", |vm| {
            let tasks = vm.sh("ctr -n services.linuxkit tasks ls")?;
            ensure!(tasks.lines().any(|l| l.starts_with("sound") && l.contains("RUNNING")), "{tasks}");
            Ok(())
        });
        vm.check("modules are loaded in spite of a bad line", |vm| {
            ensure!(vm.sh("cat /proc/modules")?.contains("virtio_rng"));
            Ok(())
        });
        Ok(())
    })
}

#[test]
fn rc_and_containerd_killed_lose_no_service() -> Result<()> {
    let name = "faults-killed";
    Vm::run(name, Image::new(&yaml(CONTAINERD, TYPICAL))?.machine(name)?, |vm| {
        vm.expect("^lkinit: .* service (talker|sleeper): running")?;
        vm.expect("^lkinit: .* service (talker|sleeper): running")?;
        // A service runs a moment before what it starts.
        let sleepers = vm.until("test $(pidof sleep | wc -w) = 2 && pidof sleep")?;
        vm.check("rc", |vm| {
            let rc = vm.sh("pidof rc.init")?;
            vm.sh(&format!("kill -9 {rc}"))?;
            vm.expect("^lkinit: .* rc.init: started again")?;
            vm.expect("^lkinit: .* containerd: .* ready in")?;
            ensure!(vm.sh("pidof sleep")? == sleepers, "services were restarted");
            ensure!(vm.sh("pidof rc.init")? != rc);
            ensure!(vm.sh("service status")?.contains("sleeper"));
            Ok(())
        });
        vm.check("containerd", |vm| {
            let containerd = vm.sh("pidof containerd")?;
            vm.sh(&format!("kill -9 {containerd}"))?;
            vm.expect("^lkinit: .* containerd: ended with .*SIGKILL")?;
            vm.expect("^lkinit: .* containerd: .* ready in")?;
            ensure!(vm.sh("pidof sleep")? == sleepers, "services were restarted");
            ensure!(vm.sh("ctr -n services.linuxkit tasks ls")?.matches("RUNNING").count() == 2);
            Ok(())
        });
        vm.check("a service", |vm| {
            let task = vm.sh("ctr -n services.linuxkit tasks ls | grep sleeper")?;
            let pid = task.split_whitespace().nth(1).context(task.clone())?;
            vm.sh(&format!("kill -9 {pid}"))?;
            vm.expect("^lkinit: .* service sleeper: failed: .*SIGKILL")?;
            vm.expect("^lkinit: .* service sleeper: running")?;
            Ok(())
        });
        vm.check("shutdown after all that", |vm| {
            vm.try_sh("(sleep 1; poweroff) >/dev/null 2>&1 &")?;
            vm.expect("goodbye from onshutdown")?;
            vm.wait_end().map(drop)
        });
        Ok(())
    })
}
