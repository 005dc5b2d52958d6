// SPDX-License-Identifier: Apache-2.0
//! What there is in a running image with ten services: who runs, how often
//! each was started, and everything that could leak.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::inside::Inside;

/// How many services.
pub const SERVICES: usize = 10;

/// Ten services, each of which writes a line when it starts. The first has
/// everything that is made around a container.
pub fn services() -> String {
    let mut text = String::from("services:\n");
    for n in 0..SERVICES {
        let _ = write!(
            text,
            "  - name: s{n}\n    image: lkinit/busybox\n    command: [/bin/sh, -c, 'echo started; exec sleep 10000{n}']\n"
        );
        if n == 0 {
            text += "    net: new
    runtime:
      mkdir: [/run/made]
      mounts:
        - {type: tmpfs, source: tmpfs, destination: /run/mounted, options: [size=1m]}
      cgroups: [extra]
      interfaces:
        - {name: inner, add: veth, peer: outer}
      bindNS: {net: /run/netns/s0, uts: /run/utsns/s0}
";
        }
    }
    text
}

/// How long anything may take: PID 1 waits up to 30 s before it starts rc
/// once more, and a machine is slow.
pub const LIMIT: Duration = Duration::from_secs(240);

/// What there is, at a moment when nothing moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub rc: u32,
    pub containerd: Option<u32>,
    /// Services that run, and their processes.
    pub pids: BTreeMap<String, u32>,
    /// The shim of each.
    pub shims: BTreeMap<String, u32>,
    /// How often each has been started.
    pub starts: BTreeMap<String, usize>,
    /// Everything that could leak.
    pub left: Left,
}

impl Picture {
    /// All services run, and the program of each has begun: a process runs a
    /// moment before its program says so.
    pub fn up(&self) -> bool {
        self.pids.len() == SERVICES
            && self.starts.len() == SERVICES
            && self.starts.values().all(|count| *count > 0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub zombies: usize,
    /// Names of services that have one.
    pub shims: BTreeSet<String>,
    /// Those of rc, but for logs: it keeps the files open that a service's
    /// output began in, one of which may not have been there at its first start.
    pub descriptors: usize,
    pub mounts: Vec<String>,
    pub groups: Vec<String>,
    pub links: Vec<String>,
    pub programs: Vec<String>,
}

/// As few programs as possible: a machine is emulated.
const LOOK: &str = r#"
rc=$(pidof rc.init)
echo rc $rc
echo containerd $(pidof containerd)
service status | sed 's/^/status /'
grep -c started /var/log/s?.out.log | sed 's/^/starts /'
grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | sed 's/^/zombie /'
for shim in $(grep -l '^containerd-shim' /proc/[0-9]*/comm 2>/dev/null); do
    shim=${shim%/comm}
    echo shim ${shim#/proc/} $(tr '\0' ' ' <$shim/cmdline)
done
ls -l /proc/[0-9]*/exe 2>/dev/null | grep -E '/(runc|crun)$' | sed 's/^/program /'
ls -l /proc/$rc/fd | sed -n 's/^.* -> /fd /p' | grep -v '^fd /var/log/'
sed 's/^/mount /' /proc/self/mountinfo
find /sys/fs/cgroup -type d | sed 's/^/group /'
ip -o link | sed 's/^/link /'
true
"#;

/// What there is now. A process that has been started and is not yet its own
/// program has its parent's name: what is there twice is looked at again.
pub fn look(inside: &mut dyn Inside) -> Result<Picture> {
    let mut seen = look_once(inside);
    for _ in 0..5 {
        if seen.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        seen = look_once(inside);
    }
    seen
}

fn look_once(inside: &mut dyn Inside) -> Result<Picture> {
    let text = inside.sh(LOOK)?;
    let lines = |word: &str| {
        let word = format!("{word} ");
        text.lines().filter_map(move |line| line.strip_prefix(&word)).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut pids = BTreeMap::new();
    for line in lines("status") {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, "running", pid, ..] = words[..]
            && let Ok(pid) = pid.parse()
        {
            pids.insert(name.to_owned(), pid);
        }
    }
    let starts = lines("starts").into_iter().filter_map(|line| {
        let (path, count) = line.split_once(':')?;
        let name = path.strip_prefix("/var/log/")?.strip_suffix(".out.log")?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    let shim = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "-id")?;
        Some((words.get(at + 1)?.to_string(), words.first()?.parse().ok()?))
    };
    let all = lines("shim");
    let shims: BTreeMap<String, u32> = all.iter().filter_map(shim).collect();
    ensure!(shims.len() == all.len(), "two shims of one service: {all:#?}");
    let mounts = lines("mount").into_iter().map(|line| {
        // Without the numbers, which tell one mount from another: where, what, with which options.
        let words: Vec<&str> = line.split(' ').collect();
        let dash = words.iter().position(|word| *word == "-").unwrap_or(words.len());
        let root = if words[3].starts_with("net:") || words[3].starts_with("uts:") { "" } else { words[3] };
        format!("{root} {} {} {}", words[4], words[5], words[dash..].join(" "))
    });
    let mut mounts: Vec<String> = mounts.collect();
    mounts.sort();
    let mut groups = lines("group");
    groups.sort();
    let links = lines("link").into_iter().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned()));
    let mut links: Vec<String> =
        links.map(|name| name.split('@').next().unwrap_or_default().to_owned()).collect();
    links.sort();
    let number = |word: &str| {
        let found = lines(word);
        let numbers: Vec<u32> =
            found.iter().flat_map(|line| line.split_whitespace()).filter_map(|n| n.parse().ok()).collect();
        ensure!(numbers.len() <= 1, "{word} runs {} times", numbers.len());
        Ok(numbers.first().copied())
    };
    Ok(Picture {
        rc: number("rc")?.context("no rc.init")?,
        containerd: number("containerd")?,
        pids,
        starts: starts.collect(),
        shims: shims.clone(),
        left: Left {
            zombies: lines("zombie").len(),
            shims: shims.keys().cloned().collect(),
            descriptors: lines("fd").len(),
            mounts,
            groups,
            links,
            programs: lines("program"),
        },
    })
}

/// Looks again and again until what is wanted is there.
pub fn until(
    inside: &mut dyn Inside,
    limit: Duration,
    what: &str,
    wanted: impl Fn(&Picture) -> bool,
) -> Result<Picture> {
    let end = Instant::now() + limit;
    let mut last = None;
    while Instant::now() < end {
        match look(inside) {
            Ok(picture) if wanted(&picture) => return Ok(picture),
            seen => last = Some(seen),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("{what}: not within {limit:?}; it is {last:#?}")
}

/// What rc has in memory, in KiB, as `/proc/PID/smaps_rollup` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `Private_Clean` and `Private_Dirty`: what nobody else has. On a root in
    /// memory the program's own pages are in it.
    pub private: u64,
    /// `Anonymous`: heap, stacks, variables.
    pub anonymous: u64,
    /// `Rss`.
    pub resident: u64,
}

/// Measures rc when it has been idle for a while.
pub fn memory(inside: &mut dyn Inside) -> Result<Memory> {
    let text = inside.sh("sleep 4; cat /proc/$(pidof rc.init)/smaps_rollup")?;
    let field = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|rest| rest.split_whitespace().next()).context(name.to_owned())?;
        Ok(number.parse()?)
    };
    Ok(Memory {
        private: field("Private_Clean")? + field("Private_Dirty")?,
        anonymous: field("Anonymous")?,
        resident: field("Rss")?,
    })
}
