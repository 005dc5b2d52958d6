// SPDX-License-Identifier: Apache-2.0
//! Who is asked about services: the supervisor, and where it does not answer
//! what the machine itself shows. containerd is never asked: it may hang.

use std::path::{Path, PathBuf};
use std::time::Duration;

use init::sys::clock::since_boot;

use super::args::{Options, near};
use super::output::complain;
use super::service::Problem;
use super::status::names;
use crate::bundle::{Bundle, Stage};
use crate::control::{Answer, Client, Failure, Request};
use crate::engine::{Id, first};
use crate::supervise::Status;
use crate::{launch, paths};

/// How long a question may take that the supervisor answers at once. It has
/// one thread, which may be at something else for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of services.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// Whether the supervisor has told it.
    pub(super) supervisor: bool,
    /// containerd, in words.
    pub(super) containerd: Option<String>,
    /// By name.
    pub(super) services: Vec<Status>,
    /// Where the bundles are.
    pub(super) path: PathBuf,
}

impl Services {
    /// What is to be said of a name that is none.
    pub(super) fn unknown(&self, name: &str) -> Problem {
        unknown(name, self.services.iter().map(|status| status.name.as_str()), &self.path)
    }
}

/// A name that is none, and the one that may be meant.
pub(super) fn unknown<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, path: &Path) -> Problem {
    let hint = near(name, known).map(|near| format!("; is it {near:?}?")).unwrap_or_default();
    Problem::Unknown(format!("no service {name:?} under {}{hint}", path.display()))
}

/// Asks the supervisor; `None` where there is none.
pub(super) fn ask(request: &Request, patience: Option<Duration>) -> Result<Option<Answer>, Failure> {
    match Client::connect(Path::new(paths::CONTROL)) {
        Ok(mut client) => client.ask(request, patience).map(Some),
        Err(Failure::NoSupervisor { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Every service: as the supervisor tells, else as the machine shows.
pub(super) fn services(options: &Options) -> Services {
    match ask(&Request::Status, Some(PATIENCE)) {
        Ok(Some(Answer::Services { services, containerd })) => {
            return Services { supervisor: true, containerd, services, path: options.path.clone() };
        }
        Ok(None) => complain("service: no supervisor answers; this is what the machine shows"),
        Ok(Some(_)) | Err(_) => {
            complain("service: the supervisor (rc.init) does not answer; this is what the machine shows");
        }
    }
    let services = names(&options.path).into_iter().map(|name| look(options, name)).collect();
    Services { supervisor: false, containerd: None, services, path: options.path.clone() }
}

/// What the machine shows of one service.
fn look(options: &Options, name: String) -> Status {
    let bundle = Bundle::load(&options.path.join(&name), Stage::Services);
    let mut id = bundle.as_ref().map_or_else(
        |_| Id { namespace: crate::system::SERVICES.to_owned(), name: name.clone() },
        launch::id,
    );
    if let Some(namespace) = &options.namespace {
        id.namespace.clone_from(namespace);
    }
    let process = first::process(&id);
    let state = match (&process, &bundle) {
        (Some(_), _) => "running",
        (None, Ok(_)) => "stopped",
        (None, Err(_)) => "failed",
    };
    // A clock tick is 1/100 s for programs, on every machine we run on.
    let started = process.map(|process| Duration::from_millis(process.start.saturating_mul(10)));
    Status {
        name,
        state: state.to_owned(),
        pid: process.map(|process| process.pid.cast_unsigned()),
        uptime: started.map(|started| since_boot().saturating_sub(started).as_secs()),
        restarts: 0,
        last_exit: None,
        ready: process.is_some(),
        health: None,
        after: Vec::new(),
        reason: bundle.err().map(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_offered() {
        let found = Services { path: "/containers/services".into(), ..Services::default() };
        let Problem::Unknown(text) = unknown("gety", ["getty"], &found.path) else { panic!() };
        assert_eq!(text, "no service \"gety\" under /containers/services; is it \"getty\"?");
        let Problem::Unknown(text) = found.unknown("x") else { panic!() };
        assert_eq!(text, "no service \"x\" under /containers/services");
    }
}
