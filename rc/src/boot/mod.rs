// SPDX-License-Identifier: Apache-2.0
//! The boot, in order: mounts, containerd, devices and settings, then
//! `/etc/init.d`; and after it, the supervisor that stays.

mod devices;
pub mod initd;
pub mod machine;
mod mounting;
pub mod mounts;
mod plan;
mod script;
mod state;
mod words;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use init::action::Kernel as _;
use init::cmdline::Cmdline;
use init::console::Console;
use init::sys::clock::since_boot;
use init::sys::{Linux, process};
use init::{error, info, warning};
use nix::sys::signal::Signal;
use tokio::sync::{Notify, watch};

use crate::bundle::Stage;
use crate::journal::Journal;
use crate::linger::watched;
use crate::modules::ColdPlug;
use crate::progress::{BOOTED, Progress};
use crate::reaper::Reaper;
use crate::shell::{self, Shells, point};
use crate::stages::Endings;
use crate::supervise::Supervisor;
use crate::system::System;
use crate::timeline::{BOOT, DEVICES, Span, Timeline, kernel};
use crate::{control, idle, paths, shutdown, stages};
use devices::Settling;
use initd::{Entry, OwnStage};
pub use plan::print as print_plan;

/// A booted system, and what is done to it at its end.
pub struct Boot {
    /// What every part works with.
    pub system: Rc<System>,
    /// What has happened.
    pub journal: Rc<Journal>,
    /// The services.
    pub services: Rc<Supervisor>,
    /// Told when nothing is left to supervise.
    pub finished: Notify,
    going_down: Cell<bool>,
    /// Cold plug, once it has settled.
    devices: Cell<Option<Rc<ColdPlug>>>,
    /// What is left of the onboot containers, and the mark of their stage.
    endings: Cell<Option<(String, Endings)>>,
    /// Whether everything is down.
    down: watch::Sender<bool>,
    /// Told when the machine begins to go down: no further step of the boot.
    leaving: Notify,
}

/// `rc.init`: boots, then supervises until the machine goes down. In a
/// container, until no process is left.
pub fn main() -> ExitCode {
    let begin = since_boot();
    init::sys::memory::share_heap();
    // In a container somebody else has made the mounts, and owns the kernel.
    let mut failures = Vec::new();
    if !Path::new("/proc/self").exists() {
        failures = mounting::everything(&Linux);
        // What the next life of rc tells a machine from a container by.
        if let Err(error) = fs::create_dir_all(paths::STATE).and_then(|()| fs::write(paths::MACHINE, "")) {
            failures.push(format!("write {}: {error}", paths::MACHINE));
        }
    }
    let (mounted, contained) = (since_boot(), !Path::new(paths::MACHINE).exists());
    let cmdline = Cmdline::current().unwrap_or_default();
    let console = Arc::new(Console::open(&cmdline));
    let _only = match state::take(Path::new(paths::STATE)) {
        Ok(lock) => lock,
        Err(error) => {
            match error {
                // That is for whoever has called it, on whatever terminal.
                state::Error::Taken => crate::cli::complain(&format!("rc.init: {error}")),
                _ => error!(console, "rc.init: {error}"),
            }
            return ExitCode::FAILURE;
        }
    };
    // Modules are loaded beside everything else that is to be made ready,
    // unless the boot is to stop before.
    let stops = shell::is_stop(&cmdline, point::DEVICES);
    let early = !contained && !stops && !Path::new(paths::PROGRESS).exists();
    let devices = early.then(|| (since_boot(), devices::start(console.clone())));
    let begun = Begun { at: begin, mounted, contained, devices: Cell::new(devices) };
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

/// How this life of rc began.
struct Begun {
    /// When, since the kernel started.
    at: Duration,
    /// When the mounts were made.
    mounted: Duration,
    /// Whether the kernel is somebody else's.
    contained: bool,
    /// Cold plug, and when it began, if it has.
    devices: Cell<Option<(Duration, Option<Settling>)>>,
}

async fn run(console: Arc<Console>, cmdline: Cmdline, begun: Begun) -> Result<(), state::Error> {
    // Orphans of scripts, and containers without a shim, come to us.
    if let Err(error) = process::become_subreaper() {
        warning!(
            console,
            "rc.init: cannot become a subreaper: {error}; containers without a shim lose their exit status"
        );
    }
    let reaper = Reaper::start().map_err(state::Error::Signals)?;
    let path = Path::new(paths::PROGRESS);
    let progress = Progress::open(path).map_err(|source| state::Error::at("open", path, source))?;
    let taking_over = progress.has(BOOTED);
    if taking_over {
        info!(console, "rc.init: started again; taking over");
    }
    let timeline = Timeline::open(Path::new(paths::TIMELINE)).unwrap_or_else(|error| {
        warning!(console, "rc.init: cannot open {}: {error}; no times are kept", paths::TIMELINE);
        Timeline::forgetful()
    });
    let mut mounts = Span::over(BOOT, "mounts", begun.at, begun.mounted);
    mounts.after = vec![kernel::last_id()];
    timeline.add(mounts);
    timeline.lead(BOOT);
    timeline.follow(DEVICES);
    // containerd takes longer than everything else together: its keeper gets
    // to start it before anything else is done.
    let mut system = System::start(console, cmdline, reaper, progress, timeline);
    // A container has its host's command line.
    if !begun.contained {
        let (shells, problems) = Shells::new(&system.cmdline);
        let problems = words::problems(&system.cmdline).into_iter().chain(problems);
        problems.for_each(|problem| warning!(system.console, "{problem}"));
        system.shells = shells;
    }
    let system = Rc::new(system);
    tokio::task::yield_now().await;
    let journal = Journal::new(Path::new(paths::EVENTS));
    if taking_over {
        journal.note("rc.init", ("ended", "running"), "started again".to_owned());
    }
    if let Some(daemon) = &system.daemon {
        journal.watch(daemon);
    }
    let boot = Boot::new(system.clone(), journal);
    if let Err(error) = control::serve(Path::new(paths::CONTROL), boot.clone()) {
        let path = paths::CONTROL;
        error!(system.console, "rc.init: cannot listen on {path}: {error}; `service` does what it can alone");
    }
    {
        let system = system.clone();
        tokio::task::spawn_local(async move { shell::always(&system).await });
    }
    tokio::select! {
        () = boot.bring_up(taking_over, &begun) => {}
        () = boot.leaving.notified() => {
            if !system.progress.has(BOOTED) {
                info!(system.console, "boot: given up, as the machine goes down");
            }
        }
    }
    tokio::task::spawn_local(idle::rest());
    // A container ends with its first process, which may be this one: then
    // nothing is to be left. Under PID 1 it ends when PID 1 is told to.
    if begun.contained && std::process::id() == 1 {
        tokio::select! {
            () = boot.nothing_left() => {}
            () = boot.finished.notified() => {}
        }
        system.logger.stop();
    } else {
        boot.finished.notified().await;
    }
    Ok(())
}

impl Boot {
    /// A system whose services are not known yet.
    pub fn new(system: Rc<System>, journal: Rc<Journal>) -> Rc<Self> {
        let services = Supervisor::new(system.clone(), journal.clone());
        let (finished, leaving) = (Notify::new(), Notify::new());
        Rc::new(Self {
            system,
            journal,
            services,
            finished,
            going_down: Cell::new(false),
            devices: Cell::new(None),
            endings: Cell::new(None),
            down: watch::Sender::new(false),
            leaving,
        })
    }

    /// Everything up to the last service.
    async fn bring_up(self: &Rc<Self>, taking_over: bool, begun: &Begun) {
        let (system, folder) = (&self.system, Path::new(paths::INIT_D));
        if !taking_over {
            let entries = initd::plan(folder, &own_program(), initd::BOOT).unwrap_or_default();
            let names: Vec<String> = entries.iter().map(Entry::name).collect();
            let mut known = vec![point::DEVICES, point::INIT_D];
            known.extend(names.iter().map(String::as_str).chain([point::BOOTED]));
            for problem in system.shells.unknown(&known) {
                warning!(system.console, "{problem}");
            }
            shell::before(system, point::DEVICES).await;
        }
        if !begun.contained {
            self.prepare_machine(taking_over, begun.devices.take()).await;
        }
        if taking_over {
            return self.services.start_all().await;
        }
        shell::before(system, point::INIT_D).await;
        self.run_entries(folder, initd::BOOT).await;
        self.settle_onboot().await;
        shell::before(system, point::BOOTED).await;
        system.progress.mark(BOOTED);
        info!(system.console, "boot: done");
        // Devices and the kernel's log are read now, when nobody waits for it.
        system.timeline.done(|| match begun.contained {
            true => Vec::new(),
            false => {
                devices::note_parents(&system.timeline);
                kernel::before_rc(begun.at)
            }
        });
        // Hundreds of messages, for those who listen: they do now, and nobody
        // else waits for a processor.
        if let Some(devices) = self.devices.take() {
            devices.trigger();
        }
    }

    /// Devices and settings, side by side with containerd's start.
    async fn prepare_machine(&self, taking_over: bool, devices: Option<(Duration, Option<Settling>)>) {
        let (console, kernel) = (&self.system.console, &self.system.kernel);
        let timeline = &self.system.timeline;
        let (begin, devices) = devices.unwrap_or_else(|| (since_boot(), devices::start(console.clone())));
        timeline.begin_at(DEVICES, "settle", begin);
        timeline.step("settings", || self.set_up());
        let settled = devices::settled(console, timeline, devices);
        self.devices.set(watched(console, "devices: still settling", None, settled).await);
        timeline.end(DEVICES, "settle");
        timeline.join(DEVICES);
        if self.system.cmdline.has("lkinit.watchdog") {
            // PID 1 looks for its device, which has come by now, if it comes.
            let _ = process::signal(1, Signal::SIGHUP);
        }
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
            shell::before(&self.system, &entry.name()).await;
            match entry {
                Entry::Script(path) => {
                    script::run(&self.system, &path, &mark, Path::new(paths::SCRIPT)).await;
                }
                Entry::Own(OwnStage::Onboot) => {
                    // The stage is done, and marked, when nothing is left of it.
                    let endings = stages::run_in_order(&self.system, Stage::Onboot).await;
                    self.endings.set(Some((mark, endings)));
                    continue;
                }
                Entry::Own(stage) => self.run_stage(stage).await,
            }
            self.system.progress.mark(&mark);
        }
    }

    /// Does one of our own stages.
    pub async fn run_stage(self: &Rc<Self>, stage: OwnStage) {
        match stage {
            OwnStage::Volumes => self.system.timeline.step("volumes", || stages::mount_volumes(&self.system)),
            OwnStage::Onboot | OwnStage::Onshutdown => {
                let stage = if stage == OwnStage::Onboot { Stage::Onboot } else { Stage::Onshutdown };
                stages::run_in_order(&self.system, stage).await.settle(&self.system).await;
            }
            OwnStage::Services => {
                if let Some(daemon) = self.system.daemon.as_ref().filter(|daemon| daemon.has_new_disk()) {
                    // What it is to remove is not on the disk.
                    self.settle_onboot().await;
                    daemon.follow_disk(&self.system.console).await;
                }
                self.services.start_all().await;
            }
        }
    }

    /// Waits until nothing is left of the onboot containers.
    async fn settle_onboot(&self) {
        if let Some((mark, endings)) = self.endings.take() {
            endings.settle(&self.system).await;
            self.system.progress.mark(&mark);
        }
    }

    /// Takes everything down that this process has brought up: onshutdown
    /// containers, services, containerd. A second call waits for the first:
    /// whoever asks goes on to end what is left.
    pub async fn shut_down(self: &Rc<Self>) {
        if self.going_down.replace(true) {
            // It fails only when this boot is gone.
            let _ = self.down.subscribe().wait_for(|down| *down).await;
            return;
        }
        let (console, begin) = (&self.system.console, since_boot());
        self.system.shells.close();
        self.leaving.notify_one();
        self.run_entries(Path::new(paths::SHUTDOWN_D), initd::SHUTDOWN).await;
        let scripts = since_boot();
        self.services.stop_all(shutdown::limit(&self.system.cmdline, console).services).await;
        self.services.unprepare_all();
        let services = since_boot();
        if let Some(daemon) = &self.system.daemon {
            daemon.stop().await;
        }
        info!(
            console,
            "shutdown: onshutdown {:.3}s, services {:.3}s, containerd {:.3}s",
            scripts.saturating_sub(begin).as_secs_f32(),
            services.saturating_sub(scripts).as_secs_f32(),
            since_boot().saturating_sub(services).as_secs_f32()
        );
        self.down.send_replace(true);
    }
}

/// The file of this program, symbolic links resolved.
fn own_program() -> PathBuf {
    fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("/usr/bin/service"))
}
