// SPDX-License-Identifier: Apache-2.0
//! What a provider works with: the facts, its service, and its time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{ProviderError, Row};
use crate::facts::{Facts, Roots};
use crate::http::deadline::Budget;
use crate::http::retry::Retry;
use crate::http::{Client, Deadline, Settings, Url};
use crate::log::Log;
use crate::race::Ticket;

/// How certain an answer makes it who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// Nobody else answers so.
    Certain,
    /// Others imitate it.
    Likely,
}

/// What does not differ between providers.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where to write lines.
    pub log: Log,
    /// What is known about the machine.
    pub facts: Arc<Facts>,
    /// Where the kernel shows things.
    pub roots: Roots,
    /// Other addresses for services, by the name of the provider.
    pub addresses: Arc<HashMap<String, Url>>,
    /// Where DHCP clients keep their leases.
    pub leases: Vec<PathBuf>,
    /// Most bytes of user data.
    pub userdata_limit: usize,
    /// The longest that a provider may take, if it is less than its own.
    pub patience: Option<Duration>,
    /// Whether the network may be set up.
    pub network: bool,
    /// When everything is to be over, if the user has said so.
    pub end: Option<Deadline>,
    /// Until when a disk that was named may still appear.
    pub disks: Deadline,
}

impl Surroundings {
    /// Until when a provider that is known to be the one may take from now on.
    pub fn deadline(&self, row: &Row) -> Deadline {
        let patience = self.patience.map_or(row.patience, |most| most.min(row.patience));
        let deadline = Deadline::after(patience);
        self.end.map_or(deadline, |end| deadline.min(end))
    }
}

/// One provider being asked.
#[derive(Debug)]
pub struct Session {
    /// What does not differ.
    pub surroundings: Surroundings,
    /// Which.
    pub row: &'static Row,
    /// When requests are sent again.
    pub retry: Retry,
    budget: Arc<Budget>,
    ticket: Option<Ticket>,
}

impl Session {
    /// A provider that is asked alone, for it is known to be the one.
    pub fn alone(row: &'static Row, surroundings: Surroundings, deadline: Deadline) -> Self {
        let budget = Arc::new(Budget::until(deadline));
        Self { surroundings, row, retry: Retry::default(), budget, ticket: None }
    }

    /// A provider that is asked on a guess, perhaps others beside it.
    pub fn guessing(
        row: &'static Row,
        surroundings: Surroundings,
        budget: Budget,
        retry: Retry,
        ticket: Ticket,
    ) -> Self {
        let budget = ticket.budget(budget);
        Self { surroundings, row, retry, budget, ticket: Some(ticket) }
    }

    /// Whether this is a guess.
    pub fn is_guess(&self) -> bool {
        self.ticket.is_some()
    }

    /// What is known about the machine.
    pub fn facts(&self) -> &Facts {
        &self.surroundings.facts
    }

    /// Where to write lines.
    pub fn log(&self) -> Log {
        self.surroundings.log
    }

    /// Says that this is the machine's provider, for its service has proved
    /// it. From here on it has all the time and patience of one that is known
    /// to be, and the others are given up.
    ///
    /// # Errors
    /// [`ProviderError::Cancelled`] if another one is, or is to be preferred.
    pub fn claim(&self, service: &mut Client, certainty: Certainty) -> Result<(), ProviderError> {
        if let Some(ticket) = &self.ticket {
            if !ticket.claim(certainty) {
                return Err(ProviderError::Cancelled);
            }
            self.budget.set(self.surroundings.deadline(self.row));
        }
        service.be_patient();
        Ok(())
    }

    /// Gives itself this much time from now, and no more than it has.
    pub fn hurry(&self, time: Duration) {
        if let Some(deadline) = self.budget.deadline() {
            self.budget.set(deadline.at_most(time));
        }
    }

    /// The time that is left.
    pub fn remaining(&self) -> Duration {
        self.budget.deadline().map_or(Duration::ZERO, Deadline::remaining)
    }

    /// A service of this provider: at the address that the command line or
    /// the kernel command line (`metadata.NAME.url=`) gives for `name`, else
    /// at these.
    pub fn client(&self, name: &str, addresses: &[&str]) -> Client {
        self.client_with(name, addresses, Settings::default())
    }

    /// The same with more settings than the address and the retries.
    pub fn client_with(&self, name: &str, addresses: &[&str], settings: Settings) -> Client {
        let endpoints = match self.address(name) {
            Some(url) => vec![url],
            // Our own addresses, all of which a test reads.
            None => addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        };
        self.client_at(endpoints, settings)
    }

    /// The same at addresses that the provider has found out.
    pub fn client_at(&self, endpoints: Vec<Url>, settings: Settings) -> Client {
        Client::new(Settings { endpoints, retry: self.retry, ..settings }, Arc::clone(&self.budget))
    }

    /// Another address for a service, if somebody has given one.
    pub fn address(&self, name: &str) -> Option<Url> {
        let given = self.surroundings.addresses.get(name).cloned();
        let names =
            std::iter::once(name).chain(self.row.aliases.iter().copied().filter(|_| name == self.row.name));
        given.or_else(|| {
            names
                .into_iter()
                .find_map(|name| self.facts().cmdline.get(&format!("metadata.{name}.url"))?.parse().ok())
        })
    }
}
