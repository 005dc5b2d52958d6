// SPDX-License-Identifier: Apache-2.0
//! Services: what keeps them up.
//!
//! [`state`] decides, this driver carries out: it feeds events to the state
//! machine of each service and does what the machine asks for.

mod events;
mod memory;
pub mod policy;
mod report;
pub mod state;
mod takeover;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use init::mountinfo::MountTable;
use init::sys::clock::since_boot;
use init::{error, warning};
use nix::libc::SIGKILL;
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};

use crate::bundle::{self, Bundle, Stage};
use crate::engine::{Engine, Error as EngineError, Exit, Id};
use crate::launch;
use crate::paths;
use crate::process;
use crate::system::System;
use crate::timeline::WAITING;
pub use events::Change;
use events::Changes;
use memory::Memory;
use policy::Policy;
pub use report::Status;
use report::{report, word};
use state::{Effect, Event, Machine, Phase, Why};

/// The pause between two looks at an engine that has failed to come up.
const ENGINE_AWAY: Duration = Duration::from_secs(1);

/// How long the end of something that was killed may take.
const KILLED: Duration = Duration::from_secs(2);

struct Service {
    bundle: Rc<Bundle>,
    policy: Policy,
    machine: Machine,
    pid: Option<u32>,
    /// Why the last start failed.
    problem: Option<Problem>,
}

/// Why a service could not be started, and how often in a row for the same reason.
struct Problem {
    text: String,
    times: u32,
}

impl Problem {
    fn new(text: String) -> Self {
        Self { text, times: 1 }
    }
}

/// The services of the machine.
pub struct Supervisor {
    system: Rc<System>,
    services: RefCell<BTreeMap<String, Service>>,
    memory: Memory,
    /// Whether what an earlier rc has left has been looked at.
    taken_over: Cell<bool>,
    /// Counts changes of phase, for those who wait for one.
    changes: watch::Sender<u64>,
    told: Changes,
}

impl Supervisor {
    /// A supervisor without services.
    pub fn new(system: Rc<System>) -> Rc<Self> {
        Rc::new(Self {
            system,
            services: RefCell::default(),
            memory: Memory::new(Path::new(paths::SERVICES)),
            taken_over: Cell::new(false),
            changes: watch::Sender::new(0),
            told: Changes::default(),
        })
    }

    /// Reads the image's services, takes over what an earlier rc knew of them,
    /// and starts the others, all at once. Returns when each has come up or
    /// has failed the first time.
    pub async fn start_all(self: &Rc<Self>) {
        let console = &self.system.console;
        let listing = match bundle::list(&self.system.containers, Stage::Services) {
            Ok(listing) => listing,
            Err(error) => return error!(console, "services: {error}; none is started"),
        };
        for warning in listing.warnings {
            warning!(console, "services: {warning}");
        }
        for path in listing.paths {
            self.load(&path);
        }
        if self.services.borrow().is_empty() {
            return;
        }
        let engine = match self.system.engine_ready(Stage::Services).await {
            Ok(engine) => engine,
            // It is tried again and again. Services that run do so meanwhile.
            Err(error) if self.system.engine(Stage::Services).is_ok() => {
                error!(console, "services: {error}; they are looked after as soon as it does");
                let supervisor = self.clone();
                tokio::task::spawn_local(async move {
                    supervisor.engine_back().await;
                    if let Ok(engine) = supervisor.system.engine(Stage::Services) {
                        supervisor.bring_up(&engine).await;
                    }
                });
                return;
            }
            Err(error) => return error!(console, "services: {error}; none is started"),
        };
        self.bring_up(&engine).await;
    }

    /// Takes over what an earlier rc knew, and starts the others.
    async fn bring_up(self: &Rc<Self>, engine: &Rc<dyn Engine>) {
        let again = self.taken_over.get();
        self.take_over(engine).await;
        // An rc that takes over leaves down what was down; a person who asks
        // for all means all.
        let new = |service: &Service| again || service.machine.phase == Phase::Down(Why::New);
        let names = |services: &BTreeMap<String, Service>| {
            let wanted = services.iter().filter(|(_, service)| new(service));
            wanted.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let names = names(&self.services.borrow());
        let timeline = &self.system.timeline;
        let waits: Vec<_> = names
            .into_iter()
            .map(|name| {
                let lane = format!("{} {name}", Stage::Services);
                timeline.follow(&lane);
                timeline.begin(&lane, WAITING);
                let supervisor = self.clone();
                (lane, tokio::task::spawn_local(async move { supervisor.start(&name).await }))
            })
            .collect();
        for (lane, wait) in waits {
            // What went wrong has been told on the console.
            let _ = wait.await;
            timeline.join(&lane);
        }
    }

    /// Reads one service.
    fn load(&self, path: &Path) -> Option<()> {
        let console = &self.system.console;
        let bundle = match Bundle::load(path, Stage::Services) {
            Ok(bundle) => bundle,
            Err(error) => {
                error!(console, "{error}; the service is left out");
                return None;
            }
        };
        let label = bundle.label();
        let (policy, unreadable) = Policy::from_annotations(bundle.annotations());
        for warning in unreadable.iter().map(ToString::to_string).chain(bundle.warnings.iter().cloned()) {
            warning!(console, "{label}: {warning}");
        }
        let name = bundle.name.clone();
        // What an earlier rc knew counts until its services are taken over.
        let known = (!self.taken_over.get()).then(|| self.memory.recall(&name)).flatten();
        let service = Service {
            machine: known.unwrap_or_default(),
            bundle: Rc::new(bundle),
            policy,
            pid: None,
            problem: None,
        };
        self.services.borrow_mut().entry(name).or_insert(service);
        Some(())
    }

    /// Starts a service and waits until it is up.
    ///
    /// # Errors
    /// In words: there is no such service, or why it did not come up.
    pub async fn start(self: &Rc<Self>, name: &str) -> Result<(), String> {
        self.command(name, Event::Start)?;
        self.until(name, |phase| match phase {
            Phase::Up(_) => Some(true),
            Phase::Down(_) | Phase::Waiting(_) => Some(false),
            _ => None,
        })
        .await
    }

    /// Stops a service and waits until it is down.
    ///
    /// # Errors
    /// There is no such service.
    pub async fn stop(self: &Rc<Self>, name: &str) -> Result<(), String> {
        self.command(name, Event::Stop)?;
        self.until(name, |phase| matches!(phase, Phase::Down(_)).then_some(true)).await
    }

    /// Stops a service if it is up, starts it, and waits until it is up.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub async fn restart(self: &Rc<Self>, name: &str) -> Result<(), String> {
        self.command(name, Event::Restart)?;
        self.until(name, |phase| match phase {
            Phase::Up(_) => Some(true),
            Phase::Down(_) | Phase::Waiting(_) => Some(false),
            _ => None,
        })
        .await
    }

    /// Stops every service. What is still up after `limit` is killed, whatever
    /// its own patience.
    pub async fn stop_all(self: &Rc<Self>, limit: Duration) {
        let names: Vec<String> = self.services.borrow().keys().cloned().collect();
        for name in &names {
            self.handle(name, Event::Stop);
        }
        if timeout(limit, self.all_down()).await.is_ok() {
            return;
        }
        for name in self.up() {
            warning!(
                self.system.console,
                "service {name}: still up after {:.1}s: killing it",
                limit.as_secs_f32()
            );
            self.signal(&name, SIGKILL, true).await;
        }
        if timeout(KILLED, self.all_down()).await.is_err() {
            warning!(self.system.console, "shutdown: services that do not end: {}", self.up().join(", "));
        }
    }

    /// Waits until no service runs, and none will by itself.
    pub async fn all_down(&self) {
        let mut changes = self.changes.subscribe();
        while !self.is_down() && changes.changed().await.is_ok() {}
    }

    /// Whether no service runs, and none will by itself.
    pub fn is_down(&self) -> bool {
        self.up().is_empty()
    }

    /// The services that are not down.
    fn up(&self) -> Vec<String> {
        let services = self.services.borrow();
        let up = services.iter().filter(|(_, service)| !matches!(service.machine.phase, Phase::Down(_)));
        up.map(|(name, _)| name.clone()).collect()
    }

    /// The last changes of state, the oldest first, and those to come.
    pub fn subscribe(&self) -> (Vec<Change>, broadcast::Receiver<Change>) {
        self.told.subscribe()
    }

    /// Every service, by name.
    pub fn status(&self) -> Vec<Status> {
        let now = since_boot();
        let status = |(name, service): (&String, &Service)| Status {
            name: name.clone(),
            state: word(service.machine.phase).to_owned(),
            pid: service.pid,
            uptime: match service.machine.phase {
                Phase::Up(since) => Some(now.saturating_sub(since).as_secs()),
                _ => None,
            },
            restarts: service.machine.restarts,
            last_exit: service.machine.last_exit.and_then(|exit| exit.status),
            ready: matches!(service.machine.phase, Phase::Up(_)),
            health: None,
            after: Vec::new(),
            reason: service.problem.as_ref().map(|problem| problem.text.clone()),
        };
        self.services.borrow().iter().map(status).collect()
    }

    fn command(self: &Rc<Self>, name: &str, event: Event) -> Result<(), String> {
        // A bundle may have come since the boot, by a tool that makes them.
        if !self.services.borrow().contains_key(name) {
            let path = self.system.containers.join(Stage::Services.folder()).join(name);
            if name.contains('/') || !path.is_dir() || self.load(&path).is_none() {
                return Err(format!("no service {name:?} under {}", self.system.containers.display()));
            }
        }
        self.handle(name, event);
        Ok(())
    }

    /// Waits until `done` says how it went: `true` well, `false` not.
    async fn until(&self, name: &str, done: impl Fn(Phase) -> Option<bool>) -> Result<(), String> {
        let mut changes = self.changes.subscribe();
        loop {
            let outcome = self.services.borrow().get(name).map(|service| {
                let problem = service.problem.as_ref().map(|problem| problem.text.clone());
                let exit = service.machine.last_exit.map(|exit| format!("ended with {exit}"));
                (done(service.machine.phase), problem.or(exit))
            });
            match outcome {
                None => return Err(format!("no service {name:?}")),
                Some((Some(true), _)) => return Ok(()),
                Some((Some(false), why)) => return Err(why.unwrap_or_else(|| "stopped meanwhile".to_owned())),
                Some((None, _)) => {}
            }
            if changes.changed().await.is_err() {
                return Err("the supervisor is ending".to_owned());
            }
        }
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Service) -> T) -> Option<T> {
        self.services.borrow_mut().get_mut(name).map(change)
    }

    /// Feeds an event to a service's machine and carries out what it asks for.
    fn handle(self: &Rc<Self>, name: &str, event: Event) {
        let now = since_boot();
        let step = self.with(name, |service| {
            let before = service.machine.phase;
            let effects = service.machine.step(&service.policy, event, now);
            report(&self.system.console, name, service, event, before, now);
            let after = service.machine.phase;
            if after != before {
                let why = match (event, &service.problem) {
                    (Event::Exited(exit), _) => exit.to_string(),
                    (Event::Launched, _) => format!("process {}", service.pid.unwrap_or_default()),
                    (Event::LaunchFailed, Some(problem)) => problem.text.clone(),
                    _ => String::new(),
                };
                self.told.add(now, name, (word(before), word(after)), why);
            }
            effects
        });
        self.follow(name, step.unwrap_or_default());
    }

    /// Writes down what a service's machine has come to, and carries out what
    /// it asks for.
    fn follow(self: &Rc<Self>, name: &str, effects: Vec<Effect>) {
        let stored = self.with(name, |service| self.memory.store(name, &service.machine));
        if let Some(Err(error)) = stored {
            warning!(
                self.system.console,
                "service {name}: cannot write to {}: {error}; an rc that takes over will not know its state",
                paths::SERVICES
            );
        }
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        for effect in effects {
            tokio::task::spawn_local(self.clone().carry_out(name.to_owned(), effect));
        }
    }

    async fn carry_out(self: Rc<Self>, name: String, effect: Effect) {
        match effect {
            Effect::WakeAt(at) => {
                sleep(at.saturating_sub(since_boot())).await;
                self.handle(&name, Event::Timer);
            }
            Effect::Launch => self.launch(name).await,
            Effect::AskToEnd => {
                let asked = self.with(&name, |service| (service.policy.stop_signal as i32, service.pid));
                let (signal, pid) = asked.unwrap_or((SIGKILL, None));
                // What it never sees is not waited for.
                let deaf = pid.is_some_and(|pid| process::is_deaf(pid.cast_signed(), signal));
                self.signal(&name, if deaf { SIGKILL } else { signal }, deaf).await;
            }
            Effect::Kill => {
                warning!(self.system.console, "service {name}: did not end in time: killing it");
                self.signal(&name, SIGKILL, true).await;
            }
            Effect::Clean => {
                self.clean(&name).await;
                self.handle(&name, Event::Cleaned);
            }
        }
    }

    /// Removes what a service's process has left. A record that stays behind
    /// would be in the way of the next start, so an engine that is away is
    /// waited for.
    async fn clean(&self, name: &str) {
        let Some((engine, id)) = self.handles(name) else { return };
        loop {
            match engine.delete(&id).await {
                Ok(()) => return,
                Err(EngineError::Unavailable { .. }) => self.engine_back().await,
                Err(error) => {
                    return warning!(
                        self.system.console,
                        "service {name}: cannot remove its container: {error}"
                    );
                }
            }
        }
    }

    /// Waits until the engine answers again, however long that takes.
    async fn engine_back(&self) {
        while self.system.engine_back(Stage::Services).await.is_err() {
            sleep(ENGINE_AWAY).await;
        }
    }

    fn handles(&self, name: &str) -> Option<(Rc<dyn Engine>, Id)> {
        let id = self.with(name, |service| launch::id(&service.bundle))?;
        Some((self.system.engine(Stage::Services).ok()?, id))
    }

    async fn signal(&self, name: &str, number: i32, all: bool) {
        let Some((engine, id)) = self.handles(name) else { return };
        match engine.kill(&id, number, all).await {
            Ok(()) => {}
            // It has ended meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => error!(self.system.console, "service {name}: cannot signal it: {error}"),
        }
    }

    async fn launch(self: &Rc<Self>, name: String) {
        let Some(bundle) = self.with(&name, |service| service.bundle.clone()) else { return };
        let started = match self.system.engine_ready(Stage::Services).await {
            Ok(engine) => {
                self.system.timeline.end(&bundle.label(), WAITING);
                launch::launch(&self.system, engine.as_ref(), &bundle).await.map(|started| (engine, started))
            }
            Err(error) => Err(error.into()),
        };
        match started {
            Ok((engine, started)) => {
                self.with(&name, |service| {
                    service.pid = Some(started.pid);
                    service.problem = None;
                });
                self.handle(&name, Event::Launched);
                let id = launch::id(&bundle);
                self.clone().await_end(name, engine, id).await;
            }
            Err(error) => {
                let problem = Problem::new(error.after(&bundle.label()));
                self.with(&name, |service| match &mut service.problem {
                    Some(known) if known.text == problem.text => known.times += 1,
                    other => *other = Some(problem),
                });
                self.handle(&name, Event::LaunchFailed);
            }
        }
    }

    /// Waits for the end of a service's process, whatever happens to the
    /// engine meanwhile.
    async fn await_end(self: Rc<Self>, name: String, engine: Rc<dyn Engine>, id: Id) {
        let exit = loop {
            match engine.wait(&id).await {
                Ok(exit) => break exit,
                // containerd is gone, its shims are not.
                Err(EngineError::Unavailable { .. }) => self.engine_back().await,
                Err(error) => {
                    if !error.is_not_found() {
                        error!(self.system.console, "service {name}: {error}");
                    }
                    break Exit::LOST;
                }
            }
        };
        self.with(&name, |service| service.pid = None);
        self.handle(&name, Event::Exited(exit));
    }

    /// Undoes the mounts of every service that is down. Called at shutdown.
    pub fn unprepare_all(&self) {
        let services = self.services.borrow();
        let down = services.values().filter(|service| matches!(service.machine.phase, Phase::Down(_)));
        for service in down {
            let Ok(mounts) = MountTable::read() else { return };
            // Whatever stays is unmounted with everything else.
            let _ = service.bundle.unprepare(&self.system.kernel, &mounts);
        }
    }
}
