// SPDX-License-Identifier: Apache-2.0
//! Runs inside an image, beside its supervisor, and prints milliseconds: what
//! `hundred` compares.
//!
//! `floor supervised` has the supervisor start every service. `floor bare`
//! makes the calls to containerd that this takes, of the same bundles, and
//! nothing else; it removes them again. `floor stop` stops every service.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rc::bundle::{self, Bundle, Stage};
use rc::control::{Answer, Client, Request};
use rc::engine::containerd::{Containerd, SOCKET};
use rc::engine::{Engine, Id, Job, direct};
use rc::paths;
use tokio::task::{LocalSet, spawn_local};

/// A namespace that the supervisor leaves alone.
const NAMESPACE: &str = "floor";

fn main() -> Result<()> {
    let took = match std::env::args().nth(1).as_deref() {
        Some("supervised") => supervised()?,
        Some("bare") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, bare())?
        }
        Some("stop") => stop()?,
        _ => bail!("usage: floor supervised|bare|stop"),
    };
    println!("{:.1}", took.as_secs_f64() * 1000.0);
    Ok(())
}

fn bundles() -> Result<Vec<PathBuf>> {
    let listing = bundle::list(Path::new(paths::CONTAINERS), Stage::Services)?;
    ensure!(!listing.paths.is_empty(), "the image has no services");
    Ok(listing.paths)
}

fn ask(request: &Request) -> Result<()> {
    let mut client = Client::connect(Path::new(paths::CONTROL))?;
    match client.ask(request, None)? {
        Answer::Done => Ok(()),
        other => bail!("{request:?}: {other:?}"),
    }
}

fn supervised() -> Result<Duration> {
    let begin = Instant::now();
    ask(&Request::StartAll)?;
    Ok(begin.elapsed())
}

fn stop() -> Result<Duration> {
    let begin = Instant::now();
    let stops: Vec<_> = bundles()?
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::thread::spawn(move || ask(&Request::Stop { name }))
        })
        .collect();
    for stop in stops {
        stop.join().ok().context("a thread panicked")??;
    }
    Ok(begin.elapsed())
}

/// All at once, as the supervisor does; what is written goes nowhere.
async fn bare() -> Result<Duration> {
    let engine = Rc::new(Containerd::new(Path::new(SOCKET), direct::find_crun()));
    let mut specs = Vec::new();
    for path in bundles()? {
        let bundle = Bundle::load(&path, Stage::Services)?;
        let id = Id { namespace: NAMESPACE.to_owned(), name: bundle.name.clone() };
        specs.push(Rc::new((id, path, bundle.spec().to_string())));
    }
    let begin = Instant::now();
    each(&engine, &specs, async |engine, spec| {
        let (id, bundle, text) = &*spec;
        let null = Path::new("/dev/null");
        let job = Job { id, bundle, spec: text.as_bytes(), stdout: null, stderr: null };
        engine.create(job).await?;
        Ok(engine.start(id).await?)
    })
    .await?;
    let took = begin.elapsed();
    each(&engine, &specs, async |engine, spec| Ok(engine.discard(&spec.0).await?)).await?;
    Ok(took)
}

type Spec = Rc<(Id, PathBuf, String)>;

async fn each<F>(engine: &Rc<Containerd>, specs: &[Spec], work: F) -> Result<()>
where
    F: AsyncFn(Rc<Containerd>, Spec) -> Result<()> + Copy + 'static,
{
    let tasks: Vec<_> = specs
        .iter()
        .map(|spec| {
            let (engine, spec) = (engine.clone(), spec.clone());
            spawn_local(async move { work(engine, spec).await })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
