// SPDX-License-Identifier: Apache-2.0
//! The harness itself: that it sees what a machine does, and that a machine
//! that does not do it is never taken for one that does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::image::bare;
use tests::vm::Vm;

/// Prepares a machine for commands, then `more`.
fn script(more: &str) -> String {
    format!(
        "#!/bin/sh\n\
         mount -t devtmpfs dev /dev\nmount -t proc proc /proc\nmount -t tmpfs run /run\n\
         /etc/init.d/000-control\necho bare: up\n{more}\n"
    )
}

const SHELL: &str = "exec sh </dev/console >/dev/console 2>&1";

/// The message of a run that must fail.
fn failure(result: Result<()>) -> String {
    format!("{:#}", result.expect_err("this machine's test has to fail"))
}

#[test]
fn commands_input_and_restarts() -> Result<()> {
    let name = "harness-commands";
    Vm::run(name, bare(name, &script(SHELL))?.reboots(), |vm| {
        vm.expect("bare: up")?;
        ensure!(vm.sh("echo hello; echo there >&2")? == "hello\nthere\n");
        ensure!(vm.try_sh("exit 7")?.status == 7);
        let failed = vm.sh("echo why; false").expect_err("it has exit status 1").to_string();
        ensure!(failed.contains("exit status 1") && failed.contains("why"), "{failed}");
        let long = vm.sh("yes 0123456789 | head -n 5000")?;
        ensure!(long.lines().count() == 5000 && long.lines().all(|line| line == "0123456789"));
        vm.send("echo $((6 * 7))\n")?;
        vm.expect("^42$")?;
        vm.send("echo b >/proc/sysrq-trigger\n")?;
        vm.expect_restart()?;
        vm.expect("bare: up")?;
        ensure!(vm.sh("cat /proc/cmdline")?.contains("console=ttyS0"));
        Ok(())
    })
}

#[test]
fn a_panic_fails_the_test_at_once_and_says_all() -> Result<()> {
    let name = "harness-panic";
    let mut start = Instant::now();
    let said = failure(Vm::run(name, bare(name, &script("sleep 1; exit 1"))?, |vm| {
        vm.expect("bare: up")?;
        start = Instant::now();
        vm.expect_within("this never comes", Duration::from_secs(3600))?;
        Ok(())
    }));
    ensure!(start.elapsed() < Duration::from_secs(600), "it waited for the deadline");
    ensure!(said.contains("Kernel panic - not syncing"), "{said}");
    ensure!(said.contains("tests/harness-panic/transcript"), "{said}");
    ensure!(said.contains("] bare: up"), "no end of the transcript: {said}");
    ensure!(
        said.contains(
            "cargo test -p tests --test boots -- --exact harness::a_panic_fails_the_test_at_once_and_says_all"
        ),
        "no command to repeat it: {said}"
    );
    ensure!(said.contains("by hand: qemu-system-x86_64"), "{said}");
    Ok(())
}

#[test]
fn silence_an_early_end_and_a_failed_check_fail_the_test() -> Result<()> {
    let name = "harness-silence";
    let end = "sleep 5\necho o >/proc/sysrq-trigger\nsleep 100";
    let said = failure(Vm::run(name, bare(name, &script(end))?, |vm| {
        vm.expect("bare: up")?;
        vm.check("silence", |vm| vm.expect_within("this never comes", Duration::from_secs(1)).map(drop));
        vm.check("end", |vm| vm.expect("nor does this").map(drop));
        Ok(())
    }));
    ensure!(said.contains("silence: /this never comes/ did not come within 1s"), "{said}");
    ensure!(said.contains("end: the machine ended before /nor does this/ came"), "{said}");
    Ok(())
}

#[test]
fn a_machine_that_was_not_looked_at_fails_the_test() -> Result<()> {
    let name = "harness-unseen";
    let machine = || bare(name, &script(SHELL));
    let said = failure(Vm::run(name, machine()?, |_| Ok(())));
    ensure!(said.contains("saw nothing"), "{said}");
    let wrong = machine()?.qemu(&["-device", "no-such-device"]);
    let said = failure(Vm::run(name, wrong, |vm| vm.expect("Linux version").map(drop)));
    ensure!(said.contains("no-such-device"), "QEMU's own message is missing: {said}");
    Ok(())
}
