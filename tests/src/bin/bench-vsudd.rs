// SPDX-License-Identifier: Apache-2.0
//! `make bench-vsudd`: what a forwarder costs. Every figure is taken beside
//! the same of a bare vsock socket, in turns, in one machine; prints a table
//! and writes `target/bench/vsudd.json`. It fails where a goal is missed.

use std::fs;

use anyhow::{Context, Result, ensure};
use pkg::tree::Content;
use serde_json::{Value, json};
use tests::image::Image;
use tests::load::{Place, bench};
use tests::paths;
use tests::samples::yaml;
use tests::slots::Slot;
use tests::vhost::Device;
use tests::vm::Vm;

const SERVICES: &str = "
services:
  - name: vsudd
    image: lkinit/vsudd
    binds: ['/run:/run']
    runtime:
      mkdir: [/run/load]
    command: [/vsudd, -inport, '5000:unix:/run/load/streams', -inport, '5001:unix:/run/load/bytes',
      -inport, '5002:unix:/run/load/each', -outport, '/run/load/out:5100:local', -retry, 20s]
";

/// What serves behind vsudd, and bare; and the plainest forwarders, which show
/// what a buffer and what splice(2) come to.
const SERVERS: &[&str] = &[
    "serve unix:/run/load/streams vsock:1:5100",
    "serve-bytes unix:/run/load/bytes",
    "serve-bytes vsock:1:5101",
    "serve-bytes unix:/run/load/each each",
    "serve-bytes vsock:1:5102 each",
    "forward vsock:1:5200 unix:/run/load/streams buffer 262144",
    "forward vsock:1:5201 unix:/run/load/streams pipe 1048576",
    "forward vsock:1:5202 unix:/run/load/each buffer 65536",
    "forward vsock:1:5203 unix:/run/load/bytes buffer 65536",
];

/// One figure: bare and forwarded, and what the forwarded one is meant to be,
/// as a part of the bare one.
struct Figure {
    name: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    bare: Vec<f64>,
    forwarded: Vec<f64>,
}

impl Figure {
    /// The median of the rounds' own ratios: the two of a round are taken one
    /// after the other, and whatever else the host does meets both.
    fn ratio(&self) -> f64 {
        let ratios = self.bare.iter().zip(&self.forwarded).map(|(bare, forwarded)| forwarded / bare);
        median(&ratios.collect::<Vec<_>>())
    }

    fn line(&self) -> String {
        let goal = self.goal.map_or_else(String::new, |goal| format!(">= {goal}"));
        let (bare, forwarded) = (median(&self.bare), median(&self.forwarded));
        let Self { name, unit, .. } = self;
        format!("{name:39} {bare:>9.1} {forwarded:>9.1} {unit:6} {:>6.2}  {goal}", self.ratio())
    }

    fn json(&self) -> Value {
        let Self { name, unit, goal, bare, forwarded } = self;
        json!({ "name": name, "unit": unit, "goal": goal, "ratio": self.ratio(), "bare": bare, "forwarded": forwarded })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How many rounds, and how much in each.
struct Size {
    rounds: u32,
    mebibytes: u64,
    connects: u32,
}

fn main() -> Result<()> {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let size = Size {
        rounds: number("ROUNDS", 7) as u32,
        mebibytes: number("MIB", 64),
        connects: number("CONNECTS", 200) as u32,
    };
    let name = "bench-vsudd";
    let device = Device::start(name)?;
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], SERVICES))?
        .change(|root| root.file("opt/vsock-load", 0o755, Content::from_path(load()?.as_ref())?))?;
    let program = paths::target().join("x86_64-unknown-linux-gnu/guest/vsudd");
    let bytes = fs::metadata(&program).with_context(|| program.display().to_string())?.len();
    let machine = device.attach(image.machine(name)?.append("lkinit.engine=direct"));
    let (mut figures, mut idle) = (Vec::new(), 0);
    Vm::run_in(Slot::take_all()?, name, machine, |vm| {
        vm.expect(r"^lkinit: .* service vsudd: running")?;
        // No device asks for it, and with a device of the host's no first socket does.
        vm.sh("modprobe vsock_loopback")?;
        for server in SERVERS {
            vm.sh(&format!("/opt/vsock-load {server} >/dev/null 2>&1 &"))?;
        }
        figures = measure(vm, &device, &size)?;
        let pid = vm.sh("pidof vsudd")?;
        let text = vm.sh(&format!("/opt/vsock-load idle vsock:1:5000 1000 {}", pid.trim()))?;
        let private = text.split_whitespace().find_map(|word| word.strip_prefix("private="));
        idle = private.context(text.clone())?.parse()?;
        Ok(())
    })?;
    report(&figures, idle, bytes)
}

/// The load program beside this one.
fn load() -> Result<String> {
    let here = std::env::current_exe()?;
    let load = here.with_file_name("vsock-load");
    ensure!(load.exists(), "{} is missing: cargo build -p tests", load.display());
    Ok(load.display().to_string())
}

fn measure(vm: &mut Vm, device: &Device, size: &Size) -> Result<Vec<Figure>> {
    let bytes = size.mebibytes << 20;
    let inside = |vm: &mut Vm, place: &str, what: &str, count: u64| -> Result<f64> {
        Ok(vm.sh(&format!("/opt/vsock-load bench {place} {what} {count}"))?.trim().parse()?)
    };
    let mebibytes = |rate: f64| rate / f64::from(1 << 20);
    let figure = |name, unit, goal| Figure { name, unit, goal, bare: Vec::new(), forwarded: Vec::new() };
    let mut figures = vec![
        figure("loopback, one stream in", "MiB/s", Some(0.45)),
        figure("loopback, one stream out of a target", "MiB/s", Some(0.45)),
        figure("loopback, outward stream", "MiB/s", None),
        figure("plain, 256 KiB buffer, stream in", "MiB/s", None),
        figure("plain, splice(2), stream in", "MiB/s", None),
        figure("plain, 256 KiB buffer, out of a target", "MiB/s", None),
        figure("plain, splice(2), out of a target", "MiB/s", None),
        figure("loopback, connections, a thread each", "1/s", Some(0.45)),
        figure("plain, the same", "1/s", None),
        figure("loopback, connections, one by one", "1/s", None),
        figure("plain, the same", "1/s", None),
        figure("host to guest, one stream", "MiB/s", Some(0.7)),
        figure("guest to host, one stream", "MiB/s", None),
        figure("from the host, connections in a row", "1/s", None),
    ];
    let bare = "vsock:1:5100";
    // The first of everything is not counted.
    for round in 0..=size.rounds {
        let mut figures = figures.iter_mut();
        let mut take = |bare: f64, forwarded: f64| {
            if let Some(figure) = figures.next().filter(|_| round > 0) {
                figure.bare.push(bare);
                figure.forwarded.push(forwarded);
            }
        };
        let bytes = if round == 0 { bytes / 8 } else { bytes };
        for (way, via) in [
            ("to", "vsock:1:5000"),
            ("from", "vsock:1:5000"),
            ("to", "unix:/run/load/out"),
            ("to", "vsock:1:5200"),
            ("to", "vsock:1:5201"),
            ("from", "vsock:1:5200"),
            ("from", "vsock:1:5201"),
        ] {
            take(mebibytes(inside(vm, bare, way, bytes)?), mebibytes(inside(vm, via, way, bytes)?));
        }
        let count = u64::from(size.connects);
        for (bare, via) in [
            ("vsock:1:5102", "vsock:1:5002"),
            ("vsock:1:5102", "vsock:1:5202"),
            ("vsock:1:5101", "vsock:1:5001"),
            ("vsock:1:5101", "vsock:1:5203"),
        ] {
            take(inside(vm, bare, "connects", count)?, inside(vm, via, "connects", count)?);
        }
        let rate = |place: &Place, back| anyhow::Ok(mebibytes(bench::stream(place, bytes, back)?));
        let (bare, via) = (device.guest(5100), device.guest(5000));
        take(rate(&bare, false)?, rate(&via, false)?);
        take(rate(&bare, true)?, rate(&via, true)?);
        let count = size.connects / 2;
        let (bare, via) = (device.guest(5102), device.guest(5002));
        take(bench::connects(&bare, count)?, bench::connects(&via, count)?);
        eprintln!("round {round} of {}", size.rounds);
    }
    Ok(figures)
}

fn report(figures: &[Figure], idle: u64, program: u64) -> Result<()> {
    println!("{:39} {:>9} {:>9} {:6} {:>6}  goal", "median", "bare", "vsudd", "", "ratio");
    figures.iter().for_each(|figure| println!("{}", figure.line()));
    println!("{:39} {:>19} {:6} {:>6}  <= 4096", "1000 idle connections, private", idle, "KiB", "");
    println!("{:39} {:>19} {:6} {:>6}  <= 1677721", "the program", program, "bytes", "");
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join("vsudd.json");
    let all = json!({
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
        "idle_private_kib": { "value": idle, "goal": 4096 },
        "program_bytes": { "value": program, "goal": 1_677_721 },
    });
    fs::write(&path, format!("{all:#}\n"))?;
    println!("Every round: {}", path.display());
    let missed = figures.iter().filter(|figure| figure.goal.is_some_and(|goal| figure.ratio() < goal));
    let mut missed: Vec<&str> = missed.map(|figure| figure.name).collect();
    if idle > 4096 {
        missed.push("idle connections");
    }
    if program > 1_677_721 {
        missed.push("the program's size");
    }
    ensure!(missed.is_empty(), "goals missed: {}", missed.join("; "));
    Ok(())
}
