// SPDX-License-Identifier: Apache-2.0
//! Crash-only: whatever is killed, nothing else is lost, nothing is started
//! twice and nothing is left behind.
//!
//! Natively, in namespaces of this kernel, and in machines. `LKINIT_CRASHES=N`
//! gives the number of rounds of each kind; `make soak` has ten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside;
use tests::native::run_native;
use tests::picture::{LIMIT, Left, Picture, SERVICES, look, memory, services, until};
use tests::samples::yaml;
use tests::vm::Vm;

/// How many rounds: of what is started again at once, and of rc and
/// containerd, which their keepers start again later and later, after 30 s in
/// the end.
#[derive(Clone, Copy)]
struct Rounds {
    quick: usize,
    slow: usize,
}

fn rounds(quick: usize, slow: usize) -> Rounds {
    let asked = std::env::var("LKINIT_CRASHES").ok().and_then(|text| text.parse().ok());
    let rounds = asked.map_or(Rounds { quick, slow }, |n| Rounds { quick: n, slow: n });
    eprintln!("  {} rounds of services and shims, {} of rc, containerd and all", rounds.quick, rounds.slow);
    rounds
}

/// What is killed.
#[derive(Clone, Debug)]
enum Victim {
    Rc,
    Containerd,
    Shim(String),
    Service(String),
    All,
}

/// Kills it, and checks that what is hit by that, and nothing else, is started
/// once more.
fn kill(inside: &mut dyn Inside, victim: &Victim) -> Result<()> {
    let before = look(inside)?;
    let one = |from: &BTreeMap<String, u32>, name: &str| from.get(name).copied().into_iter().collect();
    let (victims, hit): (Vec<u32>, Vec<String>) = match victim {
        Victim::Rc => (vec![before.rc], Vec::new()),
        Victim::Containerd => (before.containerd.into_iter().collect(), Vec::new()),
        Victim::Shim(name) => (one(&before.shims, name), vec![name.clone()]),
        Victim::Service(name) => (one(&before.pids, name), vec![name.clone()]),
        Victim::All => {
            let processes = before.shims.values().chain(before.pids.values()).copied();
            let rest = before.containerd.into_iter().chain([before.rc]);
            (rest.chain(processes).collect(), before.pids.keys().cloned().collect())
        }
    };
    ensure!(!victims.is_empty(), "nothing to kill for {victim:?}");
    let rc = matches!(victim, Victim::Rc | Victim::All);
    let containerd = before.containerd.is_some() && matches!(victim, Victim::Containerd | Victim::All);
    let victims: Vec<String> = victims.iter().map(u32::to_string).collect();
    let victims = victims.join(" ");
    inside.sh(&format!("kill -9 {victims}"))?;
    let fresh = |now: &Picture| {
        now.up()
            && now.left.zombies == 0
            && now.left.programs.is_empty()
            && now.left.shims.len() == before.left.shims.len()
            && hit.iter().all(|name| {
                // A process runs a moment before its program says so.
                now.pids.get(name) != before.pids.get(name) && now.starts.get(name) != before.starts.get(name)
            })
            && (!rc || now.rc != before.rc)
            && (!containerd || now.containerd.is_some() && now.containerd != before.containerd)
    };
    let after = until(inside, LIMIT, &format!("{victim:?}, after kill -9 {victims}"), fresh)?;
    for (name, pid) in &before.pids {
        let (was, is) = (before.starts.get(name), after.starts.get(name));
        if hit.contains(name) {
            ensure!(is == was.map(|n| n + 1).as_ref(), "{name} was started {was:?} times, and now {is:?}");
        } else {
            ensure!(
                after.pids.get(name) == Some(pid),
                "{name}: process {pid} became {:?}",
                after.pids.get(name)
            );
            ensure!(is == was, "{name} was started {was:?} times, and now {is:?}");
        }
    }
    ensure!(rc || after.rc == before.rc, "rc was started again");
    ensure!(containerd || after.containerd == before.containerd, "containerd was started again");
    Ok(())
}

fn compare(before: &Left, after: &Left) -> Result<()> {
    let difference = |before: &[String], after: &[String]| {
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).cloned().collect();
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).cloned().collect();
        format!("{} before, {} after; new: {new:#?}; gone: {gone:#?}", before.len(), after.len())
    };
    ensure!(before.mounts == after.mounts, "mounts: {}", difference(&before.mounts, &after.mounts));
    ensure!(before.groups == after.groups, "cgroups: {}", difference(&before.groups, &after.groups));
    ensure!(before.links == after.links, "links: {}", difference(&before.links, &after.links));
    ensure!(before.shims == after.shims, "shims: {:?}, then {:?}", before.shims, after.shims);
    ensure!(
        after.descriptors == before.descriptors,
        "descriptors of rc: {} before, {} after",
        before.descriptors,
        after.descriptors
    );
    Ok(())
}

/// The most that rc may have for itself, in KiB.
const MOST: u64 = 4096;

fn small(inside: &mut dyn Inside, when: &str) -> Result<()> {
    let memory = memory(inside)?;
    eprintln!("  rc with ten services, {when}: {memory:?} KiB");
    ensure!(memory.private <= MOST, "rc has {memory:?} KiB, {when}");
    Ok(())
}

/// What there is when three looks in a row see the same.
fn at_rest(inside: &mut dyn Inside) -> Result<Picture> {
    let (mut last, mut same) = (look(inside)?, 1);
    for _ in 0..60 {
        std::thread::sleep(Duration::from_millis(500));
        let now = look(inside)?;
        same = if now == last { same + 1 } else { 1 };
        if same == 3 {
            return Ok(now);
        }
        last = now;
    }
    anyhow::bail!("it does not come to rest: {last:#?}")
}

/// The whole of it. `shims` says whether there is containerd.
fn ordeal(inside: &mut dyn Inside, shims: bool, rounds: Rounds) -> Result<()> {
    let before = until(inside, LIMIT, "ten services", Picture::up)?;
    ensure!(before.left.shims.len() == if shims { SERVICES } else { 0 }, "{:?}", before.left.shims);
    ensure!(before.starts.values().all(|count| *count == 1), "{:?}", before.starts);
    small(inside, "after the boot")?;
    restarted_is_complete(inside).context("as it was started")?;
    // What is compared is an rc that was started again and has started all of
    // its services: of those that it has found it holds other descriptors.
    kill(inside, &Victim::All).context("all, the first time")?;
    let before = at_rest(inside)?;

    let mut again = |what: &str, rounds: usize, victim: &dyn Fn(usize) -> Victim| {
        let start = Instant::now();
        for round in 0..rounds {
            kill(inside, &victim(round)).with_context(|| format!("{what}, round {}", round + 1))?;
        }
        eprintln!("  {what}, {rounds} times: ok, {:.1} s", start.elapsed().as_secs_f64());
        anyhow::Ok(())
    };
    let name = |round: usize| format!("s{}", round % SERVICES);
    again("a service", rounds.quick, &|round| Victim::Service(name(round)))?;
    if shims {
        again("a shim", rounds.quick, &|round| Victim::Shim(name(round)))?;
        again("containerd", rounds.slow, &|_| Victim::Containerd)?;
    }
    again("rc", rounds.slow, &|_| Victim::Rc)?;
    again("all at once", rounds.slow, &|_| Victim::All)?;

    restarted_is_complete(inside).context("after all that")?;
    small(inside, "after all that")?;
    let settled = |now: &Picture| compare(&before.left, &now.left).is_ok();
    match until(inside, Duration::from_secs(120), "", settled) {
        Ok(after) => {
            let (was, is) = (before.left.descriptors, after.left.descriptors);
            eprintln!("  nothing is left; descriptors of rc: {was} before, {is} after");
        }
        Err(_) => compare(&before.left, &look(inside)?.left)?,
    }
    Ok(())
}

/// The service with everything has everything, once.
fn restarted_is_complete(inside: &mut dyn Inside) -> Result<()> {
    let pid = look(inside)?.pids.get("s0").copied().context("s0 does not run")?;
    let text = inside.sh(&format!(
        "grep -c ' /run/mounted ' /proc/self/mountinfo
         grep -c ' /run/netns/s0 ' /proc/self/mountinfo
         grep -c ' /run/utsns/s0 ' /proc/self/mountinfo
         stat -L -c %i /proc/{pid}/ns/net /run/netns/s0 /proc/{pid}/ns/uts /run/utsns/s0
         ip -o link | grep -c ' outer@'
         nsenter --net=/run/netns/s0 ip -o link | grep -c ' inner@'
         grep -c '/containers/services/s0/rootfs ' /proc/self/mountinfo
         test -d /run/made && test -d /sys/fs/cgroup/extra && echo made"
    ))?;
    let words: Vec<&str> = text.split_whitespace().collect();
    ensure!(
        words.len() == 11
            && words[..3] == ["1", "1", "1"]
            && words[3] == words[4]
            && words[5] == words[6]
            && words[7..] == ["1", "1", "1", "made"],
        "mounts, binds, namespaces, links of s0: {words:?}"
    );
    Ok(())
}

fn image(init: &[&str]) -> Result<Image> {
    Image::new(&yaml(init, &services()))
}

#[test]
fn natively_with_the_runtime_alone() -> Result<()> {
    let name = "crash-native-direct";
    let image = image(&["lkinit/init", "lkinit/crun"])?;
    run_native(name, &image, "", |inside| ordeal(inside, false, rounds(10, 3)))
}

#[test]
fn natively_with_containerd_1_6() -> Result<()> {
    let name = "crash-native-1.6";
    let image = image(&["lkinit/init", "lkinit/runc", "lkinit/containerd:1.6"])?;
    run_native(name, &image, "", |inside| ordeal(inside, true, rounds(10, 3)))
}

#[test]
fn natively_with_containerd_2_1() -> Result<()> {
    let name = "crash-native-2.1";
    let image = image(&["lkinit/init", "lkinit/runc", "lkinit/containerd:2.1"])?;
    run_native(name, &image, "", |inside| ordeal(inside, true, rounds(10, 3)))
}

#[test]
fn in_a_machine_with_the_runtime_alone() -> Result<()> {
    let name = "crash-direct";
    let machine = image(&["lkinit/init", "lkinit/crun"])?.machine(name)?;
    let rounds = rounds(3, 2);
    Vm::run(name, machine, |vm| {
        vm.expect("^lkinit: .* boot: done")?;
        ordeal(vm, false, rounds)
    })
}

#[test]
fn in_a_machine_with_containerd() -> Result<()> {
    let name = "crash-containerd";
    let machine = image(&["lkinit/init", "lkinit/runc", "lkinit/containerd:1.6"])?.machine(name)?;
    let rounds = rounds(2, 1);
    Vm::run(name, machine.memory(2048), |vm| {
        vm.expect("^lkinit: .* boot: done")?;
        ordeal(vm, true, rounds)
    })
}
