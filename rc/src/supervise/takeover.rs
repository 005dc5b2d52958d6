// SPDX-License-Identifier: Apache-2.0
//! What an earlier rc, or an earlier boot, has left.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use init::{info, warning};
use tokio::time::{sleep, timeout};

use super::Supervisor;
use super::state::{Event, Left};
use crate::bundle::Stage;
use crate::engine::{Engine, Error, Exit, Found, Id, TaskState};
use crate::launch::{self, Output};
use crate::logs::Logs;
use crate::system::{ENGINE_AWAY, SERVICES};

/// How long the exit status of a container that has ended may take.
const TOLD: Duration = Duration::from_secs(20);

impl Supervisor {
    /// Finds what an earlier rc, or an earlier boot, has left, and goes on
    /// from there: what runs is ours again, what has ended meanwhile is dealt
    /// with as if this rc had seen it, the rest is removed. In our own
    /// namespace everything is ours; in one that a bundle names, only the
    /// container of that bundle.
    ///
    /// Done once in a life of rc, before anything is started.
    pub(super) async fn take_over(self: &Rc<Self>, engine: &Rc<dyn Engine>) {
        if self.taken_over.replace(true) {
            return;
        }
        let ids: BTreeMap<Id, String> = {
            let services = self.services.borrow();
            services.iter().map(|(name, service)| (launch::id(&service.bundle), name.clone())).collect()
        };
        // A person's word may have this rc start one, before this or meanwhile.
        let is_ours = |name: &str| self.with(name, |service| service.is_ours()) == Some(true);
        let named = ids.keys().map(|id| id.namespace.as_str());
        let namespaces: BTreeSet<&str> = named.chain([SERVICES]).collect();
        let mut removals = Vec::new();
        let mut running = BTreeMap::new();
        let mut ended = BTreeMap::new();
        for namespace in namespaces {
            for Found { name, task } in self.found(engine.as_ref(), namespace).await {
                let id = Id { namespace: namespace.to_owned(), name };
                let service = ids.get(&id);
                if service.is_some_and(|name| is_ours(name)) {
                    continue;
                }
                let known = service.is_some();
                match task.map(|task| (task.state, task.pid)) {
                    Some((TaskState::Running, pid)) if known => drop(running.insert(id, pid)),
                    task if known || namespace == SERVICES => {
                        let ended = matches!(task, Some((TaskState::Ended, _)));
                        // Whoever starts it meanwhile waits for its removal.
                        self.system.leftovers.add(id.clone());
                        let removal = self.clone().remove_stale(engine.clone(), id.clone(), ended);
                        removals.push((id, tokio::task::spawn_local(removal)));
                    }
                    _ => {}
                }
            }
        }
        for (id, removal) in removals {
            // It fails only when the task has panicked.
            ended.insert(id, removal.await.unwrap_or(Exit::LOST));
        }
        for (id, name) in ids {
            if is_ours(&name) {
                continue;
            }
            match running.get(&id) {
                Some(pid) => self.adopt(engine, id, name, *pid),
                None => {
                    let exit = ended.get(&id).copied().unwrap_or(Exit::LOST);
                    self.with(&name, |service| service.pid = None);
                    self.handle(&name, Event::Found(Left::Ended(exit)));
                }
            }
        }
    }

    /// The containers of a namespace, however long the engine takes to answer:
    /// a service that runs and is not seen would be started a second time.
    async fn found(&self, engine: &dyn Engine, namespace: &str) -> Vec<Found> {
        loop {
            match engine.list(namespace).await {
                Ok(found) => return found,
                Err(Error::Unavailable { .. }) => self.engine_back().await,
                Err(error) => {
                    warning!(self.system.console, "services: {error}; asking again");
                    sleep(ENGINE_AWAY).await;
                }
            }
        }
    }

    /// A service that runs already is ours again.
    fn adopt(self: &Rc<Self>, engine: &Rc<dyn Engine>, id: Id, name: String, pid: u32) {
        info!(self.system.console, "service {name}: taken over (process {pid})");
        let logs = Logs::of(Stage::Services, &name, &self.system.cmdline);
        let outlets = self.system.logger.hold(&logs);
        let life = self.begin_life(&name, pid, Output::of_earlier(logs, outlets));
        self.handle(&name, Event::Found(Left::Running));
        tokio::task::spawn_local(self.clone().await_end(name, engine.clone(), id, life));
    }

    /// Removes a container that does not run; says how it ended, if it did.
    async fn remove_stale(self: Rc<Self>, engine: Rc<dyn Engine>, id: Id, ended: bool) -> Exit {
        // Asked first: whoever has removed it does not know.
        // One whose shim is held up is never told of.
        let exit = match ended.then(|| timeout(TOLD, engine.wait(&id))) {
            Some(told) => told.await.ok().and_then(Result::ok).unwrap_or(Exit::LOST),
            None => Exit::LOST,
        };
        match self.system.leftovers.clear(engine.as_ref(), &id).await {
            Ok(()) => info!(self.system.console, "services: removed the container {id} of an earlier life"),
            Err(error) => warning!(self.system.console, "services: cannot remove an old container: {error}"),
        }
        exit
    }
}
