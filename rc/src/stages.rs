// SPDX-License-Identifier: Apache-2.0
//! The stages of a boot and of a shutdown: volumes, and the containers that
//! run one after the other.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use init::mountinfo::MountTable;
use init::sys::clock::since_boot;
use init::{error, info, warning};
use nix::libc::SIGKILL;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::bundle::{self, Bundle, Stage, volumes};
use crate::engine::{Engine, Error, Exit, Id, TaskState};
use crate::launch::{self, Output, Started};
use crate::linger::watched;
use crate::logs::Logs;
use crate::supervise::policy::{OnFailure, Once};
use crate::supervise::takedown;
use crate::system::{ENGINE_AWAY, System};
use crate::timeline::BOOT;
use crate::{logs, shell};

/// How long what runs containers may take, on the way down, to tell which there
/// are. One that does not answer then cannot be waited for.
const ANSWERED: Duration = Duration::from_secs(10);

/// Mounts the image's volumes.
pub fn mount_volumes(system: &System) {
    let console = &system.console;
    let listing = match volumes::list(&system.containers) {
        Ok(listing) => listing,
        Err(error) => return error!(console, "volumes: {error}; none is mounted"),
    };
    for warning in listing.warnings {
        warning!(console, "volumes: {warning}");
    }
    for path in listing.paths {
        let mounted = MountTable::read()
            .map_err(|error| format!("cannot read /proc/self/mountinfo: {error}"))
            .and_then(|mounts| {
                volumes::mount(&path, &system.kernel, &mounts).map_err(|error| error.to_string())
            });
        if let Err(error) = mounted {
            error!(console, "{error}; the boot goes on without it");
        }
    }
}

/// What remains to be done for a container that has ended.
struct Ending {
    lane: String,
    /// Its output is shown, and it is removed unless that has time.
    task: JoinHandle<()>,
    /// To be removed when nobody waits any more.
    later: Option<(Rc<dyn Engine>, Id)>,
}

/// What remains to be done for the containers of a stage.
#[derive(Default)]
pub struct Endings(Vec<Ending>);

impl Endings {
    /// Does what has waited until now, and waits until all is done.
    pub async fn settle(self, system: &System) {
        for Ending { lane, task, later } in self.0 {
            // It fails only when the task has panicked; there is nothing to add.
            let _ = task.await;
            if let Some((engine, id)) = later {
                remove(system, engine.as_ref(), &lane, &id).await;
            }
            system.timeline.join(&lane);
        }
    }
}

/// Runs the containers of a stage in the order of their names, each to its
/// end. A failure is shown and does not stop the others.
pub async fn run_in_order(system: &Rc<System>, stage: Stage) -> Endings {
    let console = &system.console;
    let listing = match bundle::list(&system.containers, stage) {
        Ok(listing) => listing,
        Err(error) => {
            error!(console, "{stage}: {error}; none of its containers is run");
            return Endings::default();
        }
    };
    for warning in listing.warnings {
        warning!(console, "{stage}: {warning}");
    }
    if listing.paths.is_empty() {
        return Endings::default();
    }
    let waiting = format!("{stage}: still waiting for what runs containers");
    let engine = match watched(console, &waiting, None, system.engine_ready(stage)).await {
        Ok(engine) => engine,
        Err(error) => {
            error!(console, "{stage}: {error}; none of its containers is run");
            shell::after_failure(system, &stage.to_string()).await;
            return Endings::default();
        }
    };
    let timeline = &system.timeline;
    let cleaning = format!("{stage}: old containers");
    timeline.follow(BOOT);
    timeline.begin(BOOT, &cleaning);
    let limit = if stage == Stage::Onshutdown { ANSWERED } else { Duration::MAX };
    let waiting = format!("{stage}: {} still does not answer", engine.name());
    let cleaned = watched(console, &waiting, None, clean_up(system, engine.as_ref(), stage));
    let Ok(kept) = timeout(limit, cleaned).await else {
        let (name, seconds) = (engine.name(), limit.as_secs());
        timeline.fail(BOOT, &cleaning, "no answer");
        error!(console, "{stage}: {name} has not answered for {seconds}s; none of its containers is run");
        return Endings::default();
    };
    timeline.end(BOOT, &cleaning);
    timeline.lead(BOOT);
    let mut endings = Vec::new();
    for path in listing.paths {
        match Bundle::load(&path, stage) {
            Ok(bundle) => {
                let gone = kept.as_ref().is_some_and(|kept| !kept.contains(&bundle.name));
                endings.extend(run_one(system, &engine, bundle, gone).await);
            }
            Err(error) => {
                error!(console, "{error}; the container is left out");
                shell::after_failure(system, &path.display().to_string()).await;
            }
        }
    }
    if let Err(error) = logs::link_into_var(stage) {
        warning!(console, "{stage}: cannot link its logs into /var/log: {error}");
    }
    Endings(endings)
}

/// Removes containers that an earlier boot left on a persistent disk, and those
/// whose start an rc of this boot did not live to finish. In our own namespace
/// nothing else can be. Returns those that are kept; `None`: nobody knows.
///
/// One that this boot has started and that has ended meanwhile is kept, for its
/// exit status is still wanted.
async fn clean_up(system: &System, engine: &dyn Engine, stage: Stage) -> Option<Vec<String>> {
    let namespace = System::namespace(stage);
    let mut kept = Vec::new();
    let found = match engine.list(namespace).await {
        Ok(found) => found,
        Err(error) => {
            warning!(system.console, "{stage}: {error}; old containers are not cleaned up");
            return None;
        }
    };
    for container in found {
        let (started, ended) =
            (format!("{stage} {} started", container.name), format!("{stage} {} ended", container.name));
        let ours = system.progress.has(&started) && !system.progress.has(&ended);
        let keep = match container.task.map(|task| task.state) {
            Some(TaskState::Running) => true,
            Some(TaskState::Ended) => ours,
            Some(TaskState::Created) | None => false,
        };
        if keep {
            kept.push(container.name);
            continue;
        }
        let id = Id { namespace: namespace.to_owned(), name: container.name };
        match engine.delete(&id).await {
            Ok(()) => info!(system.console, "{stage}: removed the container {id} of an earlier boot"),
            Err(error) => warning!(system.console, "{stage}: cannot remove an old container: {error}"),
        }
    }
    Some(kept)
}

/// Waits for the end of a container, whatever happens to the engine meanwhile:
/// without containerd its shim goes on, and nothing else may be started.
async fn end_of(system: &System, engine: &dyn Engine, stage: Stage, id: &Id) -> Result<Exit, Error> {
    loop {
        match engine.wait(id).await {
            Err(Error::Unavailable { .. }) => {
                while system.engine_back(stage).await.is_err() {
                    sleep(ENGINE_AWAY).await;
                }
            }
            other => return other,
        }
    }
}

/// Runs one container to its end. What remains to be done then does not keep
/// the next one waiting: its removal is the returned task.
///
/// `gone`: there is no container of its, whatever an rc before this one has done.
async fn run_one(system: &Rc<System>, engine: &Rc<dyn Engine>, bundle: Bundle, gone: bool) -> Option<Ending> {
    let (console, progress, timeline) = (&system.console, &system.progress, &system.timeline);
    let label = bundle.label();
    let mark = |what: &str| format!("{label} {what}");
    let (started_mark, runs_mark, ended_mark) = (mark("started"), mark("runs"), mark("ended"));
    if progress.has(&ended_mark) {
        return None;
    }
    let (once, unreadable) = Once::of_stage(bundle.stage, bundle.annotations());
    let unreadable = unreadable.iter().map(ToString::to_string).chain(launch::log_limits(system, &bundle).1);
    for warning in bundle.warnings.iter().cloned().chain(unreadable) {
        warning!(console, "{label}: {warning}");
    }
    let begin = since_boot();
    timeline.follow(&label);
    let id = launch::id(&bundle);
    // Without a container, one that is not known to have run never has.
    let never_ran = gone && id.namespace == System::namespace(bundle.stage) && !progress.has(&runs_mark);
    let started = if progress.has(&started_mark) && !never_ran {
        // An rc before this one started it. It is never started twice.
        info!(console, "{label}: was started before rc was; waiting for its end");
        None
    } else {
        progress.mark(&started_mark);
        let launch = launch::launch(system, engine, &bundle, sleep(once.start_timeout));
        match watched(console, &format!("{label}: still starting"), None, launch).await {
            Ok(started) => {
                progress.mark(&runs_mark);
                Some(started)
            }
            Err(error) => {
                let next = once.on_failure.next(bundle.stage);
                error!(console, "{label}: failed to start: {}; {next}", error.after(&label));
                progress.mark(&ended_mark);
                timeline.lead(&label);
                system.logger.finish(&Logs::of(bundle.stage, &bundle.name, &system.cmdline)).await;
                after_failure(system, &label, once.on_failure).await;
                return None;
            }
        }
    };
    timeline.begin(&label, "run");
    let pid = started.as_ref().map(|started| started.pid);
    let still = format!("{label}: still running");
    let mut wait = pin!(watched(console, &still, pid, end_of(system, engine.as_ref(), bundle.stage, &id)));
    let limit = once.timeout.unwrap_or(Duration::MAX);
    let (ended, late) = match timeout(limit, &mut wait).await {
        Ok(ended) => (ended, false),
        Err(_) => {
            if let Err(error) = engine.kill(&id, SIGKILL, true).await
                && !error.is_not_found()
            {
                error!(console, "{label}: cannot kill it, though its time is over: {error}");
            }
            (wait.await, true)
        }
    };
    let exit = ended.unwrap_or_else(|error| {
        error!(console, "{label}: {error}");
        Exit::LOST
    });
    progress.mark(&ended_mark);
    let failure = match (late, exit.success()) {
        (true, _) => Some("did not end in time and was killed".to_owned()),
        (false, true) => None,
        (false, false) => Some(exit.to_string()),
    };
    match &failure {
        None => timeline.end(&label, "run"),
        Some(failure) => timeline.fail(&label, "run", failure),
    }
    timeline.lead(&label);
    let took = since_boot().saturating_sub(begin);
    let Some(failure) = failure else {
        info!(console, "{label}: done in {:.3}s", took.as_secs_f32());
        // Its output is complete, and none of its processes is left: its
        // removal is a program that would run beside those of the next one.
        let over = engine.leaves_output_complete() && bundle.has_own_processes();
        let later = over.then(|| (engine.clone(), id.clone()));
        let ending = end(system.clone(), engine.clone(), bundle, started, (None, over));
        return Some(Ending { lane: label, task: tokio::task::spawn_local(ending), later });
    };
    let next = once.on_failure.next(bundle.stage);
    let failure = format!("{failure} after {:.3}s; {next}", took.as_secs_f32());
    let ending = end(system.clone(), engine.clone(), bundle, started, (Some(failure), false));
    if once.on_failure != OnFailure::Continue || system.shells.on_failure() {
        // Its output first, and no other container's beside the shell.
        ending.await;
        after_failure(system, &label, once.on_failure).await;
        return None;
    }
    Some(Ending { lane: label, task: tokio::task::spawn_local(ending), later: None })
}

/// Does what is to be done when a container has failed; returns when the next
/// one may run.
async fn after_failure(system: &Rc<System>, label: &str, what: OnFailure) {
    match what {
        OnFailure::Continue => shell::after_failure(system, label).await,
        OnFailure::Shell => {
            shell::pause(system, &format!("{label} has failed: the boot is stopped (lkinit.on-failure)"))
                .await;
        }
        OnFailure::TakeDown(how) => match takedown::begin(&system.reaper, how) {
            // Nothing more is run.
            Ok(()) => std::future::pending().await,
            Err(error) => {
                error!(
                    system.console,
                    "{label}: cannot take the machine down ({how}): {error}; the boot goes on"
                );
            }
        },
    }
}

/// Removes a container that has ended, unless it is removed later, then shows
/// its output, which is complete by then.
async fn end(
    system: Rc<System>,
    engine: Rc<dyn Engine>,
    bundle: Bundle,
    started: Option<Started>,
    (failure, removed_later): (Option<String>, bool),
) {
    let console = &system.console;
    let label = bundle.label();
    if !removed_later {
        remove(&system, engine.as_ref(), &label, &launch::id(&bundle)).await;
    }
    let logs = Logs::of(bundle.stage, &bundle.name, &system.cmdline);
    system.logger.finish(&logs).await;
    // All of it, if an rc before this one has started it.
    let output = started.map_or_else(|| Output::of_earlier(logs, None), |started| started.output);
    output.logs.show(&output.marks, &bundle.name, console);
    if let Some(failure) = failure {
        error!(console, "{label}: failed: {failure}{}", output.logs.ending(&output.marks));
    }
}

/// Removes a container that has ended.
async fn remove(system: &System, engine: &dyn Engine, label: &str, id: &Id) {
    system.timeline.begin(label, "delete");
    let deleted = engine.delete(id).await;
    system.timeline.end(label, "delete");
    if let Err(error) = deleted {
        warning!(system.console, "{label}: cannot remove the container: {error}");
    }
}
