// SPDX-License-Identifier: Apache-2.0
//! Who calls `service` may go before it has answered, and may ask for odd
//! things. Natively.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside;
use tests::native::{Native, run_native};
use tests::samples::yaml;

const SERVICES: &str = "
services:
  - name: talker
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo first; echo second; exec sleep 100000']
  - name: once
    image: lkinit/busybox
    command: [/bin/true]
  - name: never
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
    annotations: {lkinit.ready: \"exec:/bin/sh -c 'printf \\\"\\\\033[31mred\\\"; exit 1'\", lkinit.ready-timeout: '0'}
  - name: forgotten
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap : TERM; while :; do sleep 1; done']
    annotations: {lkinit.stop-timeout: 1s}
";

/// A command whose exit status is to be this one; what it prints.
fn exits(inside: &mut Native, status: i32, command: &str) -> Result<String> {
    let found = inside.try_sh(command)?;
    ensure!(
        found.status == status,
        "`{command}`: exit status {}, not {status}: {}",
        found.status,
        found.text
    );
    Ok(found.text)
}

#[test]
fn whoever_calls_is_told_or_let_go() -> Result<()> {
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], SERVICES))?;
    run_native("callers", &image, "", |inside| {
        for name in ["talker", "never", "forgotten", "once"] {
            inside.said(&format!("^lkinit: .* service {name}: running"))?;
        }
        readers_that_go(inside).context("readers that go")?;
        callers_that_go(inside).context("callers that go")?;
        odd_names(inside).context("odd names")?;
        a_service_that_is_soon_over(inside).context("a service that is soon over")?;
        strange_words(inside).context("strange words")?;
        a_container_that_the_runtime_has_forgotten(inside).context("forgotten by the runtime")
    })
}

/// The reader of a pipe has seen enough: the program before it ends at once,
/// also when there is nothing more to print, and never by a panic.
fn readers_that_go(inside: &mut Native) -> Result<()> {
    for (command, status) in [
        ("service logs -f talker", 141),
        ("service events -f", 141),
        ("rc.init --plan", 141),
        ("service status", 141),
        // What it has to say is on standard error.
        ("service start nonesuch 2>&1", 4),
    ] {
        // `true` ends while the program sleeps: its reader is gone then.
        let line = format!("(sleep 1; {command}; echo $? >/tmp/status) | true; sleep 0.5");
        let begin = Instant::now();
        inside.sh(&format!("rm -f /tmp/status; {line}"))?;
        let told = inside.until("cat /tmp/status").context(command)?;
        ensure!(told.trim() == status.to_string(), "`{command}` in a pipe, {:?}: {told}", begin.elapsed());
    }
    let begin = Instant::now();
    inside.sh("service logs -f talker | grep -m 1 second")?;
    ensure!(begin.elapsed() < Duration::from_secs(60), "it waited for {:?}", begin.elapsed());
    Ok(())
}

/// Who gives up waiting leaves no descriptor behind in rc.
fn callers_that_go(inside: &mut Native) -> Result<()> {
    let descriptors = "ls /proc/$(pidof rc.init)/fd | wc -l";
    let count = |text: String| -> Result<usize> { Ok(text.trim().parse()?) };
    let before = count(inside.sh(descriptors)?)?;
    inside.sh("for i in 1 2 3 4 5 6 7 8; do timeout 0.2 service start never; done; true")?;
    // A check of its own may be under way.
    inside.until(&format!("test $({descriptors}) -lt {}", before + 8)).map(drop)
}

fn odd_names(inside: &mut Native) -> Result<()> {
    inside.sh("mkdir -p '/containers/services/a b'")?;
    for verb in ["start", "stop", "restart"] {
        for name in [".", "..", "''", "../services", "'a b'", "talker/"] {
            let text = exits(inside, 4, &format!("service {verb} {name}"))?;
            ensure!(text.contains("no service"), "{text}");
        }
    }
    let console = inside.console().text();
    ensure!(!console.contains("is left out"), "somebody's slip is on the console");
    let turned = exits(inside, 2, "service talker restart")?;
    ensure!(turned.contains("is it \"restart talker\"?"), "{turned}");
    Ok(())
}

/// A start is done when the process runs, whatever becomes of it then.
fn a_service_that_is_soon_over(inside: &mut Native) -> Result<()> {
    inside.sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do service start once || exit; done").map(drop)
}

/// What a container says has no way to the terminal of whoever looks.
fn strange_words(inside: &mut Native) -> Result<()> {
    let status = inside.until("service status | grep red")?;
    ensure!(status.contains("[31mred") && !status.contains('\x1b'), "{status:?}");
    Ok(())
}

/// The runtime has lost what it knows of a container: its process is killed all the same.
fn a_container_that_the_runtime_has_forgotten(inside: &mut Native) -> Result<()> {
    let process = inside.sh("cut -d ' ' -f 1 /run/lkinit/direct/services.linuxkit/forgotten.pid")?;
    inside.sh("rm -r /run/lkinit/direct/services.linuxkit/state/forgotten")?;
    exits(inside, 0, "timeout 20 service stop forgotten")?;
    exits(inside, 1, &format!("kill -0 {}", process.trim())).map(drop)
}
