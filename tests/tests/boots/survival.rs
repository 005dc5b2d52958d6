// SPDX-License-Identifier: Apache-2.0
//! The example with everything on a disk, through reboots and power cuts.
//!
//! `LKINIT_SOAK=20` makes it 20 of each (`make soak`); without it there are few,
//! so that it can be part of every run. `LKINIT_SEED` repeats a run's moments.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use tests::examples::image;
use tests::machine::Machine;
use tests::paths;
use tests::vm::Vm;

/// How many reboots, and how many power cuts.
fn rounds(few: usize) -> Result<usize> {
    std::env::var("LKINIT_SOAK").map_or(Ok(few), |count| count.parse().context("LKINIT_SOAK"))
}

/// Moments that can be had again: xorshift64*.
struct Moments(u64);

impl Moments {
    fn new() -> Result<Self> {
        let seed: u64 = match std::env::var("LKINIT_SEED") {
            Ok(seed) => seed.parse().context("LKINIT_SEED")?,
            Err(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos().into(),
        };
        eprintln!("  LKINIT_SEED={seed} repeats these moments");
        Ok(Self(seed | 1 << 63))
    }

    /// A time before `end`.
    fn before(&mut self, end: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        end.mul_f64((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

fn disk(name: &str) -> Result<PathBuf> {
    let folder = paths::target().join("tests");
    fs::create_dir_all(&folder)?;
    let path = folder.canonicalize()?.join(format!("{name}.img"));
    File::create(&path)?.set_len(512 << 20)?;
    Ok(path)
}

/// The counter writes to the console too, so that what it says is seen here at
/// the moment it is true: a log would be on the disk that loses its power.
fn machine(name: &str, disk: &Path) -> Result<Machine> {
    let image = image("persistent-disk")?.change(|root| {
        root.file(
            "etc/init.d/030-tell",
            0o755,
            "#!/bin/sh\n\
             # Behind services: a line for each number that is on the disk.\n\
             (while ! [ -e /var/lib/log/counter.out.log ]; do sleep 1; done\n\
             exec tail -n 0 -F /var/lib/log/counter.out.log) >/dev/console 2>/dev/null &\n",
        )
    })?;
    Ok(image.machine(name)?.disk(disk))
}

/// The last number that the counter said is on the disk.
fn last_said(vm: &Vm) -> u64 {
    let text = vm.console().text();
    let numbers = text.lines().filter_map(|line| line.split("on the disk: ").nth(1)?.trim().parse().ok());
    numbers.max().unwrap_or(0)
}

/// The disk as the services find it: what is meant to be on it is on it, and
/// the counter's numbers have no gap up to the last one it `said`.
fn inspect(vm: &mut Vm, said: u64) -> Result<u64> {
    let mounts = vm.sh("grep ' /var/l' /proc/mounts")?;
    ensure!(mounts.contains("/dev/vda1 /var/lib ext4 rw"), "{mounts}");
    ensure!(mounts.contains("/dev/vda1 /var/log ext4 rw"), "{mounts}");
    let held = vm.sh("set -- $(pidof containerd); ls -l /proc/$1/fd")?;
    ensure!(held.contains("/var/lib/containerd/"), "containerd is not on the disk:\n{held}");
    ensure!(vm.sh("ctr -n services.linuxkit tasks ls")?.contains("RUNNING"), "the counter does not run");
    ensure!(!vm.sh("cat /var/log/counter.out.log")?.is_empty(), "the log is empty");
    let numbers = vm.sh("cat /var/lib/counter/numbers | tr '\\n' ' '")?;
    let numbers: Vec<u64> =
        numbers.split_whitespace().map(|n| n.parse().context(n.to_owned())).collect::<Result<_>>()?;
    ensure!(numbers.iter().copied().eq(1..=numbers.len() as u64), "a gap in {numbers:?}");
    let last = numbers.len() as u64;
    ensure!(last >= said, "{said} was said to be on the disk, and it ends with {last}");
    Ok(last)
}

#[test]
fn a_disk_survives_reboots() -> Result<()> {
    let name = "survival-reboots";
    let (disk, reboots) = (disk(name)?, rounds(1)?);
    eprintln!("{reboots} reboots; LKINIT_SOAK makes it another number");
    Vm::run(name, machine(name, &disk)?.reboots(), |vm| {
        let mut last = 0;
        for boot in 0..=reboots {
            vm.expect("^lkinit: .* onboot 001-mount: done in")?;
            if boot > 0 {
                // It was unmounted, so there is nothing to repair.
                let found = vm.expect(r"001-mount: +(\S+: clean,.*|.*recovering journal)")?;
                ensure!(found[1].contains("clean"), "after reboot {boot}: {}", found[1]);
            }
            vm.expect("^lkinit: .* service counter: running")?;
            vm.expect("on the disk: ")?;
            let now = inspect(vm, last.max(last_said(vm)))?;
            ensure!(now > last, "boot {boot} wrote nothing: {last}, {now}");
            last = now;
            if boot < reboots {
                vm.try_sh("(sleep 1; reboot) >/dev/null 2>&1 &")?;
                vm.expect("^lkinit: .* shutdown: reboot now")?;
                vm.expect_restart()?;
            }
        }
        eprintln!("  {reboots} reboots: {last} numbers, none lost");
        Ok(())
    })?;
    Ok(fs::remove_file(disk)?)
}

/// The power goes at any moment from the start of /init to some time after
/// the service runs: while the disk is formatted, checked, mounted, written.
#[test]
fn a_disk_survives_power_cuts() -> Result<()> {
    let name = "survival-power-cuts";
    let (disk, cuts) = (disk(name)?, rounds(2)?);
    let mut moments = Moments::new()?;
    eprintln!("{cuts} power cuts; LKINIT_SOAK makes it another number");
    // How long a boot takes here, until one has shown that it is longer.
    let mut whole = Duration::from_secs(20);
    let (mut said, mut stages) = (0, BTreeSet::new());
    for cut in 0..=cuts {
        let machine = machine(name, &disk)?.keep();
        let last = cut == cuts;
        let moment = moments.before(whole.mul_f64(1.3));
        Vm::run(name, machine, |vm| {
            vm.expect("Run /init as init process")?;
            let start = Instant::now();
            if last {
                vm.expect("^lkinit: .* service counter: running")?;
                vm.expect("on the disk: ")?;
                said = inspect(vm, said.max(last_said(vm)))?;
                return Ok(());
            }
            thread::sleep(moment);
            // The machine is killed when this returns.
            said = said.max(last_said(vm));
            let text = vm.console().text();
            if text.contains("service counter: running") {
                whole = whole.max(start.elapsed());
            }
            let ours = text.lines().rev().find(|line| line.starts_with("lkinit: "));
            let stage = ours.and_then(|line| Some(line.split_once("] ")?.1)).unwrap_or("before lkinit");
            eprintln!("  cut {} after {:.1} s: {stage}", cut + 1, moment.as_secs_f64());
            stages.insert(stage.split(':').next().unwrap_or_default().to_owned());
            Ok(())
        })?;
    }
    eprintln!("  {cuts} power cuts, in {} stages: {said} numbers, none lost", stages.len());
    Ok(fs::remove_file(disk)?)
}
