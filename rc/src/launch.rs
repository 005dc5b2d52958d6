// SPDX-License-Identifier: Apache-2.0
//! From a bundle to a running process, in the order of docs/bundles.md.

use std::rc::Rc;
use std::time::Duration;

use init::mountinfo::MountTable;
use init::sys::clock::since_boot;

use crate::bundle::{Bundle, Error as BundleError, Prepared, Stage};
use crate::engine::{Engine, Error as EngineError, Id, Job, Task};
use crate::logs::settings::Limits;
use crate::logs::{Logs, Marks, Outlets};
use crate::system::System;
use crate::timeline::Timeline;

/// Why a container did not start. What had been made for it is gone again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its mounts, interfaces or namespaces.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine has not done it in time.
    #[error("{engine} has not started it within {:.0}s", time.as_secs_f32())]
    Late {
        /// Which.
        engine: &'static str,
        /// How long it was waited for.
        time: Duration,
    },
    /// The pipes that it prints into.
    #[error("cannot make {} for its output: {source}", path.display())]
    Log {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The mounts of the system.
    #[error("cannot read /proc/self/mountinfo: {0}")]
    MountTable(#[source] std::io::Error),
}

impl Error {
    /// The error in a line that begins with the container's name already.
    pub fn after(&self, label: &str) -> String {
        let text = self.to_string();
        let rest = text.strip_prefix(label).and_then(|rest| rest.strip_prefix(": "));
        rest.map_or(text.clone(), str::to_owned)
    }
}

/// A container that has been started.
#[derive(Debug)]
pub struct Started {
    /// Its first process, in the root pid namespace.
    pub pid: u32,
    /// What it prints. To be kept until its end is known and its output is
    /// settled.
    pub output: Output,
}

/// What a container prints in one of its lives.
#[derive(Debug)]
pub struct Output {
    /// Where it goes.
    pub logs: Logs,
    /// Where in the files it begins.
    pub marks: Marks,
    /// The way there.
    _outlets: Option<Outlets>,
}

impl Output {
    /// What comes into a log from now on.
    pub fn begin(logs: &Logs) -> Self {
        Self { logs: logs.clone(), marks: logs.mark(), _outlets: None }
    }

    /// The output of a container that an rc before this one has started: where
    /// it begins is not known, so it is all that is kept.
    pub fn of_earlier(logs: Logs, outlets: Option<Outlets>) -> Self {
        Self { logs, marks: Marks::default(), _outlets: outlets }
    }
}

/// The id of a bundle's container.
pub fn id(bundle: &Bundle) -> Id {
    let named = bundle.runtime.namespace.as_deref().filter(|name| !name.is_empty());
    let namespace = named.unwrap_or(System::namespace(bundle.stage));
    Id { namespace: namespace.to_owned(), name: bundle.name.clone() }
}

/// How large a container's logs may be; what of its annotations, or of the
/// kernel's command line, cannot be read is in the second value.
pub fn log_limits(system: &System, bundle: &Bundle) -> (Limits, Vec<String>) {
    let annotations = bundle.annotations();
    Limits::of_container(|key| annotations.get(key).map(String::as_str), &system.cmdline)
}

/// Prepares a bundle and starts its container. A container that cannot be
/// started leaves no mount, no record, no control group and no link behind;
/// what an earlier start of it has written stays.
///
/// # Errors
/// The first step that fails, or [`Error::Late`] when `late` comes to its end
/// and the engine has not started it.
pub async fn launch(
    system: &System,
    engine: &Rc<dyn Engine>,
    bundle: &Bundle,
    late: impl Future<Output = ()>,
) -> Result<Started, Error> {
    let id = id(bundle);
    let logs = Logs::of(bundle.stage, &bundle.name, &system.cmdline);
    let begin = since_boot();
    let marks = logs.mark();
    let outlets = system.logger.open(&logs, log_limits(system, bundle).0);
    let outlets = outlets.map_err(|(path, source)| Error::Log { path, source })?;
    let (timeline, lane) = (&system.timeline, bundle.label());
    timeline.follow(&lane);
    timeline.begin(&lane, "prepare");
    let prepared = noted(timeline, &lane, "prepare", prepare(system, bundle))?;
    let result = tokio::select! {
        result = run(system, engine.as_ref(), bundle, &id, &outlets) => result,
        () = late => {
            // The engine may still do it, some time.
            ["create", "start"].iter().for_each(|step| timeline.fail(&lane, step, "not in time"));
            system.remove_later(engine.clone(), id);
            Err(Error::Late { engine: engine.name(), time: since_boot().saturating_sub(begin) })
        }
    };
    match result {
        Ok(pid) => Ok(Started { pid, output: Output { logs, marks, _outlets: Some(outlets) } }),
        Err(error) => {
            if !bundle.namespace_binds().is_empty()
                && let Ok(mounts) = MountTable::read()
            {
                bundle.unbind_namespaces(&system.kernel, &mounts);
            }
            prepared.undo(&system.kernel);
            Err(error)
        }
    }
}

fn prepare(system: &System, bundle: &Bundle) -> Result<Prepared, Error> {
    let mounts = MountTable::read().map_err(Error::MountTable)?;
    Ok(bundle.prepare(&system.kernel, &mounts)?)
}

/// Notes how a step of a container's start has ended.
fn noted<T, E: Into<Error>>(
    timeline: &Timeline,
    lane: &str,
    step: &str,
    result: Result<T, E>,
) -> Result<T, Error> {
    let result = result.map_err(Into::into);
    match &result {
        Ok(_) => timeline.end(lane, step),
        Err(error) => timeline.fail(lane, step, error.after(lane)),
    }
    result
}

/// The engine went away in the middle of a start, and may have done what it
/// was asked for. When it is back, it is asked: a process that runs is the one
/// that was wanted, anything less is removed. Where it does not come back,
/// what is left is removed by the next start.
async fn after_outage(system: &System, engine: &dyn Engine, stage: Stage, id: &Id) -> Option<u32> {
    system.engine_back(stage).await.ok()?;
    let found = engine.list(&id.namespace).await.ok()?;
    let found = found.into_iter().find(|found| found.name == id.name)?;
    match found.task.filter(Task::is_running) {
        Some(task) => Some(task.pid),
        None => {
            // What cannot be removed now is in the way of the next start,
            // which removes it or says so.
            let _ = engine.discard(id).await;
            None
        }
    }
}

/// Has the engine make and start the container, also if it goes away meanwhile.
async fn run(
    system: &System,
    engine: &dyn Engine,
    bundle: &Bundle,
    id: &Id,
    outlets: &Outlets,
) -> Result<u32, Error> {
    system.leftovers.clear(engine, id).await?;
    let result = run_once(system, engine, bundle, id, outlets).await;
    if let Err(Error::Engine(EngineError::Unavailable { .. })) = result
        && let Some(pid) = after_outage(system, engine, bundle.stage, id).await
    {
        return Ok(pid);
    }
    result
}

async fn run_once(
    system: &System,
    engine: &dyn Engine,
    bundle: &Bundle,
    id: &Id,
    outlets: &Outlets,
) -> Result<u32, Error> {
    let spec = bundle.spec().to_string();
    let (stdout, stderr) = (&*outlets.stdout, &*outlets.stderr);
    let job = Job { id, bundle: &bundle.path, spec: spec.as_bytes(), stdout, stderr };
    let (timeline, lane) = (&system.timeline, bundle.label());
    let nothing_between = bundle.runtime.interfaces.is_empty() && bundle.namespace_binds().is_empty();
    if nothing_between && engine.runs_at_once() {
        timeline.begin(&lane, "start");
        return noted(timeline, &lane, "start", engine.run(job).await);
    }
    timeline.begin(&lane, "create");
    let pid = noted(timeline, &lane, "create", engine.create(job).await)?;
    timeline.begin(&lane, "start");
    let between = connect(system, bundle, pid).map_err(Error::from);
    let result = match between {
        Ok(()) => engine.start(id).await.map_err(Error::from),
        Err(error) => Err(error),
    };
    let result = noted(timeline, &lane, "start", result);
    if let Err(error) = result {
        let _ = engine.discard(id).await;
        return Err(error);
    }
    Ok(pid)
}

fn connect(system: &System, bundle: &Bundle, pid: u32) -> Result<(), BundleError> {
    bundle.connect(pid.cast_signed())?;
    // Read anew: the runtime has mounted meanwhile.
    let mounts = MountTable::read().unwrap_or_default();
    bundle.bind_namespaces(pid.cast_signed(), &system.kernel, &mounts)
}
