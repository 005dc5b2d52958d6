// SPDX-License-Identifier: Apache-2.0
//! `service` where no supervisor answers: the same steps, done here and once.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use init::cmdline::Cmdline;
use init::console::Console;
use nix::libc::{SIGKILL, SIGTERM};
use tokio::time::{sleep, timeout};

use super::args::Options;
use crate::boot::initd::OwnStage;
use crate::bundle::{self, Bundle, Stage};
use crate::control::{Answer, Request};
use crate::engine::{Engine, Exec, Id};
use crate::launch;
use crate::progress::Progress;
use crate::reaper::Reaper;
use crate::stages;
use crate::supervise::policy::START_TIMEOUT;
use crate::system::System;

/// How long a service may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does one of the stages.
pub(super) fn stage(stage: OwnStage) -> Result<(), String> {
    block_on(None, async |system| {
        match stage {
            OwnStage::Volumes => stages::mount_volumes(&system),
            OwnStage::Onboot => stages::run_in_order(&system, Stage::Onboot).await.settle(&system).await,
            OwnStage::Onshutdown => {
                stages::run_in_order(&system, Stage::Onshutdown).await.settle(&system).await
            }
            // Only a supervisor can keep services up.
            OwnStage::Services => return Err("no supervisor".to_owned()),
        }
        Ok(())
    })
}

/// Does what the supervisor would be asked for, as far as that goes without one.
pub(super) fn request(options: &Options, request: &Request) -> Result<Answer, String> {
    block_on(Some(&options.socket), async |system| match request {
        Request::Start { name } => start(&system, options, name).await,
        Request::Stop { name } => stop(&system, options, name).await,
        Request::Restart { name } => {
            stop(&system, options, name).await?;
            start(&system, options, name).await
        }
        Request::StartAll => {
            let folder = options.path.parent().unwrap_or(Path::new("/"));
            let listing = bundle::list(folder, Stage::Services).map_err(|error| error.to_string())?;
            let mut failures = Vec::new();
            for path in listing.paths {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if let Err(error) = start(&system, options, &name).await {
                    failures.push(format!("{name}: {error}"));
                }
            }
            if failures.is_empty() { Ok(Answer::Done) } else { Err(failures.join("; ")) }
        }
        Request::Status | Request::Follow | Request::Shutdown => Err("no supervisor answers".to_owned()),
    })
}

/// The command that runs something in a service's container.
pub(super) fn exec_command(options: &Options, name: &str, exec: Exec<'_>) -> Result<Command, String> {
    block_on(Some(&options.socket), async |system| {
        let (engine, _, id) = handles(&system, options, name)?;
        engine.exec(&id, exec).map_err(|error| error.to_string())
    })
}

fn block_on<T>(
    socket: Option<&Path>,
    work: impl AsyncFnOnce(Rc<System>) -> Result<T, String>,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot make an event loop: {error}"))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let cmdline = Cmdline::current().unwrap_or_default();
        let console = Arc::new(Console::open(&cmdline));
        let reaper = Reaper::start().map_err(|error| format!("cannot watch children: {error}"))?;
        let system = System::attach(console, cmdline, reaper, Progress::forgetful(), socket);
        work(Rc::new(system)).await
    })
}

fn handles(system: &System, options: &Options, name: &str) -> Result<(Rc<dyn Engine>, Bundle, Id), String> {
    let mut bundle =
        Bundle::load(&options.path.join(name), Stage::Services).map_err(|error| error.to_string())?;
    if bundle.runtime.namespace.is_none() {
        bundle.runtime.namespace.clone_from(&options.namespace);
    }
    let engine = system.engine(Stage::Services).map_err(|error| error.to_string())?;
    let id = launch::id(&bundle);
    Ok((engine, bundle, id))
}

async fn start(system: &System, options: &Options, name: &str) -> Result<Answer, String> {
    let (engine, bundle, id) = handles(system, options, name)?;
    let found = engine.list(&id.namespace).await.map_err(|error| error.to_string())?;
    if let Some(found) = found.iter().find(|found| found.name == id.name) {
        if found.task.is_some_and(|task| task.is_running()) {
            return Err("runs already".to_owned());
        }
        // What is left of a crash.
        engine.delete(&id).await.map_err(|error| error.to_string())?;
    }
    let started = launch::launch(system, &engine, &bundle, sleep(START_TIMEOUT)).await;
    started.map(|_| Answer::Done).map_err(|error| error.to_string())
}

async fn stop(system: &System, options: &Options, name: &str) -> Result<Answer, String> {
    let (engine, _, id) = handles(system, options, name)?;
    match engine.kill(&id, SIGTERM, false).await {
        Ok(()) => {
            if timeout(PATIENCE, engine.wait(&id)).await.is_err() {
                engine.kill(&id, SIGKILL, true).await.map_err(|error| error.to_string())?;
                engine.wait(&id).await.map_err(|error| error.to_string())?;
            }
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.to_string()),
    }
    engine.delete(&id).await.map(|()| Answer::Done).map_err(|error| error.to_string())
}
