// SPDX-License-Identifier: Apache-2.0
//! For the tests of providers: a session with a server of the test's own.

#[path = "../tests/support/server.rs"]
pub(crate) mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use server::{Received, Reply, Server};

use crate::facts::{Facts, Roots};
use crate::http::Deadline;
use crate::http::deadline::Budget;
use crate::http::retry::Retry;
use crate::log::Log;
use crate::providers::session::Surroundings;
use crate::providers::{Found, ProviderError, Row, Session};
use crate::race::Race;
use crate::tree::Node;

/// Time enough on a busy machine, and an end if something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn surroundings(row: &Row, server: &Server, facts: Facts) -> Surroundings {
    let url = server.base().parse().unwrap();
    Surroundings {
        log: Log::default(),
        facts: Arc::new(facts),
        roots: Roots { sysfs: PathBuf::from("/nonexistent"), ..Roots::default() },
        addresses: Arc::new([(row.name.to_owned(), url)].into()),
        leases: Vec::new(),
        userdata_limit: 1 << 20,
        patience: Some(PATIENCE),
        end: None,
        network: false,
        disks: Deadline::after(Duration::ZERO),
    }
}

/// Asks a provider that is known to be the one.
pub(crate) fn fetch(row: &'static Row, server: &Server) -> Result<Found, ProviderError> {
    fetch_with(row, server, Facts::default())
}

pub(crate) fn fetch_with(row: &'static Row, server: &Server, facts: Facts) -> Result<Found, ProviderError> {
    let session = Session::alone(row, surroundings(row, server, facts), Deadline::after(PATIENCE));
    row.provider.fetch(&session)
}

/// Asks a provider on a guess, alone in the race.
pub(crate) fn guess(row: &'static Row, server: &Server) -> Result<Found, ProviderError> {
    let deadline = Deadline::after(Duration::from_secs(2));
    let (_, mut tickets) = Race::new(1, false, deadline);
    let retry = Retry { refused: false, broken: false, unreachable: false, ..Retry::default() };
    let surroundings = surroundings(row, server, Facts::default());
    let session = Session::guessing(row, surroundings, Budget::until(deadline), retry, tickets.remove(0));
    row.provider.fetch(&session)
}

/// The files of what was found, by name; user data and provider with them.
pub(crate) fn files(found: &Found) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let own =
        [Some(("provider", found.provider.as_bytes())), found.userdata.as_deref().map(|u| ("userdata", u))];
    let own = own.into_iter().flatten().map(|(name, bytes)| (name.to_owned(), text(bytes)));
    let files = found.files.nodes().iter().filter_map(|node| match node {
        Node::File { path, bytes, .. } => Some((path.to_string(), text(bytes))),
        Node::Dir { .. } => None,
    });
    own.chain(files).collect()
}

/// The same as expected by a test.
pub(crate) fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// A server that has these and nothing else.
pub(crate) fn serving(pages: &'static [(&'static str, &'static str)]) -> Server {
    Server::start(move |request| page(pages, request))
}

pub(crate) fn page(pages: &[(&str, &str)], request: &Received) -> Reply {
    let known = pages.iter().find(|(path, _)| request.method == "GET" && *path == request.path);
    known.map_or(Reply::status(404), |(_, text)| Reply::text(text))
}
