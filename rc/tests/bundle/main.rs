// SPDX-License-Identifier: Apache-2.0
//! Bundles on the real kernel, in mount and network namespaces of their own.
//!
//! They need root, and links of kinds that a kernel may lack. What cannot be
//! tried is said on stderr, past the test harness, which would swallow it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod golden;
mod mounts;
mod namespaces;
mod network;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use init::action::{Action, Kernel as _};
use init::mount::{Mount, MsFlags};
use init::mountinfo::MountTable;
use init::sys::Linux;
use nix::sched::{CloneFlags, CpuSet, sched_getcpu, sched_setaffinity, unshare};
use nix::unistd::Pid;
use rc::bundle::{Bundle, Stage};

/// Says that something was not tested.
fn left_out(what: &str) {
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {what}");
}

/// Runs a test on a thread with mounts and a network of its own, in an empty
/// tmpfs that is shared as everything in an image is.
fn in_image(test: impl FnOnce(&Path) + Send) {
    if !nix::unistd::geteuid().is_root() {
        return left_out("a test of mounts and networks, which needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            stay_on_one_processor();
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
            let mount = |call| Linux.apply(&Action::Mount(call)).unwrap();
            mount(Mount::propagation("/", MsFlags::MS_PRIVATE | MsFlags::MS_REC));
            mount(Mount::new("tmpfs", &root, ""));
            mount(Mount::propagation(&root, MsFlags::MS_SHARED));
            test(&root);
        });
        // The test's own panic, so that its message is the one that is shown.
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Keeps this thread and all that it starts on one processor.
///
/// A mount namespace cannot be bound in one that is not older (`mnt_ns_loop()`
/// in the kernel's fs/namespace.c). Linux 6.18 tells the age by a number that
/// each processor takes from a stock of its own, so that a namespace made later
/// on another one may count as older; the bind fails with EINVAL. A machine's
/// first mount namespace has the lowest number of all, and no such trouble.
fn stay_on_one_processor() {
    let mut set = CpuSet::new();
    let here = sched_getcpu().unwrap();
    set.set(here).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// A bundle in `root`; `ROOT` in `runtime` is its folder.
fn bundle(root: &Path, name: &str, runtime: &str) -> Bundle {
    let path = root.join("services").join(name);
    fs::create_dir_all(path.join("rootfs")).unwrap();
    fs::create_dir_all(path.join("lower")).unwrap();
    fs::create_dir_all(path.join("tmp")).unwrap();
    fs::write(path.join("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
    fs::write(path.join("runtime.json"), runtime.replace("ROOT", path.to_str().unwrap())).unwrap();
    Bundle::load(&path, Stage::Services).unwrap()
}

fn table() -> MountTable {
    MountTable::read().unwrap()
}

/// The filesystem types mounted on exactly `path`, the lowest first.
fn types(path: impl Into<PathBuf>) -> Vec<String> {
    table().on(&path.into()).iter().map(|mount| mount.fstype.clone()).collect()
}

/// A process in namespaces of its own, as a container that was created.
struct Process(Child);

impl Process {
    fn start() -> Self {
        Self::with(&["--net", "--mount", "--uts", "--ipc"])
    }

    /// `--net=FILE` joins a network namespace.
    fn with(unshared: &[&str]) -> Self {
        let (program, unshared) = match unshared {
            [join] if join.starts_with("--net=") => ("nsenter", unshared),
            _ => ("unshare", unshared),
        };
        let mut child = Command::new(program)
            .args(unshared)
            .args(["sh", "-c", "echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{program} {unshared:?}");
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    fn namespace(&self, name: &str) -> PathBuf {
        fs::read_link(format!("/proc/{}/ns/{name}", self.pid())).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
