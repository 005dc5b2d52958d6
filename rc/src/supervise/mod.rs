// SPDX-License-Identifier: Apache-2.0
//! Services: what keeps them up. See docs/supervision.md.
//!
//! [`state`] decides, the driver carries out: it feeds events to the state
//! machine of each service and does what the machine asks for.

mod annotations;
mod down;
mod driver;
mod life;
mod memory;
pub mod order;
pub mod policy;
pub mod probe;
mod report;
pub mod state;
pub(crate) mod takedown;
mod takeover;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use init::sys::clock::since_boot;
use init::{error, warning};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::bundle::{self, Bundle, Stage};
use crate::engine::{Engine, first};
use crate::journal::Journal;
use crate::launch::{self, Output};
use crate::linger::watched;
use crate::system::System;
use crate::timeline::WAITING;
use memory::Memory;
use order::Order;
use policy::Policy;
pub use report::{Status, word};
use state::{Event, Machine, Phase, Why};

struct Service {
    bundle: Rc<Bundle>,
    policy: Policy,
    machine: Machine,
    pid: Option<u32>,
    /// Counts its processes: what belongs to one of them is not done to the next.
    life: u64,
    /// This rc has it started right now.
    launching: bool,
    /// Why the last start failed.
    problem: Option<Problem>,
    /// What its process prints, until all that it left is gone.
    output: Option<Rc<Output>>,
    /// The end of what a process printed that has failed, and where it is.
    ending: String,
    /// What asks whether it is ready, or well.
    probe: Option<AbortHandle>,
    /// What waits for the time that its phase waits for.
    timer: Option<AbortHandle>,
    /// What that has found.
    finding: Rc<RefCell<String>>,
}

impl Service {
    /// Whether its container is, or will be, one that this rc has made or
    /// taken over.
    fn is_ours(&self) -> bool {
        self.life > 0 || self.launching
    }
}

/// Why a service could not be started, and how often in a row for the same reason.
struct Problem {
    text: String,
    times: u32,
}

/// Where a service is in the record of the boot.
fn lane(name: &str) -> String {
    format!("{} {name}", Stage::Services)
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy)]
enum Goal {
    Ready,
    Down,
}

/// The services of the machine.
pub struct Supervisor {
    system: Rc<System>,
    services: RefCell<BTreeMap<String, Service>>,
    memory: Memory,
    /// Whether what an earlier rc has left has been looked at.
    taken_over: Cell<bool>,
    order: RefCell<Order>,
    /// What has been told about the order already.
    complaints: RefCell<Vec<order::Complaint>>,
    /// Nothing is started any more.
    ending: Cell<bool>,
    /// Counts changes of phase, for those who wait for one.
    steps: watch::Sender<u64>,
    journal: Rc<Journal>,
}

impl Supervisor {
    /// A supervisor without services.
    pub fn new(system: Rc<System>, journal: Rc<Journal>) -> Rc<Self> {
        Rc::new(Self {
            services: RefCell::default(),
            memory: Memory::new(&system.services),
            system,
            taken_over: Cell::new(false),
            order: RefCell::default(),
            complaints: RefCell::default(),
            ending: Cell::new(false),
            steps: watch::Sender::new(0),
            journal,
        })
    }

    /// Reads the image's services, takes over what an earlier rc knew of them,
    /// and starts the others, all at once but for what `lkinit.after` asks for.
    /// Returns when each is ready or has failed the first time.
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
        self.put_in_order();
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
        // All are wanted before the first one looks whether its turn has come.
        for name in &names {
            timeline.follow(&lane(name));
            timeline.begin(&lane(name), WAITING);
            let _ = self.command(name, Event::Start);
        }
        for name in &names {
            // What went wrong has been told on the console.
            let still = format!("service {name}: still not ready");
            let _ = watched(&self.system.console, &still, None, self.until(name, Goal::Ready)).await;
            timeline.join(&lane(name));
        }
    }

    /// Reads one service.
    fn load(&self, path: &Path) -> Option<()> {
        let console = &self.system.console;
        if path.file_name().is_some_and(|name| self.services.borrow().contains_key(&*name.to_string_lossy()))
        {
            return Some(());
        }
        let bundle = match Bundle::load(path, Stage::Services) {
            Ok(bundle) => bundle,
            Err(error) => {
                error!(console, "{error}; the service is left out");
                return None;
            }
        };
        let label = bundle.label();
        let (policy, unreadable) = Policy::from_annotations(bundle.annotations());
        let unreadable = unreadable.iter().map(ToString::to_string);
        let problems = launch::log_limits(&self.system, &bundle).1;
        for warning in unreadable.chain(bundle.warnings.iter().cloned()).chain(problems) {
            warning!(console, "{label}: {warning}");
        }
        let name = bundle.name.clone();
        // Different for each service, and each time.
        let seed = name.bytes().fold(since_boot().subsec_nanos(), |seed, byte| {
            seed.rotate_left(5).wrapping_add(u32::from(byte))
        });
        // What an earlier rc knew counts until its services are taken over.
        let known = (!self.taken_over.get()).then(|| self.memory.recall(&name)).flatten();
        let machine = known.unwrap_or_else(|| Machine::new(seed));
        // Until then its process is told, and can be stopped, by what the
        // engine has written down: it may hang.
        let process = machine.runs().then(|| first::process(&launch::id(&bundle))).flatten();
        let service = Service {
            machine,
            bundle: Rc::new(bundle),
            policy,
            pid: process.map(|process| process.pid.cast_unsigned()),
            life: 0,
            launching: false,
            problem: None,
            output: None,
            ending: String::new(),
            probe: None,
            timer: None,
            finding: Rc::default(),
        };
        self.services.borrow_mut().insert(name, service);
        Some(())
    }

    /// Starts a service and waits until it is ready.
    ///
    /// # Errors
    /// In words: there is no such service, or why it did not come up.
    pub async fn start(self: &Rc<Self>, name: &str) -> Result<(), String> {
        self.command(name, Event::Start)?;
        self.until(name, Goal::Ready).await
    }

    /// Stops a service and waits until it is down.
    ///
    /// # Errors
    /// There is no such service.
    pub async fn stop(self: &Rc<Self>, name: &str) -> Result<(), String> {
        self.command(name, Event::Stop)?;
        self.until(name, Goal::Down).await
    }

    /// Stops a service if it is up, starts it, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub async fn restart(self: &Rc<Self>, name: &str) -> Result<(), String> {
        self.command(name, Event::Restart)?;
        self.until(name, Goal::Ready).await
    }

    fn phase(&self, name: &str) -> Option<Phase> {
        self.with(name, |service| service.machine.phase)
    }

    /// Every service, by name.
    pub fn status(&self) -> Vec<Status> {
        let now = since_boot();
        let names: Vec<String> = self.services.borrow().keys().cloned().collect();
        let status = |name: &String| {
            let waits_for = self.waits_for(name);
            self.with(name, |service| service.status(name, &waits_for, now))
        };
        names.iter().filter_map(status).collect()
    }

    fn command(self: &Rc<Self>, name: &str, event: Event) -> Result<(), String> {
        if self.ending.get() && event != Event::Stop {
            return Err("the machine goes down".to_owned());
        }
        // A bundle may have come since the boot, by a tool that makes them.
        if !self.services.borrow().contains_key(name) {
            let path = self.system.containers.join(Stage::Services.folder()).join(name);
            if !bundle::is_id(name) || !path.is_dir() || self.load(&path).is_none() {
                return Err(format!("no service {name:?} under {}", self.system.containers.display()));
            }
            self.put_in_order();
        }
        self.handle(name, event);
        Ok(())
    }

    /// Waits until a service is where it is to be, or will not come there by
    /// itself soon.
    async fn until(&self, name: &str, goal: Goal) -> Result<(), String> {
        let mut steps = self.steps.subscribe();
        loop {
            match (self.phase(name), goal) {
                (None, _) => return Err(format!("no service {name:?}")),
                (Some(Phase::Up | Phase::Unhealthy(_)), Goal::Ready) | (Some(Phase::Down(_)), Goal::Down) => {
                    return Ok(());
                }
                // It had begun, which was all that was asked for, and is over.
                (Some(Phase::Down(Why::Ended)), Goal::Ready)
                    if self.with(name, |service| service.policy.ready.is_started()) == Some(true) =>
                {
                    return Ok(());
                }
                (Some(Phase::Down(Why::New | Why::Asked)), Goal::Ready) => {
                    return Err("stopped meanwhile".to_owned());
                }
                (Some(Phase::Down(_) | Phase::BackingOff(_)), Goal::Ready) => {
                    let why = self.with(name, |service| match &service.problem {
                        Some(problem) => problem.text.clone(),
                        None => format!("ended with {}", service.last_failure()),
                    });
                    return Err(why.unwrap_or_default());
                }
                (Some(Phase::Held), Goal::Ready) if self.is_held_up(name) => {
                    return Err(format!("waits for {}", self.waits_for(name).join(", ")));
                }
                (
                    Some(
                        Phase::Held
                        | Phase::BackingOff(_)
                        | Phase::Starting
                        | Phase::Readying(_)
                        | Phase::Up
                        | Phase::Unhealthy(_)
                        | Phase::Leaving
                        | Phase::Stopping(..)
                        | Phase::Cleaning,
                    ),
                    _,
                ) => {}
            }
            if steps.changed().await.is_err() {
                return Err("the supervisor is ending".to_owned());
            }
        }
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Service) -> T) -> Option<T> {
        self.services.borrow_mut().get_mut(name).map(change)
    }
}
