// SPDX-License-Identifier: Apache-2.0
//! `make bench`: boots one image several times in each configuration, prints
//! what the boots spent their time on and writes it to `target/bench`. The
//! configurations take turns, so that a machine that gets slower or faster
//! meanwhile does so for each of them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::bench::{REFERENCE, Run, Series, ZERO, table};
use tests::control;
use tests::image::Image;
use tests::machine::Machine;
use tests::paths;
use tests::slots::Slot;
use tests::vm::Vm;

/// One way to boot the image, and how many times as fast as the reference the
/// last service is to run.
struct Configuration {
    name: &'static str,
    /// Images besides init, runc and containerd.
    init: &'static [&'static str],
    append: &'static str,
    goal: Option<f64>,
}

/// The goals are those of docs/benchmarks.md, over the 16.7 s that LinuxKit's
/// own init took where they were set.
const CONFIGURATIONS: &[Configuration] = &[
    Configuration { name: REFERENCE, init: &[], append: "", goal: None },
    Configuration { name: "containerd-runc", init: &[], append: "", goal: Some(16.7 / 12.5) },
    Configuration { name: "containerd-crun", init: &["lkinit/crun"], append: "", goal: Some(16.7 / 10.0) },
    Configuration {
        name: "direct-onboot",
        init: &["lkinit/crun"],
        append: "lkinit.engine=direct-onboot",
        goal: Some(16.7 / 6.5),
    },
    Configuration {
        name: "direct",
        init: &["lkinit/crun"],
        append: "lkinit.engine=direct",
        goal: Some(16.7 / 3.5),
    },
];

/// The reference's `/init`.
const REFERENCE_INIT: &str = include_str!("../reference.sh");

/// Three onboot containers and three services, as the boots of LinuxKit's own
/// init had that these are compared with.
const SERVICES: usize = 3;
const YAML: &str = "
kernel:
  image: lkinit/kernel:6.1
  cmdline: console=ttyS0
init:
  - lkinit/init
  - lkinit/runc
  - lkinit/containerd:1.6
onboot:
  - name: sysctl
    image: lkinit/sysctl
  - name: first
    image: lkinit/busybox
    command: [/bin/true]
  - name: second
    image: lkinit/busybox
    command: [/bin/true]
services:
  - name: one
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
  - name: two
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
  - name: three
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
";

/// How long one boot may take.
const LIMIT: Duration = Duration::from_secs(180);

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let wanted = |c: &&Configuration| arguments.only.is_empty() || arguments.only.iter().any(|o| o == c.name);
    let mut machines = Vec::new();
    for configuration in CONFIGURATIONS.iter().filter(wanted) {
        let series =
            Series { name: configuration.name.to_owned(), goal: configuration.goal, runs: Vec::new() };
        machines.push((machine(configuration)?, series));
    }
    for n in 1..=arguments.runs {
        for (machine, series) in &mut machines {
            let name = format!("bench-{}", series.name);
            let run = boot(&name, machine).with_context(|| format!("{name}, boot {n}"))?;
            eprintln!("{name}, boot {n} of {}: {:.3} s", arguments.runs, run.end().unwrap_or(f64::NAN));
            series.runs.push(run);
        }
    }
    let all: Vec<_> = machines.into_iter().map(|(_, series)| series).collect();
    for series in &all {
        let path = folder.join(format!("{}.json", series.name));
        fs::write(&path, format!("{:#}\n", series.to_json()))?;
    }
    println!("Medians of {} boots, in seconds since the kernel started /init:\n", arguments.runs);
    println!("{}", table(&all));
    println!("Every boot: {}/*.json", folder.display());
    Ok(())
}

fn machine(configuration: &Configuration) -> Result<Machine> {
    // Nothing is asked of these machines, and the script that would answer
    // takes a moment of the boot.
    let mut image = Image::new(&yaml(configuration))?.change(|root| root.remove(control::SCRIPT_PATH))?;
    if configuration.name == REFERENCE {
        image = image.change(|root| root.file("init", 0o755, REFERENCE_INIT))?;
    }
    let machine = image.compressed().machine(&format!("bench-{}", configuration.name))?;
    Ok(machine.append(configuration.append).keep())
}

/// Boots once, with no other machine beside it.
fn boot(name: &str, machine: &Machine) -> Result<Run> {
    let mut run = None;
    Vm::run_in(Slot::take_all()?, name, machine.clone(), |vm| {
        vm.expect_within(ZERO, LIMIT)?;
        for _ in 0..SERVICES {
            vm.expect_within(r"^(lkinit|reference): .* service \S+: running.*\n", LIMIT)?;
        }
        run = Run::read(&vm.console().lines());
        Ok(())
    })?;
    let run = run.context("the console has no milestones")?;
    let services = run.0.iter().filter(|(name, _)| name.starts_with("service")).count();
    if services != SERVICES {
        bail!("{services} services ran instead of {SERVICES}");
    }
    Ok(run)
}

fn yaml(configuration: &Configuration) -> String {
    let extra: String = configuration.init.iter().map(|image| format!("  - {image}\n")).collect();
    YAML.replacen("onboot:\n", &format!("{extra}onboot:\n"), 1)
}

struct Arguments {
    runs: usize,
    only: Vec<String>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self { runs: 5, only: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--runs" => {
                    parsed.runs = words.next().context("--runs takes a number")?.parse()?;
                }
                name if CONFIGURATIONS.iter().any(|c| c.name == name) => parsed.only.push(word),
                _ => {
                    let known: Vec<_> = CONFIGURATIONS.iter().map(|c| c.name).collect();
                    bail!("usage: bench [--runs N] [{}]...", known.join("|"));
                }
            }
        }
        Ok(parsed)
    }
}
