// SPDX-License-Identifier: Apache-2.0
//! Part of `make bench`: a hundred services started at once by the supervisor,
//! beside what containerd itself needs for that when a bare client asks.
//!
//! Natively, in one run of one image, with the same containerd and taking
//! turns, so that both see the same machine. Needs root.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::image::Image;
use tests::inside::Inside;
use tests::native::Native;
use tests::paths;
use tests::samples::{CONTAINERD, yaml};

const SERVICES: usize = 100;

/// How much more than the floor the supervisor may take.
const GOAL: f64 = 1.3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut rounds, mut count) = (5usize, SERVICES);
    for pair in arguments.chunks(2) {
        match pair {
            [flag, value] if flag == "--runs" => rounds = value.parse()?,
            [flag, value] if flag == "--services" => count = value.parse()?,
            _ => anyhow::bail!("usage: hundred [--runs N] [--services N]"),
        }
    }
    ensure!(rounds > 0 && count > 0, "at least one round of one service");
    let program = std::env::current_exe()?.with_file_name("floor");
    let program = fs::read(&program)
        .with_context(|| format!("reading {}: cargo build -p tests --bin floor", program.display()))?;
    let services: String = (0..count).map(service).collect();
    let image = Image::new(&yaml(CONTAINERD, &format!("services:\n{services}")))?
        .change(|root| root.file("usr/bin/floor", 0o755, program))?;
    let mut native = Native::start("bench-hundred", &image, "")?;
    native.expect("^lkinit: .* boot: done")?;
    let (mut bare, mut supervised) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        floor(&mut native, "stop")?;
        bare.push(floor(&mut native, "bare")?);
        supervised.push(floor(&mut native, "supervised")?);
        let status = native.sh("service status")?;
        let running = status.matches(" running ").count();
        ensure!(running == count, "{running} of {count} services run:\n{status}");
        eprintln!(
            "round {round} of {rounds}: {:.0} ms bare, {:.0} ms supervised",
            bare[round - 1],
            supervised[round - 1]
        );
    }
    let (bare_median, supervised_median) = (median(&bare), median(&supervised));
    let ratio = supervised_median / bare_median;
    println!("{count} services at once, medians of {rounds}, in milliseconds:\n");
    println!("  containerd, asked by a bare client   {bare_median:8.0}");
    println!("  by the supervisor                    {supervised_median:8.0}");
    println!("  ratio                                {ratio:8.2}  (goal: {GOAL})");
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder)?;
    let result = json!({
        "services": count, "unit": "milliseconds", "goal": GOAL, "ratio": ratio,
        "bare": bare, "supervised": supervised,
    });
    fs::write(folder.join("hundred.json"), format!("{result:#}\n"))?;
    Ok(())
}

fn service(n: usize) -> String {
    format!(
        "  - name: s{n:03}\n    image: lkinit/busybox\n    readonly: true\n    command: [/bin/sleep, '100000']\n    \
         annotations: {{lkinit.stop-signal: KILL}}\n"
    )
}

fn floor(native: &mut Native, mode: &str) -> Result<f64> {
    let text = native.sh(&format!("floor {mode}"))?;
    text.trim().parse().with_context(|| format!("floor {mode}: {text}"))
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
