// SPDX-License-Identifier: Apache-2.0
//! A few threads that read the machine's devices and load what drives them.
//!
//! Threads exist while there is work. Each takes the next job, and afterwards
//! reads the uevents that the job has caused: the kernel queues those of a new
//! device before the system call that brought it up returns, so when nothing
//! is left to do and the queue is empty, everything that has appeared is
//! handled. Nobody sleeps or asks twice.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use init::sys::clock::since_boot;
use init::sys::uevent::Received;

use super::complaint::Complaint;
use super::graph::{Blocked, End, Graph, Ticket};
use super::insert::ModuleKernel;
use super::plan::{Blacklist, Planner, Step};
use super::report::{Event, ModuleEvent, Outcome, Report};
use super::sysfs;
use super::tables::{Place, Tables};
use crate::uevent::{Uevent, UeventSource};

/// The kernel's messages have at most 2 KiB of variables and a header.
const MESSAGE: usize = 8 << 10;

/// Who is told of what happens, from whatever thread it happens in.
pub(super) type Observer = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// Something a module is wanted for.
#[derive(Debug)]
struct Wanted {
    what: String,
    /// A module that has had its chance gets another.
    again: bool,
}

/// What a thread can be busy with.
enum Job {
    ReadTables,
    Walk,
    Trigger,
    Resolve(Vec<Wanted>),
    Load(Ticket, Arc<Step>),
}

#[derive(Default)]
struct State {
    chores: VecDeque<Job>,
    wanted: Vec<Wanted>,
    seen: HashSet<String>,
    graph: Graph,
    busy: usize,
    threads: usize,
    settled: bool,
    report: Report,
    /// What has been complained about: tables are read again for every device
    /// that comes late, and are no better then.
    told: HashSet<String>,
}

impl State {
    /// Walks and look-ups before loads: they are short, and give the other
    /// threads something to do.
    fn next_job(&mut self) -> Option<Job> {
        if let Some(chore) = self.chores.pop_front() {
            return Some(chore);
        }
        if !self.wanted.is_empty() {
            return Some(Job::Resolve(std::mem::take(&mut self.wanted)));
        }
        self.graph.next().map(|(ticket, step)| Job::Load(ticket, step))
    }

    fn jobs(&self) -> usize {
        self.chores.len() + usize::from(!self.wanted.is_empty()) + self.graph.ready()
    }

    fn is_idle(&self) -> bool {
        self.busy == 0 && self.jobs() == 0
    }

    /// Takes a modalias up unless it was before. A device that has just come,
    /// after the boot, is a new chance for a module.
    fn want_modalias(&mut self, modalias: &str, new_device: bool) {
        let again = new_device && self.settled;
        let first = !self.seen.contains(modalias) && self.seen.insert(modalias.to_owned());
        if first || again {
            self.wanted.push(Wanted { what: modalias.to_owned(), again });
        }
    }
}

/// The threads' common ground.
pub(super) struct Pool {
    place: Place,
    kernel: Box<dyn ModuleKernel>,
    socket: Option<Box<dyn UeventSource>>,
    observer: Observer,
    most_threads: usize,
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
    tables: Mutex<Option<Arc<Tables>>>,
}

impl Pool {
    /// Begins with a walk over all devices, and with these names or aliases.
    pub(super) fn start(
        place: Place,
        names: Vec<String>,
        kernel: Box<dyn ModuleKernel>,
        socket: io::Result<Box<dyn UeventSource>>,
        observer: Observer,
    ) -> Arc<Self> {
        let mut state = State { chores: VecDeque::from([Job::Walk, Job::ReadTables]), ..State::default() };
        state.report.directory.clone_from(&place.modules);
        state.wanted = names.into_iter().map(|what| Wanted { what, again: false }).collect();
        let (socket, error) = match socket {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(error)),
        };
        let pool = Arc::new(Self {
            place,
            kernel,
            socket,
            observer,
            most_threads: thread::available_parallelism().map_or(2, usize::from).clamp(2, 4),
            started: Instant::now(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            tables: Mutex::new(None),
        });
        if let Some(error) = error {
            pool.complain(Complaint::new(
                "uevent socket",
                0,
                format!("{error}; devices that come later are not noticed"),
            ));
        }
        pool.hire(&mut pool.lock());
        pool
    }

    /// The socket, which becomes readable when devices come.
    pub(super) fn socket(&self) -> Option<&dyn UeventSource> {
        self.socket.as_deref()
    }

    /// Lends a hand until all is settled.
    pub(super) fn settle(self: &Arc<Self>) -> Report {
        loop {
            drop(self.work());
            let known = self.lock().seen.len();
            match self.socket {
                Some(_) => self.listen(),
                // With nobody to tell of new devices, look again.
                None => self.walk(),
            }
            let mut state = self.lock();
            if state.is_idle() && state.seen.len() == known {
                state.settled = true;
                state.report.modaliases = known;
                state.report.took = self.started.elapsed();
                return std::mem::take(&mut state.report);
            }
        }
    }

    /// Has the kernel speak of every device again, in the background.
    pub(super) fn trigger(self: &Arc<Self>) {
        let mut state = self.lock();
        state.chores.push_back(Job::Trigger);
        self.hire(&mut state);
    }

    /// Asks for modules by name or alias.
    pub(super) fn request(self: &Arc<Self>, names: impl IntoIterator<Item = String>) {
        let mut state = self.lock();
        state.wanted.extend(names.into_iter().map(|what| Wanted { what, again: true }));
        self.hire(&mut state);
    }

    /// Takes all uevents that are queued, and has them seen to.
    pub(super) fn handle_readable(self: &Arc<Self>) {
        self.listen();
        self.hire(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts threads for the jobs that nobody has taken.
    fn hire(self: &Arc<Self>, state: &mut State) {
        let enough = self.most_threads.min(state.busy + state.jobs());
        while state.threads < enough {
            let pool = Arc::clone(self);
            let thread = thread::Builder::new().name("modules".to_owned()).spawn(move || {
                let mut state = pool.work();
                state.threads -= 1;
                if state.settled && state.threads == 0 {
                    // They are read again for the next device.
                    *pool.tables.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
            });
            if thread.is_err() {
                // Whoever waits in `settle` does it alone.
                return;
            }
            state.threads += 1;
        }
    }

    /// Does jobs until there is none and none is under way that could bring one.
    fn work(self: &Arc<Self>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.next_job() {
                state.busy += 1;
                self.hire(&mut state);
                drop(state);
                self.run(job);
                self.listen();
                state = self.lock();
                state.busy -= 1;
                self.changed.notify_all();
            } else if state.is_idle() {
                return state;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn run(&self, job: Job) {
        match job {
            Job::ReadTables => drop(self.tables()),
            Job::Walk => self.walk(),
            Job::Trigger => sysfs::trigger(&self.place.sys),
            Job::Resolve(wanted) => self.resolve(&wanted),
            Job::Load(ticket, step) => self.load(ticket, &step),
        }
    }

    fn walk(&self) {
        let modaliases = sysfs::modaliases(&self.place.sys);
        let mut state = self.lock();
        for modalias in &modaliases {
            state.want_modalias(modalias, false);
        }
    }

    fn tables(&self) -> Arc<Tables> {
        let mut slot = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = &*slot {
            return Arc::clone(tables);
        }
        let tables = Arc::new(Tables::read(&self.place));
        *slot = Some(Arc::clone(&tables));
        drop(slot);
        for complaint in tables.complaints() {
            self.complain(complaint.clone());
        }
        tables
    }

    fn resolve(&self, wanted: &[Wanted]) {
        let tables = self.tables();
        for again in [false, true] {
            let mut planner = Planner::new(&tables);
            for wanted in wanted.iter().filter(|wanted| wanted.again == again) {
                planner.want(&wanted.what, Blacklist::Aliases);
            }
            let steps = planner.finish().steps;
            if !steps.is_empty() {
                let blocked = self.lock().graph.add(steps, again);
                self.tell_blocked(blocked);
            }
        }
    }

    fn load(&self, ticket: Ticket, step: &Step) {
        let started = since_boot();
        let (end, outcome) = if self.kernel.is_live(&step.name) {
            (End::Live, Outcome::AlreadyLive)
        } else if let Some(disabled) = &step.disabled {
            (End::Forbidden, Outcome::Forbidden(disabled.origin.clone()))
        } else {
            match self.kernel.insert(step) {
                Ok(()) => (End::Live, Outcome::Loaded),
                Err(error) if error.is_no_device() => (End::NoDevice, Outcome::NoDevice),
                Err(error) => (End::Failed, Outcome::Failed(error)),
            }
        };
        let took = since_boot().saturating_sub(started);
        self.tell(ModuleEvent {
            name: step.name.clone(),
            wanted_by: step.wanted_by.clone(),
            started,
            took,
            needs: [step.needs.clone(), step.after.clone()].concat(),
            outcome,
        });
        let blocked = self.lock().graph.finish(ticket, end);
        self.tell_blocked(blocked);
    }

    /// Takes the uevents that are queued. The thread counts as busy for as
    /// long as it holds one that nobody else can see.
    fn listen(&self) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = [0; MESSAGE];
        self.lock().busy += 1;
        loop {
            match socket.receive(&mut buffer) {
                Ok(Received::Message(length)) => {
                    if let Some(uevent) = buffer.get(..length).and_then(Uevent::parse)
                        && let Some(modalias) = uevent.modalias
                        && !matches!(uevent.action, "remove" | "unbind" | "offline")
                    {
                        self.lock().want_modalias(modalias, !uevent.synthetic);
                    }
                }
                Ok(Received::Overrun) => self.lock().chores.push_back(Job::Walk),
                Ok(Received::Empty) => break,
                Err(error) => {
                    self.complain(Complaint::new(
                        "uevent socket",
                        0,
                        format!("{error}; some devices may not be noticed"),
                    ));
                    break;
                }
            }
        }
        self.lock().busy -= 1;
        self.changed.notify_all();
    }

    fn tell_blocked(&self, blocked: Vec<Blocked>) {
        for Blocked { step, need, end } in blocked {
            self.tell(ModuleEvent {
                name: step.name.clone(),
                wanted_by: step.wanted_by.clone(),
                started: since_boot(),
                took: std::time::Duration::ZERO,
                needs: Vec::new(),
                outcome: Outcome::Blocked { need, fault: end == End::Failed },
            });
        }
    }

    fn tell(&self, event: ModuleEvent) {
        (self.observer)(&Event::Module(&event));
        let mut state = self.lock();
        if !state.settled {
            state.report.modules.push(event);
        }
    }

    fn complain(&self, complaint: Complaint) {
        if !self.lock().told.insert(complaint.to_string()) {
            return;
        }
        (self.observer)(&Event::Complaint(&complaint));
        let mut state = self.lock();
        if !state.settled {
            state.report.complaints.push(complaint);
        }
    }
}
