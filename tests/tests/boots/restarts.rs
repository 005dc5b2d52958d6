// SPDX-License-Identifier: Apache-2.0
//! rc does not grow, however often it starts something again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside;
use tests::native::{Native, run_native};
use tests::picture::memory;
use tests::samples::yaml;

/// Two services that end at once and are started again at once. One is never
/// ready: whoever starts it gives up waiting, and its time to be ready is over
/// with its process.
const QUICK: &str = "
services:
  - name: quick
    image: lkinit/busybox
    command: [/bin/true]
    annotations: {lkinit.restart: always, lkinit.restart-delay: '0'}
  - name: fails
    image: lkinit/busybox
    command: [/bin/false]
    annotations: {lkinit.restart: always, lkinit.restart-delay: '0', lkinit.ready: 'file:/nonesuch', lkinit.ready-timeout: 1h}
";

/// How many restarts; `LKINIT_RESTARTS` says otherwise.
fn count() -> u64 {
    let asked = std::env::var("LKINIT_RESTARTS").ok().and_then(|text| text.parse().ok());
    let count = asked.unwrap_or(400);
    eprintln!("  {count} restarts");
    count
}

/// How often services have been started again.
fn restarts(inside: &mut Native) -> Result<u64> {
    let status = inside.sh("service status")?;
    let numbers = status.lines().filter(|line| line.starts_with("quick ") || line.starts_with("fails "));
    let mut sum = 0;
    for line in numbers {
        sum += line.split_whitespace().nth(4).context(line.to_owned())?.parse::<u64>()?;
    }
    Ok(sum)
}

fn until(inside: &mut Native, wanted: u64) -> Result<()> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let now = restarts(inside)?;
        if now >= wanted {
            return Ok(());
        }
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        ensure!(moved.elapsed() < Duration::from_secs(60), "no restart for a minute, after {now}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn rc_does_not_grow() -> Result<()> {
    let name = "restarts";
    let count = count();
    run_native(name, &Image::new(&yaml(&["lkinit/init", "lkinit/crun"], QUICK))?, "", |inside| {
        let start = Instant::now();
        let descriptors = "ls /proc/$(pidof rc.init)/fd | wc -l";
        let rest = |inside: &mut Native| -> Result<_> {
            inside.sh("service stop quick; service stop fails")?;
            Ok((memory(inside)?, inside.sh(descriptors)?))
        };
        // By then the last changes of state that rc keeps (256) are as many as
        // there will ever be.
        let begun = (count / 10).max(150);
        until(inside, begun)?;
        let (before, fds_before) = rest(inside)?;
        inside.sh("service start quick; timeout 1 service start fails || true")?;
        until(inside, count)?;
        let took = start.elapsed();
        let (after, fds_after) = rest(inside)?;
        eprintln!(
            "  after {begun} and after {count} restarts, in {:.0} s: {before:?} and {after:?} KiB",
            took.as_secs_f64()
        );
        ensure!(after.anonymous <= before.anonymous + 64, "{before:?} became {after:?} KiB");
        ensure!(fds_before == fds_after, "descriptors: {fds_before} became {fds_after}");
        Ok(())
    })
}
