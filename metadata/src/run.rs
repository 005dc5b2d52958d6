// SPDX-License-Identifier: Apache-2.0
//! From the command line to files: look, plan, ask, write, tell.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use crate::cli::{CONFIG_DIR, Options};
use crate::confine;
use crate::explain::{Times, explain};
use crate::facts::Facts;
use crate::hostname::kernel_name;
use crate::http::Deadline;
use crate::http::deadline::Budget;
use crate::http::retry::Retry;
use crate::identify::{Identification, identify};
use crate::log::Log;
use crate::news::interfaces_up;
use crate::plan::{Named, Plan, Step, plan};
use crate::providers::azure::lease;
use crate::providers::session::Surroundings;
use crate::providers::{Afterwards, Found, Outcome, ProviderError, Row, Session};
use crate::race::Race;
use crate::tree::write::Base;
use crate::{debug, error, info, userdata};

/// How long a guess may take.
const GUESS: Duration = Duration::from_secs(2);
/// How long what is done at the end may take altogether.
const AFTERWARDS: Duration = Duration::from_secs(180);
/// Stack of a thread that asks a provider.
const STACK: usize = 512 << 10;
/// Largest host name file that is looked at, in bytes.
const HOSTNAME_LIMIT: u64 = 1024;

/// Does everything. Returns the exit status: 0, or 1 where files could not be
/// written, the network not be set up, the platform not be told, or none of
/// the named providers was there.
pub fn run(options: Options) -> u8 {
    let log = Log::new(options.verbose);
    let end = options.timeout.map(Deadline::after);
    let (facts, trouble) = Facts::collect(&options.roots);
    if let Some(trouble) = trouble {
        error!(log, "{trouble}; going on without it");
    }
    let (facts, identification) = look(facts, &options);
    let plan = plan(&identification, &options.named);
    let guess = options.timeout.unwrap_or(GUESS);
    // Boot steps follow one another: where nobody has switched an interface
    // on by now, nobody will while this waits.
    let up = interfaces_up().is_none_or(|names| !names.is_empty());
    let known = options.timeout.or((!up).then_some(guess));
    if options.explain {
        let text = explain(&facts, &identification, &plan, Times { guess, known });
        // Whoever reads no further has read enough.
        let _ = std::io::stdout().write_all(text.as_bytes());
        return 0;
    }
    for (row, reason) in &plan.skipped {
        debug!(log, "{}: skipped: {reason}", row.name);
    }
    let base = match Base::open(&options.config_dir) {
        Ok(base) => base,
        Err(error) => {
            error!(log, "{error}");
            return 1;
        }
    };
    if options.config_dir == Path::new(CONFIG_DIR) {
        link_old_place(log);
    }
    let surroundings = Surroundings {
        log,
        facts: Arc::new(facts),
        leases: options
            .leases
            .clone()
            .map_or_else(|| lease::DIRECTORIES.iter().map(PathBuf::from).collect(), |dir| vec![dir]),
        roots: options.roots.clone(),
        addresses: Arc::new(options.addresses.clone()),
        userdata_limit: options.max_userdata,
        patience: known,
        end,
        network: options.network,
        disks: Deadline::after(guess),
    };
    if let Err(error) = confine::confine(&plan, &surroundings, &options) {
        error!(log, "{error}");
        return 1;
    }
    let asker = Asker { surroundings, guess, retry: retry_of_guess(up) };
    let found = asker.first_found(&plan).or_else(|| asker.late_disks(&plan, &options.named));
    let Some((row, found)) = found else {
        info!(log, "No metadata/userdata found. Bye");
        return u8::from(options.named.anything());
    };
    let mut outcome = write(log, &base, &found, options.hostname);
    finish(&asker.surroundings, row, found, &mut outcome);
    u8::from(!outcome.failures.is_empty())
}

/// Identifies the machine, with a look at the disks where that may help.
fn look(mut facts: Facts, options: &Options) -> (Facts, Identification) {
    let identification = identify(&facts);
    let named = &options.named;
    let media =
        if named.anything() { named.rows.iter().any(|row| row.media) } else { identification.wants_media() };
    if !media {
        return (facts, identification);
    }
    facts.look_at_media(&options.roots);
    let identification = identify(&facts);
    (facts, identification)
}

/// A guess is not repeated where nobody answers; it waits for a network that
/// is being set up.
fn retry_of_guess(up: bool) -> Retry {
    Retry { refused: false, broken: false, unreachable: up, ..Retry::default() }
}

/// Older images and documents say `/var/config`. What somebody has put there
/// stays, and that is said, for it then does not lead to the tree.
fn link_old_place(log: Log) {
    const OLD: &str = "/var/config";
    let link = || std::os::unix::fs::symlink(CONFIG_DIR, OLD);
    let result = match link() {
        Err(source) if source.kind() == ErrorKind::AlreadyExists => match std::fs::read_link(OLD) {
            Ok(target) if target == Path::new(CONFIG_DIR) => Ok(()),
            Ok(target) => Err(format!("it is a link to {}", target.display())),
            // An empty directory is nobody's.
            Err(_) => std::fs::remove_dir(OLD).and_then(|()| link()).map_err(|source| source.to_string()),
        },
        // Whoever has no /var has no need of it.
        Err(source) if source.kind() == ErrorKind::NotFound => {
            debug!(log, "{OLD} is not made a link to {CONFIG_DIR}: there is no /var");
            Ok(())
        }
        result => result.map_err(|source| source.to_string()),
    };
    if let Err(reason) = result {
        info!(log, "{OLD} is not made a link to {CONFIG_DIR}: {reason}");
    }
}

struct Asker {
    surroundings: Surroundings,
    guess: Duration,
    retry: Retry,
}

type Answer = Result<Found, ProviderError>;

impl Asker {
    /// Goes through the plan to the first step that succeeds. `None` for the
    /// provider is a file.
    fn first_found(&self, plan: &Plan) -> Option<(Option<&'static Row>, Found)> {
        let log = self.surroundings.log;
        for step in &plan.steps {
            let (row, answer) = match step {
                Step::Ask(row, reason) => {
                    debug!(log, "{}: asked: {reason}", row.name);
                    let deadline = self.surroundings.deadline(row);
                    let session = Session::alone(row, self.surroundings.clone(), deadline);
                    (
                        Some(*row),
                        row.provider.fetch(&session).map_err(|error| format!("{}: {error}", row.name)),
                    )
                }
                Step::Race { rows, .. } if rows.len() == 1 => match rows.first() {
                    Some(row) => (Some(*row), self.one(row)),
                    None => continue,
                },
                Step::Race { rows, ordered } => match self.race(rows, *ordered) {
                    Some((row, found)) => (Some(row), Ok(found)),
                    None => continue,
                },
                Step::File(path) => (None, self.file(path)),
            };
            match answer {
                Ok(found) => {
                    info!(log, "{}: Probe succeeded", found.provider);
                    return Some((row, found));
                }
                Err(error) => error!(log, "{error}"),
            }
        }
        None
    }

    /// Disks that have appeared while the network was asked.
    fn late_disks(&self, asked: &Plan, named: &Named) -> Option<(Option<&'static Row>, Found)> {
        let Surroundings { facts, roots, .. } = &self.surroundings;
        // Where nobody looked, disks would change nothing.
        let seen = facts.media.as_ref().filter(|_| !named.anything())?;
        let mut facts = Facts::clone(facts);
        if facts.look_at_media(roots) == seen {
            return None;
        }
        let mut plan = plan(&identify(&facts), named);
        plan.steps
            .retain(|step| matches!(step, Step::Ask(row, _) if row.media && !asked.steps.contains(step)));
        let surroundings = Surroundings { facts: Arc::new(facts), ..self.surroundings.clone() };
        Self { surroundings, guess: self.guess, retry: self.retry }.first_found(&plan)
    }

    fn file(&self, path: &Path) -> Result<Found, String> {
        info!(self.surroundings.log, "Trying file {}", path.display());
        let mut found = Found::from_provider(path.display().to_string());
        match crate::file::read(path, self.surroundings.userdata_limit) {
            Ok(Some(bytes)) => found.userdata = Some(bytes),
            Ok(None) => return Err(format!("{}: there is no such file", path.display())),
            Err(error) => return Err(error.to_string()),
        }
        Ok(found)
    }

    /// Asks one of which nothing is known but that it was named. Who takes a
    /// connection in time has more of it for the answer: a service on the
    /// internet is far away.
    fn one(&self, row: &'static Row) -> Result<Found, String> {
        let deadline = Deadline::after(self.guess);
        let (_, tickets) = Race::new(1, true, deadline);
        let budget = Budget::connected_until(deadline, self.surroundings.deadline(row));
        let error = match tickets.into_iter().next() {
            Some(ticket) => {
                let session = Session::guessing(row, self.surroundings.clone(), budget, self.retry, ticket);
                match row.provider.fetch(&session) {
                    Ok(found) => return Ok(found),
                    Err(error) => error,
                }
            }
            None => ProviderError::Cancelled,
        };
        Err(format!("{}: {error}", row.name))
    }

    /// Asks all at once. Threads that lose are left behind: they end with the
    /// program, which does not wait for them.
    fn race(&self, rows: &[&'static Row], ordered: bool) -> Option<(&'static Row, Found)> {
        let log = self.surroundings.log;
        let deadline = Deadline::after(self.guess);
        let (race, tickets) = Race::new(rows.len(), ordered, deadline);
        let (sender, receiver) = mpsc::channel::<(&'static Row, Answer)>();
        for (row, ticket) in rows.iter().copied().zip(tickets) {
            let budget = Budget::until(deadline);
            let session = Session::guessing(row, self.surroundings.clone(), budget, self.retry, ticket);
            let sender = sender.clone();
            let ask = move || {
                let answer = row.provider.fetch(&session);
                // The session's place in the race is given up before anybody
                // hears of the answer. Nobody listens any more after the end.
                drop(session);
                let _ = sender.send((row, answer));
            };
            if let Err(source) = std::thread::Builder::new().stack_size(STACK).spawn(ask) {
                error!(log, "{}: not asked: cannot start a thread: {source}", row.name);
            }
        }
        drop(sender);
        let mut silent: Vec<&'static Row> = rows.to_vec();
        loop {
            let known = race.winner().is_some();
            // A winner has its own time, and keeps to it.
            let wait = if known { Duration::MAX } else { deadline.remaining() };
            let received = if known { receiver.recv().ok() } else { receiver.recv_timeout(wait).ok() };
            if let Some((row, _)) = &received {
                silent.retain(|other| other != row);
            }
            match received {
                Some((row, Ok(found))) => return Some((row, found)),
                Some((row, Err(error))) if !ordered && error.is_silence() => {
                    debug!(log, "{}: {error}", row.name)
                }
                Some((row, Err(error))) => error!(log, "{}: {error}", row.name),
                None if race.winner().is_none() || known => {
                    for row in silent.iter().filter(|_| ordered) {
                        error!(log, "{}: no answer within {:?}", row.name, self.guess);
                    }
                    return None;
                }
                None => {}
            }
        }
    }
}

/// Writes everything, each file whether or not another could be written.
fn write(log: Log, base: &Base, found: &Found, hostname: bool) -> Outcome {
    let mut outcome = Outcome::default();
    for problem in &found.problems {
        error!(log, "{}: {}", found.provider, problem.text);
        if problem.essential {
            outcome.failures.push(problem.text.clone());
        }
    }
    let mut written: Vec<_> = found.files.nodes().iter().map(|node| base.write(node)).collect();
    written.push(base.file("provider", found.provider.as_bytes()));
    let userdata = found.userdata.as_deref().map(|bytes| base.file("userdata", bytes));
    for error in written.into_iter().chain(userdata).filter_map(Result::err) {
        error!(log, "{error}");
        outcome.failures.push(error.to_string());
    }
    if let Some(userdata) = &found.userdata {
        outcome.failures.extend(write_user_data(log, base, userdata).err());
    }
    if hostname {
        set_hostname(log, base);
    }
    outcome
}

/// Makes what user data asks for. What cannot be made is its author's affair
/// and no failure of ours, unless the disk takes no more: that is the error.
fn write_user_data(log: Log, base: &Base, bytes: &[u8]) -> Result<(), String> {
    let steps = match userdata::parse(bytes, base.path()) {
        Ok(steps) => steps,
        Err(error) => {
            info!(log, "Could not unmarshall userdata: {error}");
            return Ok(());
        }
    };
    for step in steps {
        match step.map(|node| base.write(&node)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_the_disks() => {
                error!(log, "Could not extract user data: {error}; what follows is not tried");
                return Err(format!("user data: {error}"));
            }
            Ok(Err(error)) => error!(log, "Could not extract user data: {error}"),
            Err(refusal) => error!(log, "{refusal}"),
        }
    }
    Ok(())
}

/// The file has the last word, whoever wrote it.
fn set_hostname(log: Log, base: &Base) {
    let served = match base.read("hostname", HOSTNAME_LIMIT) {
        Ok(Some(served)) => served,
        Ok(None) => return,
        Err(error) => return error!(log, "Failed to set hostname: {error}"),
    };
    match kernel_name(&served) {
        Ok(name) => match nix::unistd::sethostname(&name) {
            Ok(()) => info!(log, "Set hostname to: {name}"),
            Err(errno) => error!(log, "Failed to set hostname: {name}: {errno}"),
        },
        Err(error) => error!(log, "Failed to set hostname: {error}"),
    }
}

/// What is left to do when the files are there.
fn finish(surroundings: &Surroundings, row: Option<&'static Row>, found: Found, outcome: &mut Outcome) {
    let Some(row) = row else { return };
    for Afterwards { what, essential, act } in found.afterwards {
        let deadline = Deadline::after(AFTERWARDS);
        let deadline = surroundings.end.map_or(deadline, |end| deadline.min(end));
        let session = Session::alone(row, surroundings.clone(), deadline);
        match act(&session, outcome) {
            Ok(()) => debug!(surroundings.log, "{}: {what}: done", row.name),
            Err(error) => {
                error!(surroundings.log, "{}: cannot {what}: {error}", row.name);
                if essential {
                    outcome.failures.push(format!("cannot {what}: {error}"));
                }
            }
        }
    }
}
