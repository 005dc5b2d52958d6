// SPDX-License-Identifier: Apache-2.0
//! What carries out what the state machine asks for.

use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use init::sys::clock::since_boot;
use init::{error, warning};
use nix::libc::SIGKILL;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::down::MOMENT;
use super::policy::{Health, TakeDown};
use super::probe::{Checker, Probe, Target};
use super::report::word;
use super::state::{Effect, Event, Phase};
use super::{Problem, Service, Supervisor, lane, takedown};
use crate::bundle::{Bundle, Stage};
use crate::engine::{Engine, Error as EngineError, Id};
use crate::journal::Change;
use crate::launch::{self, Started};
use crate::logs::{Logs, Marks};
use crate::system::ENGINE_AWAY;
use crate::timeline::WAITING;
use crate::{paths, process};

/// The step of the boot between a process that runs and a service that is ready.
const READY: &str = "ready";

/// How long it may take to remove a container before others go on.
const CLEANED: Duration = Duration::from_secs(20);

/// How long a start may still take when nobody wants the service any more.
const UNWANTED: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Feeds an event to a service's machine and carries out what it asks for.
    pub(super) fn handle(self: &Rc<Self>, name: &str, event: Event) {
        let now = since_boot();
        let step = self.with(name, |service| {
            let known = service.machine.clone();
            let before = known.phase;
            let effects = service.machine.step(&service.policy, event, now);
            service.blame(before);
            service.report(&self.system.console, name, event, before, now);
            let after = service.machine.phase;
            if after != before {
                let states = (word(before), word(after));
                self.journal.add(Change::new(now, name, states, service.why(event, before)));
            }
            if service.machine != known
                && let Err(error) = self.memory.store(name, &service.machine)
            {
                warning!(
                    self.system.console,
                    "service {name}: cannot write to {}: {error}; an rc that takes over will not know its \
                     state",
                    paths::SERVICES
                );
            }
            match (before, after) {
                (Phase::Starting, Phase::Readying(_)) => self.system.timeline.begin(&lane(name), READY),
                (Phase::Readying(_), Phase::Up) => self.system.timeline.end(&lane(name), READY),
                (Phase::Readying(_), Phase::Stopping(..) | Phase::Cleaning) => {
                    self.system.timeline.fail(&lane(name), READY, service.why(event, before));
                }
                _ => {}
            }
            if effects.contains(&Effect::EndProbe)
                && let Some(probe) = service.probe.take()
            {
                probe.abort();
            }
            effects
        });
        self.steps.send_modify(|count| *count = count.wrapping_add(1));
        for effect in step.unwrap_or_default() {
            self.carry_out(name, effect);
        }
    }

    fn carry_out(self: &Rc<Self>, name: &str, effect: Effect) {
        let (this, name) = (self.clone(), name.to_owned());
        match effect {
            Effect::WakeAt(at) => {
                let whose = name.clone();
                let timer = spawn_local(async move {
                    sleep(at.saturating_sub(since_boot())).await;
                    this.handle(&whose, Event::Timer);
                });
                // No phase waits for two times; that of an earlier one may be
                // hours away.
                let timer = timer.abort_handle();
                if let Some(old) = self.with(&name, |service| service.timer.replace(timer)).flatten() {
                    old.abort();
                }
            }
            Effect::AwaitTurn => drop(spawn_local(this.await_turn(name))),
            Effect::Launch => drop(spawn_local(this.launch(name))),
            Effect::AwaitReady => {
                let probe = spawn_local(this.await_ready(name.clone())).abort_handle();
                self.probe_by(&name, probe);
            }
            Effect::WatchHealth => {
                let probe = spawn_local(this.watch_health(name.clone())).abort_handle();
                self.probe_by(&name, probe);
            }
            // It was ended with the step, before anything else could happen.
            Effect::EndProbe => {}
            Effect::AskToEnd => drop(spawn_local(async move {
                spawn_local(this.clone().await_gone(name.clone()));
                let asked = this.with(&name, |service| (service.policy.stop_signal as i32, service.pid));
                let (signal, pid) = asked.unwrap_or((SIGKILL, None));
                // What it never sees is not waited for.
                let deaf = pid.is_some_and(|pid| process::is_deaf(pid.cast_signed(), signal));
                this.signal(&name, if deaf { SIGKILL } else { signal }, deaf).await;
            })),
            Effect::Kill => drop(spawn_local(async move {
                warning!(this.system.console, "service {name}: did not end in time: killing it");
                this.signal(&name, SIGKILL, true).await;
            })),
            Effect::Clean => drop(spawn_local(async move {
                this.clean(&name).await;
                this.handle(&name, Event::Cleaned);
            })),
            Effect::TakeDown(how) => self.take_down(&name, how),
        }
    }

    /// One probe looks at a service, never two.
    fn probe_by(&self, name: &str, probe: AbortHandle) {
        if let Some(old) = self.with(name, |service| service.probe.replace(probe)).flatten() {
            old.abort();
        }
    }

    fn take_down(&self, name: &str, how: TakeDown) {
        let console = &self.system.console;
        error!(console, "service {name}: the machine cannot be without it: {how}");
        if let Err(error) = takedown::begin(&self.system.reaper, how) {
            error!(console, "service {name}: cannot take the machine down: {error}; it goes on");
        }
    }

    async fn await_ready(self: Rc<Self>, name: String) {
        let Some(probe) = self.with(&name, |service| service.policy.ready.clone()) else { return };
        // Without a checker nobody could ever tell.
        if let Some(checker) = self.checker(&name, probe) {
            checker.ready().await;
        }
        self.handle(&name, Event::Ready);
    }

    async fn watch_health(self: Rc<Self>, name: String) {
        let health = self.with(&name, |service| service.policy.health.clone()).flatten();
        let Some(Health { probe, interval, .. }) = health else { return };
        let Some(mut checker) = self.checker(&name, probe) else { return };
        loop {
            sleep(interval).await;
            match checker.check(interval).await {
                Ok(()) => self.handle(&name, Event::Sound),
                Err(problem) => {
                    self.with(&name, |service| service.finding.replace(problem));
                    self.handle(&name, Event::Unsound);
                }
            }
        }
    }

    /// What looks at a service as it runs now.
    fn checker(&self, name: &str, probe: Probe) -> Option<Checker> {
        let engine = self.system.engine(Stage::Services).ok()?;
        let target = |service: &mut Service| {
            let target = Target {
                pid: service.pid.unwrap_or_default(),
                engine,
                id: launch::id(&service.bundle),
                reaper: self.system.reaper.clone(),
                output: service.output.clone()?,
                folder: Path::new(paths::STATE),
            };
            Some((target, service.finding.clone()))
        };
        let (target, finding) = self.with(name, target).flatten()?;
        if matches!(probe, Probe::Log(_)) && target.output.logs.is_console() {
            warning!(
                self.system.console,
                "service {name}: {probe}: its output goes to the console: not looked for"
            );
            return None;
        }
        Some(Checker::new(probe, target, finding))
    }

    /// Removes what a service's process has left. An engine that is away or
    /// hangs is not waited for for ever: what it leaves is removed later, and
    /// nothing of that name is made before.
    async fn clean(&self, name: &str) {
        let Some((engine, id, _)) = self.handles(name) else { return };
        let limit = if self.ending.get() { MOMENT } else { CLEANED };
        match timeout(limit, self.remove(engine.as_ref(), &id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warning!(self.system.console, "service {name}: cannot remove its container: {error}");
            }
            Err(_) => {
                warning!(
                    self.system.console,
                    "service {name}: {} has not removed its container within {:.0}s; that is done as soon \
                     as it answers",
                    engine.name(),
                    limit.as_secs_f32()
                );
                self.system.remove_later(engine, id);
            }
        }
        // What it printed last is in its log before anybody looks there.
        let logs = Logs::of(Stage::Services, name, &self.system.cmdline);
        self.system.logger.settle(&logs).await;
        self.with(name, |service| {
            let output = service.output.take();
            service.ending = match output {
                _ if !service.machine.has_failed() => String::new(),
                Some(output) => output.logs.ending(&output.marks),
                // It ended while there was no rc.
                None => logs.ending(&Marks::default()),
            };
        });
    }

    async fn remove(&self, engine: &dyn Engine, id: &Id) -> Result<(), EngineError> {
        loop {
            match engine.delete(id).await {
                Err(EngineError::Unavailable { .. }) => self.engine_back().await,
                other => return other,
            }
        }
    }

    /// Waits until the engine answers again, however long that takes.
    pub(super) async fn engine_back(&self) {
        while self.system.engine_back(Stage::Services).await.is_err() {
            sleep(ENGINE_AWAY).await;
        }
    }

    pub(super) fn handles(&self, name: &str) -> Option<(Rc<dyn Engine>, Id, u64)> {
        let (id, life) = self.with(name, |service| (launch::id(&service.bundle), service.life))?;
        Some((self.system.engine(Stage::Services).ok()?, id, life))
    }

    /// Notes that a service's turn has come, and whose readiness it waited for.
    fn note_turn(&self, name: &str) {
        let timeline = &self.system.timeline;
        for other in self.with(name, |service| service.policy.after.clone()).unwrap_or_default() {
            timeline.wait(&lane(name), &lane(&other));
        }
        timeline.end(&lane(name), WAITING);
    }

    /// Waits until a start has taken too long, or until it has gone on for a
    /// while and nobody wants the service any more.
    async fn late(&self, name: &str) {
        let limit = self.with(name, |service| service.policy.start_timeout).unwrap_or_default();
        let mut steps = self.steps.subscribe();
        let unwanted = async {
            let wanted = || self.with(name, |service| service.machine.wanted) == Some(true);
            loop {
                while wanted() && steps.changed().await.is_ok() {}
                let again = async { while !wanted() && steps.changed().await.is_ok() {} };
                if timeout(UNWANTED, again).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = sleep(limit) => {}
            () = unwanted => {}
        }
    }

    async fn launch(self: Rc<Self>, name: String) {
        let Some(bundle) = self.with(&name, |service| service.bundle.clone()) else { return };
        self.with(&name, |service| service.launching = true);
        let result = self.bring_to_life(&name, &bundle).await;
        self.with(&name, |service| service.launching = false);
        match result {
            Ok((engine, started)) => {
                self.with(&name, |service| service.problem = None);
                let life = self.begin_life(&name, started.pid, started.output);
                self.handle(&name, Event::Launched);
                self.await_end(name, engine, launch::id(&bundle), life).await;
            }
            Err(error) => {
                let text = error.after(&bundle.label());
                self.with(&name, |service| match &mut service.problem {
                    Some(known) if known.text == text => known.times += 1,
                    other => *other = Some(Problem { text, times: 1 }),
                });
                self.handle(&name, Event::LaunchFailed);
            }
        }
    }

    async fn bring_to_life(
        &self,
        name: &str,
        bundle: &Bundle,
    ) -> Result<(Rc<dyn Engine>, Started), launch::Error> {
        let begin = since_boot();
        let mut late = pin!(self.late(name));
        let engine = tokio::select! {
            engine = self.system.engine_ready(Stage::Services) => engine?,
            () = &mut late => {
                let time = since_boot().saturating_sub(begin);
                let engine = self.system.engine(Stage::Services);
                let engine = engine.map_or("what runs containers", |engine| engine.name());
                return Err(launch::Error::Late { engine, time });
            }
        };
        self.note_turn(name);
        let started = launch::launch(&self.system, &engine, bundle, late).await?;
        Ok((engine, started))
    }
}
