// SPDX-License-Identifier: Apache-2.0
//! The way down: every service is stopped, within a limit for all of them.

use std::rc::Rc;
use std::time::Duration;

use init::mountinfo::MountTable;
use init::warning;
use nix::libc::SIGKILL;
use tokio::time::timeout;

use super::Supervisor;
use super::state::{Event, Phase};

/// How long the end of something that was killed may take, and what those get
/// that had to wait for others until the time was over.
pub(super) const MOMENT: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Stops every service, those first that come after others. What is still
    /// up after `limit` is killed, whatever its own patience; what was not
    /// asked to end by then, for others had to end before it, gets a moment.
    pub async fn stop_all(self: &Rc<Self>, limit: Duration) {
        let console = &self.system.console;
        self.ending.set(true);
        let names: Vec<String> = self.services.borrow().keys().cloned().collect();
        for name in &names {
            self.handle(name, Event::Retire);
        }
        if timeout(limit, self.all_down()).await.is_ok() {
            return;
        }
        let waiting = |name: &String| self.phase(name) == Some(Phase::Leaving);
        let (late, asked): (Vec<_>, Vec<_>) = self.up().into_iter().partition(waiting);
        for name in &late {
            self.handle(name, Event::Stop);
        }
        self.kill(&asked, limit);
        if timeout(MOMENT, self.all_down()).await.is_err() {
            self.kill(&late, MOMENT);
        }
        if timeout(MOMENT, self.all_down()).await.is_err() {
            warning!(console, "shutdown: services that do not end: {}", self.up().join(", "));
        }
    }

    /// Kills services, all at once; an engine that hangs holds up none.
    fn kill(self: &Rc<Self>, names: &[String], patience: Duration) {
        for name in names {
            let after = patience.as_secs_f32();
            warning!(self.system.console, "service {name}: still up after {after:.1}s: killing it");
            let (this, name) = (self.clone(), name.clone());
            tokio::task::spawn_local(async move { this.signal(&name, SIGKILL, true).await });
        }
    }

    /// Waits until no service runs, and none will by itself.
    pub async fn all_down(&self) {
        let mut steps = self.steps.subscribe();
        while !self.is_down() && steps.changed().await.is_ok() {}
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
