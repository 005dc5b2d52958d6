// SPDX-License-Identifier: Apache-2.0
//! `make bench`: boots one image several times in each configuration, prints
//! what the boots spent their time on and writes it to `target/bench`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::bench::{Run, Series, ZERO, table};
use tests::image::Image;
use tests::machine::Machine;
use tests::paths;
use tests::slots::Slot;
use tests::vm::Vm;

/// One way to run containers, and how soon the last service is to run.
struct Configuration {
    name: &'static str,
    /// Images besides init, runc and containerd.
    init: &'static [&'static str],
    append: &'static str,
    goal: f64,
}

const CONFIGURATIONS: &[Configuration] = &[
    Configuration { name: "containerd-runc", init: &[], append: "", goal: 12.5 },
    Configuration { name: "containerd-crun", init: &["lkinit/crun"], append: "", goal: 10.0 },
    Configuration {
        name: "direct-onboot",
        init: &["lkinit/crun"],
        append: "lkinit.engine=direct-onboot",
        goal: 6.5,
    },
    Configuration { name: "direct", init: &["lkinit/crun"], append: "lkinit.engine=direct", goal: 3.5 },
];

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
    let mut all = Vec::new();
    for configuration in CONFIGURATIONS
        .iter()
        .filter(|c| arguments.only.is_empty() || arguments.only.iter().any(|o| o == c.name))
    {
        let series = measure(configuration, arguments.runs)?;
        let path = folder.join(format!("{}.json", series.name));
        fs::write(&path, format!("{:#}\n", series.to_json()))?;
        all.push(series);
    }
    println!("Medians of {} boots, in seconds since the kernel started /init:\n", arguments.runs);
    println!("{}", table(&all));
    println!("Every boot: {}/*.json", folder.display());
    Ok(())
}

fn measure(configuration: &Configuration, runs: usize) -> Result<Series> {
    let mut series =
        Series { name: configuration.name.to_owned(), goal: configuration.goal, runs: Vec::new() };
    let image = Image::new(&yaml(configuration))?.compressed();
    let name = format!("bench-{}", configuration.name);
    let machine = image.machine(&name)?.append(configuration.append).keep();
    for n in 1..=runs {
        let run = boot(&name, &machine).with_context(|| format!("{name}, boot {n}"))?;
        eprintln!("{name}, boot {n} of {runs}: {:.3} s", run.end().unwrap_or(f64::NAN));
        series.runs.push(run);
    }
    Ok(series)
}

/// Boots once, with no other machine beside it.
fn boot(name: &str, machine: &Machine) -> Result<Run> {
    let mut run = None;
    Vm::run_in(Slot::take_all()?, name, machine.clone(), |vm| {
        vm.expect_within(ZERO, LIMIT)?;
        for _ in 0..SERVICES {
            vm.expect_within(r"^lkinit: .* service \S+: running.*\n", LIMIT)?;
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
