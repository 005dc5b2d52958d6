// SPDX-License-Identifier: Apache-2.0
//! What an earlier rc, or an earlier boot, has left.

use std::collections::BTreeSet;
use std::rc::Rc;

use init::sys::clock::since_boot;
use init::{info, warning};
use nix::libc::SIGKILL;

use super::Supervisor;
use super::state::Machine;
use crate::engine::{Engine, Found, Id};
use crate::launch;
use crate::system::SERVICES;

impl Supervisor {
    /// Finds what an earlier rc, or an earlier boot, has left: what runs is
    /// ours again, the rest is removed. In our own namespace everything is
    /// ours; in one that a bundle names, only the container of that bundle.
    pub(super) async fn take_over(self: &Rc<Self>, engine: &Rc<dyn Engine>) {
        let ids: BTreeSet<Id> =
            self.services.borrow().values().map(|service| launch::id(&service.bundle)).collect();
        let named = ids.iter().map(|id| id.namespace.as_str());
        let namespaces: BTreeSet<&str> = named.chain([SERVICES]).collect();
        for namespace in namespaces {
            let found = match engine.list(namespace).await {
                Ok(found) => found,
                Err(error) => {
                    warning!(self.system.console, "services: {error}; old containers are not cleaned up");
                    continue;
                }
            };
            for Found { name, task } in found {
                let id = Id { namespace: namespace.to_owned(), name };
                let running = task.filter(|task| task.running);
                match running.filter(|_| ids.contains(&id)) {
                    Some(task) => self.adopt(engine, id, task.pid),
                    None if namespace == SERVICES || ids.contains(&id) => {
                        self.remove_stale(engine.as_ref(), &id, running.is_some()).await;
                    }
                    None => {}
                }
            }
        }
    }

    /// A service that runs already is ours again.
    fn adopt(self: &Rc<Self>, engine: &Rc<dyn Engine>, id: Id, pid: u32) {
        let name = id.name.clone();
        info!(self.system.console, "service {name}: taken over (process {pid})");
        self.with(&name, |service| {
            service.machine = Machine::adopted(since_boot());
            service.pid = Some(pid);
        });
        tokio::task::spawn_local(self.clone().await_end(name, engine.clone(), id));
    }

    async fn remove_stale(&self, engine: &dyn Engine, id: &Id, running: bool) {
        if running {
            // Both may fail only because it has just ended.
            let _ = engine.kill(id, SIGKILL, true).await;
            let _ = engine.wait(id).await;
        }
        match engine.delete(id).await {
            Ok(()) => info!(self.system.console, "services: removed the container {id} of an earlier life"),
            Err(error) => warning!(self.system.console, "services: cannot remove an old container: {error}"),
        }
    }
}
