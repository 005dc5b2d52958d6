// SPDX-License-Identifier: Apache-2.0
//! `make bench-restart`: how long a crashed service is away, from the end of
//! its process to the first thing its program does, natively; and beside it
//! the floor: the same calls made by a client that does nothing else, to the
//! same containerd.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rc::bundle::{Bundle, Stage};
use rc::engine::containerd::{Containerd, SOCKET};
use rc::engine::{Engine as _, Id, Job};
use serde_json::{Value, json};
use std::os::fd::AsFd as _;
use tests::image::Image;
use tests::inside::Inside;
use tests::native::{Native, run_native};
use tests::paths;
use tests::samples::yaml;

/// A program that leaves a mark when it runs, twice: one is rc's, the other is
/// made ready by rc and then left to the bare client.
const YAML: &str = "
services:
  - name: web
    image: lkinit/busybox
    binds: ['/run/marks:/marks']
    runtime: {mkdir: [/run/marks]}
    command: [/bin/sh, -c, '>/marks/web; exec sleep 100000']
    annotations: {lkinit.stop-signal: KILL}
  - name: bare
    image: lkinit/busybox
    binds: ['/run/marks:/marks']
    runtime: {mkdir: [/run/marks]}
    command: [/bin/sh, -c, '>/marks/bare; exec sleep 100000']
    annotations: {lkinit.stop-signal: KILL}
";

/// Kills a process and waits until it has ended. Returns when that was.
fn end(pid: u32) -> Result<Instant> {
    let pid = i32::try_from(pid)?;
    let pidfd = init::sys::process::open_pidfd(pid)?.context("the process is not there")?;
    init::sys::process::signal(pid, nix::sys::signal::SIGKILL)?;
    let mut waiting = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    ensure!(poll(&mut waiting, PollTimeout::from(10_000_u16))? == 1, "process {pid} does not end");
    Ok(Instant::now())
}

/// Waits for the mark of a program that runs.
fn marked(mark: &Path) -> Result<Instant> {
    let limit = Instant::now() + Duration::from_secs(20);
    while Instant::now() < limit {
        if mark.exists() {
            return Ok(Instant::now());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    bail!("{} does not come", mark.display())
}

/// The floor, inside: prints one time in ms a line.
fn bare(rounds: usize) -> Result<()> {
    let bundle = Bundle::load(Path::new("/containers/services/bare"), Stage::Services)?;
    let id = Id { namespace: "services.linuxkit".to_owned(), name: "bare".to_owned() };
    let spec = bundle.spec().to_string();
    let (stdout, stderr) = (Path::new("/var/log/bare.out.log"), Path::new("/var/log/bare.log"));
    let job = Job { id: &id, bundle: &bundle.path, spec: spec.as_bytes(), stdout, stderr };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let containerd = Containerd::new(Path::new(SOCKET), None);
        let mark = Path::new("/run/marks/bare");
        let mut pid = containerd.run(job).await?;
        for _ in 0..rounds {
            marked(mark)?;
            fs::remove_file(mark)?;
            std::thread::sleep(Duration::from_millis(300));
            let waiting = containerd.wait(&id);
            let ended = end(pid)?;
            waiting.await?;
            containerd.delete(&id).await?;
            pid = containerd.run(job).await?;
            println!("{}", (marked(mark)? - ended).as_secs_f64() * 1e3);
        }
        Ok(containerd.discard(&id).await?)
    })
}

/// rc's own, from outside.
fn supervised(native: &mut Native, rounds: usize) -> Result<Vec<f64>> {
    let mark = native.path("/run/marks/web");
    let mut times = Vec::new();
    for _ in 0..rounds {
        marked(&mark)?;
        fs::remove_file(&mark)?;
        // A person's word clears the record: each is a first crash.
        native.sh("service restart web")?;
        marked(&mark)?;
        fs::remove_file(&mark)?;
        std::thread::sleep(Duration::from_millis(300));
        let status = native.sh("service status")?;
        let line = status.lines().find(|line| line.starts_with("web")).context("no web")?;
        let pid: u32 = line.split_whitespace().nth(2).context("no pid")?.parse()?;
        let ended = end(native.outside(pid)?)?;
        times.push((marked(&mark)? - ended).as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, rounds] = &words[..]
        && word == "bare"
    {
        return bare(rounds.parse()?);
    }
    let rounds: usize = words.first().map_or(Ok(20), |word| word.parse())?;
    let mut results = Vec::new();
    for (name, init) in [
        ("containerd 1.6, runc", ["lkinit/init", "lkinit/runc", "lkinit/containerd:1.6"]),
        ("containerd 1.6, crun", ["lkinit/init", "lkinit/crun", "lkinit/containerd:1.6"]),
    ] {
        let image = Image::new(&yaml(&init, YAML))?;
        run_native("bench-restart", &image, "", |native| {
            native.expect("^lkinit: .* boot: done")?;
            native.sh("service stop bare; rm /run/marks/bare")?;
            let times = supervised(native, rounds)?;
            let own = native.path("/run/bench");
            fs::copy(std::env::current_exe()?, &own).context("copying this program")?;
            let crun = init.contains(&"lkinit/crun");
            // The shims of the bare client use what is called runc.
            if crun {
                native.sh("ln -s crun /usr/bin/runc")?;
            }
            native.sh("mkdir -p /run/exec && mount -t tmpfs exec /run/exec && mv /run/bench /run/exec/")?;
            let text = native.sh(&format!("/run/exec/bench bare {rounds}"))?;
            let floor: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
            ensure!(floor.len() == rounds, "the bare client: {text}");
            println!(
                "{name}: a service is away for {:.0} ms ({rounds} times, median; {:.0} to {:.0}); the bare client takes {:.0} ms",
                median(&times),
                times.iter().copied().fold(f64::INFINITY, f64::min),
                times.iter().copied().fold(0.0, f64::max),
                median(&floor)
            );
            let round = |times: &[f64]| times.iter().map(|t| (t * 10.0).round() / 10.0).collect::<Vec<_>>();
            results.push(json!({
                "engine": name, "unit": "ms from the end of the process to its program running again",
                "goal": 150, "median": median(&times), "bare_median": median(&floor),
                "runs": round(&times), "bare_runs": round(&floor),
            }));
            Ok(())
        })?;
    }
    ensure!(!results.is_empty(), "nothing was measured: it needs root");
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder)?;
    let load = Command::new("cat").arg("/proc/loadavg").output()?;
    let load = String::from_utf8_lossy(&load.stdout).trim().to_owned();
    let path = folder.join("restart.json");
    fs::write(&path, format!("{:#}\n", json!({ "load": load, "results": Value::from(results) })))?;
    println!("{}", path.display());
    Ok(())
}
