// SPDX-License-Identifier: Apache-2.0
//! containerd away or hanging, starts that fail, and what an earlier life has
//! left. Natively: none of it depends on a machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::image::Image;
use tests::inside::Inside;
use tests::native::{Native, run_native};
use tests::picture::{LIMIT, Picture, SERVICES, look, services, until};
use tests::samples::{CONTAINERD, yaml};

/// How long containerd is away; `LKINIT_OUTAGE` says otherwise, in seconds.
fn outage() -> Duration {
    let asked = std::env::var("LKINIT_OUTAGE").ok().and_then(|text| text.parse().ok());
    let seconds = asked.unwrap_or(5);
    eprintln!("  containerd is away for {seconds} s");
    Duration::from_secs(seconds)
}

/// What waits for containerd takes ten seconds and more; what does not, some
/// milliseconds, and more of them on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(8);

/// `service status`, and how long the answer took.
fn status(inside: &mut Native) -> Result<(String, Duration)> {
    let start = Instant::now();
    let text = inside.sh("service status")?;
    Ok((text, start.elapsed()))
}

/// What there is now but for `hit`, which has ended meanwhile or been started again.
fn unharmed(before: &Picture, now: &Picture, hit: &str) -> Result<()> {
    for (name, pid) in before.pids.iter().filter(|(name, _)| *name != hit) {
        ensure!(now.pids.get(name) == Some(pid), "{name}: process {pid} became {:?}", now.pids.get(name));
        ensure!(now.starts.get(name) == before.starts.get(name), "{name} was started again");
    }
    Ok(())
}

#[test]
fn containerd_that_hangs_or_is_away_harms_no_service() -> Result<()> {
    let name = "outage";
    run_native(name, &Image::new(&yaml(CONTAINERD, &services()))?, "", |inside| {
        let before = until(inside, LIMIT, "ten services", Picture::up)?;
        let (text, took) = status(inside)?;
        ensure!(text.contains("containerd: 1."), "{text}");
        eprintln!("  status: {:.1} ms", took.as_secs_f64() * 1e3);

        // It hangs. Whoever asks is told at once, by an rc that is killed
        // meanwhile, too; what ends then is started again when it goes on.
        let containerd = before.containerd.context("no containerd")?;
        inside.sh(&format!("kill -STOP {containerd}; kill -9 {}", before.pids["s3"]))?;
        let (text, took) = status(inside)?;
        eprintln!("  status while it hangs: {:.1} ms", took.as_secs_f64() * 1e3);
        ensure!(text.contains("has not answered for"), "{text}");
        ensure!(took < AT_ONCE, "it took {took:?}");
        unharmed(&before, &look(inside)?, "s3")?;
        inside.sh(&format!("kill -9 {}", before.rc))?;
        until(inside, LIMIT, "a new rc, and all unharmed", |now| {
            now.rc != before.rc && unharmed(&before, now, "s3").is_ok()
        })?;
        inside.until("service status | grep 'does not answer yet'")?;
        let (text, took) = status(inside)?;
        ensure!(text.contains("does not answer yet") && took < AT_ONCE, "{took:?}: {text}");
        inside.sh(&format!("kill -CONT {containerd}"))?;
        let after = until(inside, LIMIT, "all ten again", |now| now.up() && now.starts["s3"] == 2)?;
        unharmed(&before, &after, "s3")?;

        // It is away: its program fails.
        let before = after;
        let program = "/usr/bin/containerd";
        inside.sh(&format!(
            "mv {program} {program}.away
             printf '#!/bin/sh\\nexit 3\\n' >{program}; chmod 755 {program}
             kill -9 {containerd}"
        ))?;
        let end = Instant::now() + outage();
        inside.expect("^lkinit: .* containerd: ended with exit status 3; starting it again")?;
        inside.sh(&format!("kill -9 {}", before.pids["s4"]))?;
        inside.until("service status | grep 'containerd: down: '")?;
        while Instant::now() < end {
            let now = look(inside)?;
            unharmed(&before, &now, "s4")?;
            ensure!(now.starts == before.starts, "{:?}", now.starts);
            std::thread::sleep(Duration::from_millis(500));
        }
        // rc is killed meanwhile: it waits for containerd, too.
        inside.sh("kill -9 $(pidof rc.init)")?;
        until(inside, LIMIT, "a new rc", |now| now.rc != before.rc)?;
        inside.sh(&format!("mv {program}.away {program}"))?;
        let after = until(inside, LIMIT, "all ten again", |now| now.up() && now.starts["s4"] == 2)?;
        unharmed(&before, &after, "s4")
    })
}

const HANGS: &str = "
services:
  - name: hears
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo started; trap \"exit 0\" TERM; sleep 100000 & wait']
    annotations: {lkinit.start-timeout: 8s, lkinit.restart: 'no'}
  - name: deaf
    image: lkinit/busybox
    command: [/bin/sleep, '100000']
  - name: stubborn
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap : TERM; while :; do sleep 1; done']
    annotations: {lkinit.stop-timeout: 1s}
onshutdown:
  - name: last
    image: lkinit/busybox
    command: [/bin/echo, the last one ran]
";

/// The process of a service, as it is told.
fn pid(inside: &mut Native, name: &str) -> Result<String> {
    let status = inside.sh("service status")?;
    let row = status.lines().find(|line| line.starts_with(&format!("{name} "))).context(status.clone())?;
    Ok(row.split_whitespace().nth(2).context(row.to_owned())?.to_owned())
}

/// What is asked to end ends, and whoever asked is told, though containerd
/// does not say a word; and a start that it does not answer is given up.
#[test]
fn a_containerd_that_hangs_holds_up_no_stop_and_no_shutdown() -> Result<()> {
    let name = "outage-hangs";
    run_native(name, &Image::new(&yaml(CONTAINERD, HANGS))?, "", |inside| {
        inside.expect("^lkinit: .* boot: done")?;
        let first = pid(inside, "hears")?;
        inside.sh("kill -STOP $(pidof containerd)")?;
        for name in ["hears", "stubborn"] {
            if name == "stubborn" {
                // The next rc can ask nobody either.
                inside.sh("kill -9 $(pidof rc.init)")?;
                inside.expect("^lkinit: .* containerd: taking over process")?;
                inside.supervised()?;
            }
            let process = pid(inside, name)?;
            let begin = Instant::now();
            inside.sh(&format!("service stop {name}"))?;
            let took = begin.elapsed();
            eprintln!("  stop {name} while containerd hangs: {:.1} s", took.as_secs_f64());
            ensure!(took < Duration::from_secs(60), "stopping {name} took {took:?}");
            ensure!(inside.try_sh(&format!("kill -0 {process}"))?.status != 0, "{name} runs");
            let status = inside.sh("service status")?;
            ensure!(
                status.lines().any(|line| line.starts_with(name) && line.contains("stopped")),
                "{status}"
            );
        }
        let begin = Instant::now();
        let start = inside.try_sh("service start hears")?;
        let told = "containerd has not started it within ";
        ensure!(start.status != 0 && start.text.contains(told), "{start:?}");
        ensure!(begin.elapsed() < Duration::from_secs(20), "giving a start up took {:?}", begin.elapsed());
        inside
            .expect(&format!("^lkinit: .* service hears: failed to start: {told}[0-9]+s; it stays down"))?;

        // It goes on: what it was asked for in vain is not done after all.
        inside.sh("kill -CONT $(pidof containerd); service start hears")?;
        let second = pid(inside, "hears")?;
        ensure!(second != first, "{first}");
        std::thread::sleep(Duration::from_secs(2));
        ensure!(pid(inside, "hears")? == second, "it was ended by what was asked for before");
        let tasks = "ctr -n services.linuxkit task ls -q | sort | tr '\\n' ' '";
        inside.until(&format!("tasks=$({tasks}); echo $tasks; test \"$tasks\" = 'deaf hears '"))?;
        inside.until("test $(grep -c started /var/log/hears.out.log) = 2")?;

        inside.sh("kill -STOP $(pidof containerd)")?;
        let begin = Instant::now();
        inside.try_sh("kill -USR1 1")?;
        inside
            .expect("^lkinit: .* onshutdown: containerd has not answered for 10s; none of its containers")?;
        let split = inside.expect("shutdown: (onshutdown .*, containerd [0-9.]+s)")?.remove(1);
        inside.expect("shutdown: poweroff now, after ")?;
        let took = begin.elapsed();
        eprintln!("  down while containerd hangs: {:.1} s ({split})", took.as_secs_f64());
        ensure!(took < Duration::from_secs(40), "{took:?}");
        let text = inside.console().text();
        for wrong in ["services that do not end", "the supervisor did not answer", "the last one ran"] {
            ensure!(!text.contains(wrong), "{wrong}");
        }
        Ok(())
    })
}

/// Everything that can be made around a container, and then its program is not there.
const FAILING: &str = "
services:
  - name: failing
    image: lkinit/busybox
    net: new
    command: [/bin/nonesuch]
    annotations: {lkinit.restart: 'no'}
    runtime:
      mounts:
        - {type: tmpfs, source: tmpfs, destination: /run/mounted, options: [size=1m]}
      cgroups: [extra/below]
      interfaces:
        - {name: inner, add: veth, peer: outer}
        - {name: plain, add: dummy}
      bindNS: {net: /run/netns/failing, uts: /run/utsns/failing, mnt: /run/mntns/failing}
  - name: sound
    image: lkinit/busybox
    command: [/bin/sh, -c, 'exec sleep 100000']
";

/// Whatever could be left of `failing`.
const LEFT: &str = "
cut -d ' ' -f 5 /proc/self/mountinfo | grep -E 'mounted|ns/failing|services/failing'
ls -d /sys/fs/cgroup/extra /sys/fs/cgroup/failing /sys/fs/cgroup/*/failing 2>/dev/null
ip -o link | grep -v ' lo:'
ls /run/lkinit/direct/*/state /run/containerd/io.containerd.runtime.v2.task/* 2>/dev/null | grep failing
test ! -S /run/containerd/containerd.sock || ctr -n services.linuxkit containers ls -q | grep failing
for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -E '^[/a-z]*(containerd-shim-runc-v2 .* failing|runc|crun) '; done
";

fn nothing_is_left(inside: &mut Native) -> Result<()> {
    inside.expect("^lkinit: .* service sound: running")?;
    inside.expect("^lkinit: .* boot: done")?;
    let log = inside.sh("service status")?;
    ensure!(log.lines().any(|l| l.starts_with("failing") && !l.contains("running")), "{log}");
    for again in 0..3 {
        // A shim may be on its way out.
        inside
            .until(&format!("left=$({LEFT}); test -z \"$left\" || {{ echo \"$left\"; false; }}"))
            .with_context(|| format!("left, start {}", again + 1))?;
        let failed = inside.try_sh("service start failing")?;
        ensure!(failed.status != 0 && failed.text.contains("nonesuch"), "{failed:?}");
    }
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() -> Result<()> {
    let image = Image::new(&yaml(CONTAINERD, FAILING))?;
    run_native("outage-failing", &image, "", nothing_is_left).context("containerd")?;
    run_native("outage-failing", &image, "lkinit.engine=direct", nothing_is_left).context("runc")?;
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], FAILING))?;
    run_native("outage-failing", &image, "", nothing_is_left).context("crun")
}

/// A hook that does not end: the runtime waits for it, and nobody for the
/// runtime when the time for the start is over.
const STUCK: &str = "
services:
  - name: stuck
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo started; exec sleep 100000']
    annotations: {lkinit.start-timeout: 4s, lkinit.restart: 'no'}
";

/// Whatever could be left of `stuck` by the one start.
const STUCK_LEFT: &str = "
ps -o pid,args | grep -E 'sleep [4]242|[r]un --detach|[c]ontainerd-shim-runc-v2 .* stuck|[r]unc .* create'
ls -d /sys/fs/cgroup/stuck /run/lkinit/direct/services.linuxkit/state/stuck 2>/dev/null
ls /run/containerd/io.containerd.runtime.v2.task/services.linuxkit /run/containerd/runc/services.linuxkit 2>/dev/null |
    grep stuck
test ! -S /run/containerd/containerd.sock || ctr -n services.linuxkit containers ls -q | grep stuck
";

/// Another bundle of `stuck`: it is read when rc begins.
fn with_bundle(inside: &mut Native, change: &str) -> Result<()> {
    inside.sh(&format!("cd /containers/services/stuck; {change}; kill -9 $(pidof rc.init)"))?;
    inside.expect("^lkinit: .* rc.init: started again; taking over")?;
    inside.supervised()
}

fn given_up(inside: &mut Native) -> Result<()> {
    inside.expect("^lkinit: .* service stuck: running")?;
    inside.expect("^lkinit: .* boot: done")?;
    inside.sh("service stop stuck; cp /containers/services/stuck/config.json /tmp/sound")?;
    // One while the container is made, one when it has been started.
    for hook in ["createRuntime", "poststart"] {
        let hooks =
            format!(r#""hooks":{{"{hook}":[{{"path":"/bin/sleep","args":["sleep","4242"]}}]}},"linux""#);
        let change = format!("sed 's#\"linux\"#{hooks}#' /tmp/sound >config.json; grep -q 4242 config.json");
        with_bundle(inside, &change)?;
        for _ in 0..2 {
            let failed = inside.try_sh("service start stuck")?;
            ensure!(
                failed.status != 0 && failed.text.contains("has not started it within "),
                "{hook}: {failed:?}"
            );
        }
        inside
            .until(&format!("left=$({STUCK_LEFT}); echo \"$left\"; test -z \"$left\""))
            .with_context(|| format!("left behind by {hook}"))?;
    }
    with_bundle(inside, "cp /tmp/sound config.json")?;
    inside.sh("service start stuck").map(drop)
}

#[test]
fn a_start_that_is_given_up_leaves_nothing_behind() -> Result<()> {
    let image = Image::new(&yaml(&["lkinit/init", "lkinit/crun"], STUCK))?;
    run_native("outage-given-up", &image, "", given_up).context("crun")?;
    let image = Image::new(&yaml(CONTAINERD, STUCK))?;
    run_native("outage-given-up", &image, "", given_up).context("containerd")
}

/// containerd's folder is on a disk, and the power fails: its records come
/// back, of containers that are long gone.
#[test]
fn containers_of_an_earlier_life_are_removed() -> Result<()> {
    let name = "outage-earlier";
    run_native(name, &Image::new(&yaml(CONTAINERD, &services()))?, "", |inside| {
        until(inside, LIMIT, "ten services", Picture::up)?;
        for _ in 0..2 {
            inside.power_cycle()?;
            for _ in 0..SERVICES {
                inside.expect(
                    "^lkinit: .* services: removed the container services.linuxkit/s. of an earlier life",
                )?;
            }
            let now = until(inside, LIMIT, "ten services", Picture::up)?;
            ensure!(now.starts.values().all(|count| *count == 1), "{:?}", now.starts);
            let records = inside.sh("ctr -n services.linuxkit containers ls -q | wc -l")?;
            ensure!(records.trim() == "10", "{records}");
        }
        Ok(())
    })
}

/// containerd 1.6 gives up when it clears up behind dead shims on a busy
/// machine, and forgets what is left then: a folder, a process.
#[test]
fn what_containerd_has_forgotten_is_in_nobodys_way() -> Result<()> {
    let name = "outage-forgotten";
    run_native(name, &Image::new(&yaml(CONTAINERD, &services()))?, "", |inside| {
        for _ in 0..2 {
            let before = until(inside, LIMIT, "ten services", Picture::up)?;
            inside.sh("kill -9 $(pidof rc.init) $(pidof containerd); sleep 0.05; kill -9 $(pidof containerd-shim-runc-v2 sleep)")?;
            let forgotten = "/run/containerd/io.containerd.runtime.v2.task/services.linuxkit/s5";
            let process = inside.sh(&format!(
                "runc --root /run/containerd/runc/services.linuxkit delete --force s5; rm -rf {forgotten}; mkdir -p {forgotten}
                 cd /containers/services/s5
                 runc --root /run/containerd/runc/services.linuxkit run --detach --pid-file /tmp/s5 s5 >>/var/log/s5.out.log 2>&1
                 cat /tmp/s5"
            ))?;
            // The one that is in the way may not come to say that it has started.
            let gone = [before.pids["s5"], process.trim().parse()?];
            let wanted = |now: &Picture| {
                now.up() && now.starts["s5"] > before.starts["s5"] && !gone.contains(&now.pids["s5"])
            };
            until(inside, LIMIT, "ten services", wanted)?;
            inside.until("test $(pidof sleep | wc -w) = 10").context("ten services, ten processes")?;
        }
        Ok(())
    })
}

/// What somebody stopped, or what has ended for good, stays so when rc is
/// started again; what waits goes on waiting.
#[test]
fn an_rc_that_takes_over_starts_nothing_that_was_down() -> Result<()> {
    let name = "outage-memory";
    let rest = "
services:
  - name: stopped
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo started; exec sleep 100000']
  - name: done
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo started; exit 0']
  - name: gaveup
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo started; exit 5']
    annotations: {lkinit.restart-max: 2/1h, lkinit.restart-delay: 10ms}
  - name: waits
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo started; exit 6']
    annotations: {lkinit.restart-delay: 1h}
";
    run_native(name, &Image::new(&yaml(&["lkinit/init", "lkinit/crun"], rest))?, "", |inside| {
        inside.expect("^lkinit: .* boot: done")?;
        inside.until("grep started /var/log/stopped.out.log")?;
        inside.sh("service stop stopped")?;
        inside.said("^lkinit: .* service gaveup: .*(given up|failed too often)")?;
        let counts = "cd /var/log; for s in stopped done gaveup waits; do grep -c started $s.out.log; done";
        inside.until(&format!("test \"$({counts} | tr '\\n' ' ')\" = '1 1 3 1 '"))?;
        inside.until("service status | grep 'waits: .*starting it again in'")?;
        let before = inside.sh("service status")?;
        for _ in 0..3 {
            let rc = inside.sh("pidof rc.init")?;
            inside.sh(&format!("kill -9 {rc}"))?;
            inside.expect("^lkinit: .* rc.init: started again; taking over")?;
            inside.supervised()?;
        }
        std::thread::sleep(Duration::from_secs(1));
        ensure!(inside.sh(counts)?.split_whitespace().eq(["1", "1", "3", "1"]), "{}", inside.sh(counts)?);
        let after = inside.sh("service status")?;
        // The time that is left until a restart goes on.
        let lasting = |text: &str| {
            text.lines().filter(|line| !line.contains("starting it again in")).map(str::to_owned).collect()
        };
        let (then, now): (Vec<String>, Vec<String>) = (lasting(&before), lasting(&after));
        ensure!(then == now, "before:\n{before}after:\n{after}");
        Ok(())
    })
}
