// SPDX-License-Identifier: Apache-2.0
//! Whose turn it is: `lkinit.after`, forwards at starts and backwards when the
//! machine goes down.

use std::collections::BTreeMap;
use std::rc::Rc;

use init::{error, warning};

use super::Supervisor;
use super::order::Order;
use super::state::{Event, Phase, Why};
use crate::bundle::{self, Stage};

impl Supervisor {
    /// Works the order out of what the services ask for; what cannot be is
    /// told, once.
    pub(super) fn put_in_order(&self) {
        let console = &self.system.console;
        let wanted: BTreeMap<String, Vec<String>> = self
            .services
            .borrow()
            .iter()
            .map(|(name, service)| (name.clone(), service.policy.after.clone()))
            .collect();
        // A folder that cannot be read has been told of when it was its turn.
        let onboot = bundle::list(&self.system.containers, Stage::Onboot).unwrap_or_default();
        let name = |path: &std::path::PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
        let onboot: Vec<String> = onboot.paths.iter().filter_map(name).collect();
        let (order, complaints) = Order::new(&wanted, &onboot);
        for complaint in &complaints {
            if !self.complaints.borrow().contains(complaint) {
                error!(console, "{complaint}");
            }
        }
        self.complaints.replace(complaints);
        self.order.replace(order);
    }

    /// Waits until nothing holds a service up any more, and tells it.
    pub(super) async fn await_turn(self: Rc<Self>, name: String) {
        let mut steps = self.steps.subscribe();
        while !self.waits_for(&name).is_empty() {
            if steps.changed().await.is_err() {
                return;
            }
        }
        self.tell_of_failures(&name);
        self.handle(&name, Event::Released);
    }

    /// What a service waits for: to start, that those before it are ready or
    /// will not come; to be stopped, that those after it are down.
    pub(super) fn waits_for(&self, name: &str) -> Vec<String> {
        let order = self.order.borrow();
        let holds = |other: &str, settled: fn(Phase) -> bool| {
            self.phase(other).filter(|phase| !settled(*phase)).map(|_| other.to_owned())
        };
        match self.phase(name) {
            Some(Phase::Held) => {
                let settled = |phase| matches!(phase, Phase::Up | Phase::Unhealthy(_) | Phase::Down(_));
                order.before(name).iter().filter_map(|other| holds(other, settled)).collect()
            }
            Some(Phase::Leaving) => {
                let settled = |phase| matches!(phase, Phase::Down(_));
                order.after(name).filter_map(|other| holds(other, settled)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether what a service waits for has failed and will be tried again,
    /// nobody knows with what success.
    pub(super) fn is_held_up(&self, name: &str) -> bool {
        // The order has no cycles.
        self.waits_for(name).iter().any(|other| match self.phase(other) {
            Some(Phase::BackingOff(_)) => true,
            Some(Phase::Held) => self.is_held_up(other),
            _ => false,
        })
    }

    /// `lkinit.after` is about order: who comes after something that has
    /// failed for good starts all the same, and that is said.
    fn tell_of_failures(&self, name: &str) {
        if self.phase(name) != Some(Phase::Held) {
            return;
        }
        for other in self.order.borrow().before(name) {
            if let Some(Phase::Down(Why::Failed | Why::GaveUp)) = self.phase(other) {
                warning!(
                    self.system.console,
                    "service {name}: comes after {other}, which has failed; starting it all the same"
                );
            }
        }
    }
}
