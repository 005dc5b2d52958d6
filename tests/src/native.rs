// SPDX-License-Identifier: Apache-2.0
//! An image without a machine: its root in namespaces of this kernel, started
//! as a container engine starts it, by its own `/sbin/init`.
//!
//! Nothing is emulated, so that times mean something and ten thousand restarts
//! take minutes. What only a machine has (devices, modules, the first root,
//! the kernel's end) is not tried here. Needs root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output as ProcessOutput, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use regex::Regex;

use crate::console::{Console, Found};
use crate::control::Output;
use crate::image::Image;
use crate::inside::Inside;
use crate::paths;
use crate::vm::{PATIENCE, brief, repeat};

/// What a container engine does: `$1` is the folder of the root, `$2` a name.
/// The cgroup namespace's root stays free of processes, as a machine's is.
const ENGINE: &str = r#"
set -e
root=$1
mount --bind "$root" "$root"
mount --make-rprivate "$root"
mount -t proc proc "$root/proc"
mount --bind "$root.cmdline" "$root/proc/cmdline"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/$2"
echo 0 >"$root/sys/fs/cgroup/$2/cgroup.procs"
for tree in run tmp var; do mount -t tmpfs $tree "$root/$tree"; done
mkdir -p "$root/var/log" "$root/var/lib/containerd"
if [ -d "$root.disk" ]; then mount --bind "$root.disk" "$root/var/lib/containerd"; fi
mount -t tmpfs dev "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind /dev/$device "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mkfifo "$root/dev/console"
mount --bind "$root.console" "$root/dev/console"
exec unshare --cgroup /bin/sh -c '
    umount "$1/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    mkdir "$1/sys/fs/cgroup/rc"
    echo 0 >"$1/sys/fs/cgroup/rc/cgroup.procs"
    ip link set lo up 2>/dev/null
    # Not chroot: who joins a container later, as exec does, gets the root of
    # its mount namespace, which a chroot does not change.
    cd "$1"
    pivot_root . .
    umount -l .
    exec /sbin/init' sh "$root"
"#;

/// A running image. It is killed when this is dropped.
pub struct Native {
    root: PathBuf,
    child: Child,
    first: u32,
    console: Console,
    cursor: usize,
    group: String,
}

impl Native {
    /// Starts `image` with these words as the kernel's command line. `name` is
    /// its folder below `target/tests`.
    pub fn start(name: &str, image: &Image, cmdline: &str) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "only root can start an image in namespaces");
        let folder = paths::fresh_folder(name)?;
        let root = folder.join("root");
        unpack(image, &root)?;
        fs::write(folder.join("root.cmdline"), format!("{cmdline}\n"))?;
        let fifo = folder.join("root.console");
        run(Command::new("mkfifo").arg(&fifo))?;
        // Both ends are held, so that neither who reads nor who writes waits
        // for the other, and the console has no end.
        let console = File::options().read(true).write(true).open(&fifo)?;
        let transcript = File::create(folder.join("transcript"))?;
        let console = Console::read(console, transcript, Instant::now())?;
        let group = format!("lkinit-{name}-{}", std::process::id());
        let child = engine(&root, &group)?;
        let mut native = Self { root, child, first: 0, console, cursor: 0, group };
        native.first = native.first_process()?;
        Ok(native)
    }

    /// Ends it as a power failure does, and starts it again. Only containerd's
    /// folder is kept, on a disk so to speak, and from now on.
    pub fn power_cycle(&mut self) -> Result<()> {
        let disk = self.root.with_extension("disk");
        if !disk.exists() {
            run(Command::new("cp").arg("-a").arg(self.path("/var/lib/containerd")).arg(&disk))?;
        }
        self.kill();
        self.child = engine(&self.root, &self.group)?;
        self.first = self.first_process()?;
        Ok(())
    }

    fn kill(&mut self) {
        let first = i32::try_from(self.first).unwrap_or(0);
        if first > 1 {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = remove_group(&self.group);
    }

    /// The first process of the namespaces, as the number it has outside.
    fn first_process(&mut self) -> Result<u32> {
        let log = self.root.with_extension("log");
        self.find_first().with_context(|| format!("it says: {}", fs::read_to_string(log).unwrap_or_default()))
    }

    fn find_first(&mut self) -> Result<u32> {
        let limit = Instant::now() + PATIENCE;
        let id = self.child.id();
        while Instant::now() < limit {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}");
            }
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
            let command = first.and_then(|pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
            if let (Some(first), Some("init")) = (first, command.as_deref().map(str::trim)) {
                return Ok(first);
            }
            sleep(Duration::from_millis(5));
        }
        bail!("no first process within {PATIENCE:?}")
    }

    /// A path inside, as it is reached from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.first))
    }

    /// The number that a process inside has outside.
    pub fn outside(&self, inside: u32) -> Result<u32> {
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", self.first))?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let Some(line) = status.lines().find_map(|line| line.strip_prefix("NSpid:")) else { continue };
            // Outermost first; a container's process has a third.
            let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            if numbers.get(1) != Some(&inside) {
                continue;
            }
            let own = fs::read_link(entry.path().join("ns/pid")).is_ok_and(|link| link == namespace);
            if own || numbers.len() > 2 && self.is_below(numbers[0]) {
                return Ok(numbers[0]);
            }
        }
        bail!("no process {inside} inside")
    }

    fn is_below(&self, mut pid: u32) -> bool {
        while pid > 1 && pid != self.first {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            pid = parent.and_then(|parent| parent.trim().parse().ok()).unwrap_or(0);
        }
        pid == self.first
    }

    /// What the console has said so far.
    pub fn console(&self) -> &Console {
        &self.console
    }

    fn find(&self, regex: &str, cursor: &mut usize) -> Result<Vec<String>> {
        let wanted = Regex::new(&format!("(?m){regex}"))?;
        match self.console.wait(&wanted, None, cursor, Instant::now() + PATIENCE) {
            Found::Match(groups) => Ok(groups),
            _ => bail!("/{regex}/ did not come within {PATIENCE:?}"),
        }
    }

    fn command(&self, command: &str) -> Command {
        let mut enter = Command::new("nsenter");
        enter.arg("--target").arg(self.first.to_string());
        enter.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd=/"]);
        enter.args(["/bin/sh", "-c", command]);
        enter.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        enter
    }
}

impl Inside for Native {
    fn try_sh(&mut self, command: &str) -> Result<Output> {
        let ProcessOutput { status, stdout, stderr } = self.command(command).output()?;
        let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        Ok(Output { status: status.code().unwrap_or(-1), text })
    }

    fn expect(&mut self, regex: &str) -> Result<Vec<String>> {
        let mut cursor = self.cursor;
        let found = self.find(regex, &mut cursor);
        self.cursor = cursor;
        found
    }

    fn said(&mut self, regex: &str) -> Result<Vec<String>> {
        self.find(regex, &mut 0)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn engine(root: &Path, group: &str) -> Result<Child> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare", "--kill-child=KILL"]);
    command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--propagation", "private"]);
    command.args(["/bin/sh", "-c", ENGINE, "sh"]).arg(root).arg(group);
    let errors = File::create(root.with_extension("log"))?;
    command.stdin(Stdio::null()).stdout(errors.try_clone()?).stderr(errors);
    command.spawn().context("running unshare: is util-linux installed?")
}

/// The image's files in a folder, with owners and modes.
fn unpack(image: &Image, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    let mut command = Command::new("cpio");
    command.args(["--extract", "--make-directories", "--quiet", "--preserve-modification-time"]);
    command.current_dir(root).stdin(Stdio::piped());
    let mut child = command.spawn().context("running cpio: is it installed?")?;
    let mut input = std::io::BufWriter::new(child.stdin.take().context("cpio has no input")?);
    pkg::cpio::write(image.root(), &mut input)?;
    input.flush()?;
    drop(input);
    ensure!(child.wait()?.success(), "cpio failed");
    Ok(())
}

/// Removes the control group of a run that is over, wherever this kernel has
/// its tree.
fn remove_group(name: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let tree = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| words.get(1).copied()).flatten()
    });
    let Some(tree) = tree else { return Ok(()) };
    let group = Path::new(tree).join(name);
    for _ in 0..50 {
        let mut found = Command::new("find");
        found.arg(&group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
        found.stderr(Stdio::null());
        if found.status()?.success() {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Runs `test` with `image`, natively; where that cannot be, says so in capitals.
pub fn run_native(
    name: &str,
    image: &Image,
    cmdline: &str,
    test: impl FnOnce(&mut Native) -> Result<()>,
) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{name}: LEFT OUT: only root can start an image in namespaces of this kernel");
        return Ok(());
    }
    let mut native = Native::start(name, image, cmdline)?;
    test(&mut native).map_err(|error| {
        // The reason first, for whoever shows the beginning of it.
        let (reason, again) = (brief(&format!("{error:#}")), repeat());
        Error::msg(format!("{reason}\nagain: {again}\nthe end of {name}:\n{}", native.console.tail(40)))
    })
}
