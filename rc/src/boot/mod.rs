// SPDX-License-Identifier: Apache-2.0
//! The boot, in order: mounts, containerd, devices and settings, then
//! `/etc/init.d`; and after it, the supervisor that stays.

mod devices;
pub mod initd;
pub mod machine;
pub mod mounts;
mod plan;

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use init::action::{Action, Kernel};
use init::cmdline::Cmdline;
use init::console::Console;
use init::sys::clock::since_boot;
use init::sys::{Linux, process};
use init::{debug, error, info, warning};
use nix::errno::Errno;
use tokio::sync::Notify;

use crate::bundle::Stage;
use crate::progress::{BOOTED, Progress};
use crate::reaper::Reaper;
use crate::supervise::Supervisor;
use crate::system::System;
use crate::timeline::{BOOT, DEVICES, Span, Timeline, kernel};
use crate::{control, idle, paths, stages};
use initd::{Entry, OwnStage};
pub use plan::print as print_plan;

/// How long services may take to stop when the machine goes down, unless
/// `lkinit.shutdown-timeout=` says otherwise.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A booted system, and what is done to it at its end.
pub struct Boot {
    /// What every part works with.
    pub system: Rc<System>,
    /// The services.
    pub services: Rc<Supervisor>,
    /// Told when nothing is left to supervise.
    pub finished: Notify,
    going_down: Cell<bool>,
}

/// `rc.init`: boots, then supervises until the machine goes down. In a
/// container, until no process is left.
pub fn main() -> ExitCode {
    let begin = since_boot();
    init::sys::memory::share_heap();
    // In a container somebody else has made the mounts, and owns the kernel.
    let mut failures = Vec::new();
    if !Path::new("/proc/self").exists() {
        failures = mount_everything(&Linux);
        // What the next life of rc tells a machine from a container by.
        if let Err(error) = fs::create_dir(paths::STATE).and_then(|()| fs::write(paths::MACHINE, "")) {
            failures.push(format!("write {}: {error}", paths::MACHINE));
        }
    }
    let begun = Begun { at: begin, mounted: since_boot(), contained: !Path::new(paths::MACHINE).exists() };
    let cmdline = Cmdline::current().unwrap_or_default();
    let console = Arc::new(Console::open(&cmdline));
    for failure in failures {
        error!(console, "{failure}; the boot goes on");
    }
    let runtime = idle::observed(tokio::runtime::Builder::new_current_thread().enable_all()).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(console, "rc.init: cannot make an event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, run(console.clone(), cmdline, begun)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(console, "rc.init: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The mounts come before everything: there is nothing to print on, and
/// nothing to read, until they are made. Returns what went wrong.
fn mount_everything(kernel: &dyn Kernel) -> Vec<String> {
    let mut failures = Vec::new();
    let mut apply = |step: &mounts::Step| {
        if let Err(error) = apply_mount(kernel, &step.action)
            && !step.optional
        {
            failures.push(format!("{}: {error}", step.action));
        }
    };
    apply(&mounts::proc());
    let cmdline = Cmdline::current().unwrap_or_default();
    let legacy = cmdline.flag("linuxkit.unified_cgroup_hierarchy") == Some(false);
    let controllers = legacy.then(|| fs::read_to_string("/proc/cgroups").unwrap_or_default());
    mounts::plan(controllers.as_deref()).iter().for_each(apply);
    failures
}

fn apply_mount(kernel: &dyn Kernel, action: &Action) -> io::Result<()> {
    match kernel.apply(action) {
        // The kernel has mounted /dev itself on a root that is a disk.
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => match action {
            Action::Mount(mount) if mount.fstype == "devtmpfs" => Ok(()),
            _ => Err(error),
        },
        // `favordynmods` came with Linux 6.0.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => match action {
            Action::Mount(mount) if *mount == mounts::cgroup2(true) => {
                kernel.apply(&Action::Mount(mounts::cgroup2(false)))
            }
            _ => Err(error),
        },
        other => other,
    }
}

/// How this life of rc began.
struct Begun {
    /// When, since the kernel started.
    at: Duration,
    /// When the mounts were made.
    mounted: Duration,
    /// Whether the kernel is somebody else's.
    contained: bool,
}

async fn run(console: Arc<Console>, cmdline: Cmdline, begun: Begun) -> io::Result<()> {
    // Orphans of scripts, and containers without a shim, come to us.
    if let Err(error) = process::become_subreaper() {
        warning!(
            console,
            "rc.init: cannot become a subreaper: {error}; containers without a shim lose their exit status"
        );
    }
    fs::create_dir_all(paths::STATE)?;
    fs::set_permissions(paths::STATE, fs::Permissions::from_mode(0o700))?;
    let reaper = Reaper::start()?;
    let progress = Progress::open(Path::new(paths::PROGRESS))?;
    let taking_over = progress.has(BOOTED);
    if taking_over {
        info!(console, "rc.init: started again; taking over");
    }
    let timeline = Timeline::open(Path::new(paths::TIMELINE))?;
    let mut mounts = Span::over(BOOT, "mounts", begun.at, begun.mounted);
    mounts.after = vec![kernel::last_id()];
    timeline.add(mounts);
    timeline.lead(BOOT);
    // containerd takes longer than everything else together: its keeper gets
    // to start it before anything else is done.
    let system = Rc::new(System::start(console, cmdline, reaper, progress, timeline));
    tokio::task::yield_now().await;
    let boot = Rc::new(Boot {
        services: Supervisor::new(system.clone()),
        system: system.clone(),
        finished: Notify::new(),
        going_down: Cell::new(false),
    });
    control::serve(Path::new(paths::CONTROL), boot.clone())?;
    if !begun.contained {
        boot.prepare_machine(taking_over).await;
    }
    if taking_over {
        boot.services.start_all().await;
    } else {
        boot.run_entries(Path::new(paths::INIT_D), initd::BOOT).await;
        system.progress.mark(BOOTED);
        info!(system.console, "boot: done");
        // The kernel's log is read now, when nobody waits for it.
        system.timeline.done(|| match begun.contained {
            true => Vec::new(),
            false => kernel::before_rc(begun.at),
        });
    }
    tokio::task::spawn_local(idle::rest());
    // A container ends with its first process, which may be this one: then
    // nothing is to be left. Under PID 1 it ends when PID 1 is told to.
    if begun.contained && std::process::id() == 1 {
        tokio::select! {
            () = boot.nothing_left() => {}
            () = boot.finished.notified() => {}
        }
    } else {
        boot.finished.notified().await;
    }
    Ok(())
}

impl Boot {
    /// Devices and settings, side by side with containerd's start.
    async fn prepare_machine(&self, taking_over: bool) {
        let (console, kernel) = (&self.system.console, &self.system.kernel);
        let timeline = &self.system.timeline;
        timeline.follow(DEVICES);
        timeline.begin(DEVICES, "settle");
        let devices = devices::start(console.clone());
        timeline.step("settings", || self.set_up());
        devices::settled(console, timeline, devices).await;
        timeline.end(DEVICES, "settle");
        timeline.join(DEVICES);
        if !taking_over {
            // These two ask devices that a module may have brought.
            timeline.step("clock", || machine::set_clock(console));
            timeline.step("hostname", || machine::set_hostname(kernel, console));
        }
    }

    /// What needs no device: limits, loopback, resolver.
    fn set_up(&self) {
        let (console, kernel) = (&self.system.console, &self.system.kernel);
        for action in machine::limits() {
            if let Err(error) = kernel.apply(&action) {
                warning!(console, "{action}: {error}; the old limit stays");
            }
        }
        if let Err(error) = init::net::loopback_up() {
            error!(console, "loopback: {error}; the boot goes on without it");
        }
        if let Err((path, error)) = machine::resolver(Path::new("/etc/resolv.conf")) {
            warning!(console, "resolver: cannot make {}: {error}", path.display());
        }
    }

    /// Waits until there is no child, and no service that will be one again.
    async fn nothing_left(&self) {
        loop {
            self.services.all_down().await;
            self.system.reaper.childless().await;
            if self.services.is_down() {
                return;
            }
        }
    }

    /// Does what a folder asks for, in the order of names.
    async fn run_entries(self: &Rc<Self>, folder: &Path, stages: &[(&str, OwnStage)]) {
        let console = &self.system.console;
        let own = own_program();
        let entries = initd::plan(folder, &own, stages).unwrap_or_else(|error| {
            error!(console, "cannot read {}: {error}; its scripts are not run", folder.display());
            stages.iter().map(|(_, stage)| Entry::Own(*stage)).collect()
        });
        for entry in entries {
            let mark = entry.to_string();
            if self.system.progress.has(&mark) {
                continue;
            }
            match entry {
                Entry::Script(path) => self.run_script(&path).await,
                Entry::Own(stage) => self.run_stage(stage).await,
            }
            self.system.progress.mark(&mark);
        }
    }

    /// Does one of our own stages.
    pub async fn run_stage(self: &Rc<Self>, stage: OwnStage) {
        match stage {
            OwnStage::Volumes => self.system.timeline.step("volumes", || stages::mount_volumes(&self.system)),
            OwnStage::Onboot => stages::run_in_order(&self.system, Stage::Onboot).await,
            OwnStage::Onshutdown => stages::run_in_order(&self.system, Stage::Onshutdown).await,
            OwnStage::Services => {
                if let Some(daemon) = &self.system.daemon {
                    daemon.follow_disk(&self.system.console).await;
                }
                self.services.start_all().await;
            }
        }
    }

    async fn run_script(&self, path: &Path) {
        let console = &self.system.console;
        let begin = since_boot();
        let timeline = &self.system.timeline;
        let lane = format!("script {}", path.file_name().unwrap_or_default().display());
        timeline.follow(&lane);
        timeline.begin(&lane, "run");
        let mut command = Command::new(path);
        command.env("PATH", paths::PATH).stdin(Stdio::null()).current_dir("/");
        let result = self.system.reaper.run(&mut command).await;
        match &result {
            Ok(exit) if exit.success() => timeline.end(&lane, "run"),
            Ok(exit) => timeline.fail(&lane, "run", exit),
            Err(error) => timeline.fail(&lane, "run", error),
        }
        timeline.lead(&lane);
        match result {
            Ok(exit) if exit.success() => {
                let took = since_boot().saturating_sub(begin).as_secs_f32();
                debug!(console, "{}: done in {took:.3}s", path.display());
            }
            Ok(exit) => warning!(console, "{}: failed: {exit}; the boot goes on", path.display()),
            Err(error) => warning!(console, "{}: cannot be run: {error}; the boot goes on", path.display()),
        }
    }

    /// Takes everything down that this process has brought up: onshutdown
    /// containers, services, containerd. A second call does nothing.
    pub async fn shut_down(self: &Rc<Self>) {
        if self.going_down.replace(true) {
            return;
        }
        self.run_entries(Path::new(paths::SHUTDOWN_D), initd::SHUTDOWN).await;
        let wanted = self.system.cmdline.get("lkinit.shutdown-timeout");
        let limit = wanted.and_then(crate::supervise::policy::duration).unwrap_or(SHUTDOWN_TIMEOUT);
        self.services.stop_all(limit).await;
        self.services.unprepare_all();
        if let Some(daemon) = &self.system.daemon {
            daemon.stop().await;
        }
    }
}

/// The file of this program, symbolic links resolved.
fn own_program() -> PathBuf {
    fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("/usr/bin/service"))
}
