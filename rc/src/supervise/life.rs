// SPDX-License-Identifier: Apache-2.0
//! One life of a service: from the moment at which its process runs to its end.

use std::rc::Rc;
use std::time::Duration;

use init::error;
use tokio::time::sleep;

use super::state::Event;
use super::{Service, Supervisor};
use crate::engine::{Engine, Error as EngineError, Exit, Id};
use crate::launch::Output;
use crate::process::{self, Identity};

/// How long the engine may take to tell how a process has ended that was asked
/// to end and is gone.
const TOLD: Duration = Duration::from_secs(5);

impl Supervisor {
    /// A process of a service runs now; returns which life of it that is.
    pub(super) fn begin_life(&self, name: &str, pid: u32, output: Output) -> u64 {
        let begin = |service: &mut Service| {
            service.pid = Some(pid);
            service.output = Some(Rc::new(output));
            service.life = service.life.wrapping_add(1);
            service.life
        };
        self.with(name, begin).unwrap_or_default()
    }

    /// Waits for the end of a service's process, whatever happens to the
    /// engine meanwhile.
    pub(super) async fn await_end(self: Rc<Self>, name: String, engine: Rc<dyn Engine>, id: Id, life: u64) {
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
        self.ended(&name, life, exit);
    }

    /// Sees the end of a process that was asked to end, if the engine, which
    /// knows how it ended, does not tell of it: it may hang.
    pub(super) async fn await_gone(self: Rc<Self>, name: String) {
        let asked = self.with(&name, |service| (service.pid, service.life));
        let Some((Some(pid), life)) = asked else { return };
        // There is none of a process that has been reaped already.
        let gone = match Identity::of(pid.cast_signed()) {
            Some(identity) => process::gone(identity).await.is_ok(),
            None => true,
        };
        if gone {
            sleep(TOLD).await;
            self.ended(&name, life, Exit::LOST);
        }
    }

    /// A life of a service has ended; what has been told already is no news.
    fn ended(self: &Rc<Self>, name: &str, life: u64, exit: Exit) {
        if self.is_life(name, life) {
            self.with(name, |service| service.pid = None);
            self.handle(name, Event::Exited(exit));
        }
    }

    /// Signals the process that runs now. An engine that is away is waited
    /// for: a stop must not get lost, and must not hit the next process either.
    pub(super) async fn signal(&self, name: &str, number: i32, all: bool) {
        let Some((engine, id, life)) = self.handles(name) else { return };
        while self.is_life(name, life) {
            let signalled = tokio::select! {
                signalled = engine.kill(&id, number, all) => signalled,
                () = self.over(name, life) => return,
            };
            match signalled {
                Ok(()) => return,
                Err(EngineError::Unavailable { .. }) => self.engine_back().await,
                // It has ended meanwhile.
                Err(error) if error.is_not_found() => return,
                Err(error) => {
                    return error!(self.system.console, "service {name}: cannot signal it: {error}");
                }
            }
        }
    }

    /// Whether this life of a service is not over, as far as is known.
    fn is_life(&self, name: &str, life: u64) -> bool {
        self.with(name, |service| service.life == life && service.machine.runs()) == Some(true)
    }

    /// Waits until this life of a service is over.
    async fn over(&self, name: &str, life: u64) {
        let mut steps = self.steps.subscribe();
        while self.is_life(name, life) && steps.changed().await.is_ok() {}
    }
}
