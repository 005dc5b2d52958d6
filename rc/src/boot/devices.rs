// SPDX-License-Identifier: Apache-2.0
//! Cold plug as part of the boot: beside everything else, and then a listener.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use init::action::Kernel as _;
use init::console::Console;
use init::mountinfo::MountTable;
use init::sys::Linux;
use init::{debug, error, warning};
use tokio::sync::oneshot;

use super::mounts;
use crate::modules::{self, ColdPlug, Event, Outcome, Place, Report};
use crate::timeline::{Span, Timeline};
use crate::watch::Readable;

/// What every container's root filesystem needs, and no device asks for: it
/// is loaded with the others instead of by the first mount.
pub(super) const WANTED: [&str; 1] = ["overlay"];

/// Cold plug under way on threads of its own.
pub(super) type Settling = oneshot::Receiver<(ColdPlug, Report)>;

/// Begins; nothing waits for it yet. Filesystems that a module brings are
/// mounted beside it.
pub(super) fn start(console: Arc<Console>) -> Option<Settling> {
    let place = match Place::running() {
        Ok(place) => place,
        Err(error) => {
            error!(console, "devices: cannot tell the kernel's version: {error}; no module is loaded");
            return None;
        }
    };
    let (sender, settled) = oneshot::channel();
    let told = console.clone();
    let observe = move |event: &Event<'_>| {
        if event.is_fault() {
            warning!(told, "{event}");
        } else {
            debug!(told, "{event}");
        }
    };
    let work = move || {
        let devices = ColdPlug::start(place, WANTED.map(str::to_owned).to_vec(), observe);
        for mount in mounts::missing(&MountTable::read().unwrap_or_default()) {
            // The kernel does not have it.
            let _ = Linux.apply(&mount);
        }
        let report = devices.settle();
        // Nobody waits any more only when rc is ending.
        let _ = sender.send((devices, report));
    };
    match thread::Builder::new().name("devices".to_owned()).spawn(work) {
        Ok(_) => Some(settled),
        Err(error) => {
            error!(console, "devices: cannot start a thread: {error}; no module is loaded");
            None
        }
    }
}

/// Waits until every device that is there has its module, and from then on
/// listens for those that come later.
pub(super) async fn settled(
    console: &Arc<Console>,
    timeline: &Timeline,
    settling: Option<Settling>,
) -> Option<Rc<ColdPlug>> {
    let Ok((devices, report)) = settling?.await else {
        error!(console, "devices: cold plug ended early; the boot goes on");
        return None;
    };
    debug!(
        console,
        "devices: settled in {:.3}s: {} modules loaded for {} devices",
        report.took.as_secs_f32(),
        report.loaded().count(),
        report.modaliases
    );
    note_modules(&report, timeline);
    let devices = Rc::new(devices);
    let socket =
        devices.uevents().map(|socket| BorrowedFd::try_clone_to_owned(&socket).and_then(Readable::new));
    match socket {
        Some(Ok(socket)) => {
            let devices = devices.clone();
            tokio::task::spawn_local(async move {
                while socket.take(|| devices.handle_readable()).await.is_ok() {}
            });
        }
        Some(Err(error)) => {
            warning!(console, "devices: cannot listen: {error}; devices that come later get no module");
        }
        // It has been told of when the socket could not be opened.
        None => {}
    }
    Some(devices)
}

/// Which modules had to wait for a device that another one brought up. Called
/// when nobody waits for it.
pub(super) fn note_parents(timeline: &Timeline) {
    let found = modules::brought_up_by(Path::new("/sys")).into_iter();
    let found: Vec<_> = found.map(|(modalias, module)| (modalias, format!("module {module}/load"))).collect();
    timeline.wanted_after(&found);
}

/// Every module that the kernel was asked to load.
fn note_modules(report: &Report, timeline: &Timeline) {
    for module in &report.modules {
        let lane = |name: &dyn std::fmt::Display| format!("module {name}");
        let failed = match &module.outcome {
            Outcome::Loaded => None,
            Outcome::NoDevice => Some("it finds no device".to_owned()),
            Outcome::Failed(error) => Some(error.to_string()),
            Outcome::AlreadyLive | Outcome::Forbidden(_) | Outcome::Blocked { .. } => continue,
        };
        let end = module.started + module.took;
        let mut span = Span::over(&lane(&module.name), "load", module.started, end);
        span.after = module.needs.iter().map(|need| format!("{}/load", lane(need))).collect();
        span.wanted = Some(module.wanted_by.clone());
        span.failed = failed;
        timeline.add(span);
    }
}
