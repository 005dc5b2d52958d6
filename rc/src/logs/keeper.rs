// SPDX-License-Identifier: Apache-2.0
//! rc's side of the logger: starting it, keeping it up, and asking it.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use init::console::Console;
use init::{debug, error, warning};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::record::{self, Record, Stream};
use super::settings::Limits;
use super::{Logs, NAME, SOCKET, logger};
use crate::engine::Exit;
use crate::paths;
use crate::process;
use crate::reaper::Reaper;
use crate::watch::Watch;

/// How long the last output of a container is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The back-off of a logger that will not stay up; its first restart is at once.
const DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A logger that was up so long begins again without delay, and is given
/// containers' output again if it was given up.
const STABLE: Duration = Duration::from_secs(60);

/// So many failures in a row, and containers get plain files.
const GIVE_UP: u32 = 3;

/// A handle on the logger; cheap to clone.
#[derive(Clone)]
pub struct Logger(Rc<Inner>);

struct Inner {
    folder: PathBuf,
    console: Arc<Console>,
    /// Whether containers' output can be given to it.
    usable: Cell<bool>,
    /// Nobody here keeps it up.
    attached: Cell<bool>,
    pid: Cell<Option<i32>>,
}

/// Where a container's output goes at first.
#[derive(Debug)]
pub struct Outlets {
    /// What its standard output is opened by.
    pub stdout: PathBuf,
    /// The same for standard error.
    pub stderr: PathBuf,
    /// The pipes: what a container has printed stays in them for as long as
    /// they are open here, whoever else has gone.
    _pipes: Vec<File>,
}

impl Logger {
    /// Starts the logger, or takes over the one that runs, and keeps it up.
    pub fn start(console: Arc<Console>, reaper: Reaper) -> Self {
        let logger = Self::new(console);
        let keeper = logger.clone();
        tokio::task::spawn_local(async move { keeper.keep(async || keeper.once(&reaper).await).await });
        logger
    }

    /// The logger for a program that does not stay: if there is none when a
    /// container is started, one is started and left behind.
    pub fn attach(console: Arc<Console>) -> Self {
        let logger = Self::new(console);
        logger.0.attached.set(true);
        logger
    }

    /// For a program that does not stay: sees to it that there is a logger.
    fn see_to_it(&self) {
        if self.0.attached.get()
            && logger::running(&self.0.folder).is_none()
            && let Err(error) = spawn(Command::spawn)
        {
            warning!(self.0.console, "logs: cannot run the logger: {error}; output goes straight to files");
            self.0.usable.set(false);
        }
    }

    fn new(console: Arc<Console>) -> Self {
        let inner = Inner {
            folder: record::FOLDER.into(),
            console,
            usable: Cell::new(true),
            attached: Cell::new(false),
            pid: Cell::new(None),
        };
        Self(Rc::new(inner))
    }

    /// The logger's process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        self.0.pid.get()
    }

    /// Makes the way for a container's output. Nothing waits for the logger:
    /// it finds the record.
    ///
    /// # Errors
    /// Those of making the pipes and the record, with the path.
    pub fn open(&self, logs: &Logs, limits: Limits) -> Result<Outlets, (PathBuf, io::Error)> {
        if logs.console {
            let console = PathBuf::from(super::CONSOLE);
            return Ok(Outlets { stdout: console.clone(), stderr: console, _pipes: Vec::new() });
        }
        self.see_to_it();
        if !self.0.usable.get() {
            return straight_to_files(logs);
        }
        let folder = &self.0.folder;
        fs::create_dir_all(folder).map_err(|error| (folder.clone(), error))?;
        let outlets = self.pipes(logs)?;
        let record = Record {
            stdout: logs.stdout.clone(),
            stderr: logs.stderr.clone(),
            limits,
            external: logs.external.clone(),
            keep_files: logs.keep_files,
        };
        record.write(folder, &logs.id).map_err(|error| (folder.join(&logs.id), error))?;
        Ok(outlets)
    }

    fn pipes(&self, logs: &Logs) -> Result<Outlets, (PathBuf, io::Error)> {
        let open = |stream| {
            let path = record::pipe(&self.0.folder, &logs.id, stream);
            match record::open_pipe(&self.0.folder, &logs.id, stream) {
                Ok(pipe) => Ok((path, pipe)),
                Err(error) => Err((path, error)),
            }
        };
        let (stdout, stderr) = (open(Stream::Stdout)?, open(Stream::Stderr)?);
        Ok(Outlets { stdout: stdout.0, stderr: stderr.0, _pipes: vec![stdout.1, stderr.1] })
    }

    /// Holds the pipes of a container that an rc before this one has started:
    /// what it prints is in nobody's hands while the logger is started again.
    /// `None`: its output has another way.
    pub fn hold(&self, logs: &Logs) -> Option<Outlets> {
        let there = |stream: &Stream| record::pipe(&self.0.folder, &logs.id, *stream).exists();
        let usual = !logs.console && Stream::ALL.iter().all(there);
        usual.then(|| self.pipes(logs).ok()).flatten()
    }

    /// Waits until all that has been printed to a log by now is in its files,
    /// or with the external logger. A logger that does not answer is not
    /// waited for long.
    pub async fn settle(&self, logs: &Logs) {
        self.ask("sync", logs).await;
    }

    /// As [`Self::settle`], for a log that nothing will be printed to again.
    pub async fn finish(&self, logs: &Logs) {
        self.ask("end", logs).await;
    }

    async fn ask(&self, verb: &str, logs: &Logs) {
        if logs.console || !self.0.usable.get() {
            return;
        }
        if timeout(PATIENCE, self.converse(verb, &logs.id)).await.is_err() {
            warning!(
                self.0.console,
                "logs: the logger has not answered for {}s; the last output of {} may come later",
                PATIENCE.as_secs(),
                logs.id
            );
        }
    }

    async fn converse(&self, verb: &str, id: &str) {
        // The watch comes before what it is to see.
        let started = Watch::new(&self.0.folder);
        loop {
            let asked = async {
                let mut socket = UnixStream::connect(self.0.folder.join(SOCKET)).await?;
                socket.write_all(format!("{verb} {id}\n").as_bytes()).await?;
                let mut answer = [0; 16];
                match socket.read(&mut answer).await? {
                    0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    _ => Ok(()),
                }
            };
            match (asked.await, &started) {
                (Ok(()), _) => return,
                // It has just ended and is being started again.
                (Err(_), Ok(started)) => started.changed().await,
                (Err(error), Err(_)) => return debug!(self.0.console, "logs: {error}"),
            }
        }
    }

    /// Ends the logger, once nothing is left that prints.
    pub fn stop(&self) {
        if let Some(pid) = self.pid() {
            let _ = init::sys::process::signal(pid, Signal::SIGTERM);
        }
    }

    /// Starts the logger again whenever one life of it is over. `live` is such
    /// a life, from its start to its end.
    async fn keep(&self, live: impl AsyncFn() -> io::Result<Exit>) {
        let console = &self.0.console;
        let (mut delay, mut failures) = (DELAY.0, 0);
        loop {
            let mut life = pin!(live());
            let end = match timeout(STABLE, &mut life).await {
                Ok(end) => end,
                Err(_) => {
                    (delay, failures) = (DELAY.0, 0);
                    if !self.0.usable.replace(true) {
                        warning!(
                            console,
                            "logs: the logger has been up for {}s: it takes the output of containers that \
                             start from now on",
                            STABLE.as_secs()
                        );
                    }
                    life.await
                }
            };
            self.0.pid.set(None);
            if Path::new(paths::SHUTDOWN).exists() {
                return;
            }
            failures += 1;
            match (end, failures) {
                // Another one was there first.
                (Ok(exit), 1) if exit.success() => continue,
                (Ok(exit), 1) => {
                    warning!(console, "logs: the logger ended: {exit}; starting it again");
                    continue;
                }
                (Ok(exit), _) => error!(console, "logs: the logger ended again: {exit}"),
                (Err(error), _) => error!(console, "logs: cannot run the logger: {error}"),
            }
            if failures >= GIVE_UP && self.0.usable.replace(false) {
                error!(
                    console,
                    "logs: the logger does not stay up: the output of containers that start from now on \
                     goes straight to files without a cap, until it has been up for {}s",
                    STABLE.as_secs()
                );
            }
            sleep(delay).await;
            delay = (delay * 2).min(DELAY.1);
        }
    }

    /// One life of the logger.
    async fn once(&self, reaper: &Reaper) -> io::Result<Exit> {
        if let Some(identity) = logger::running(&self.0.folder) {
            self.0.pid.set(Some(identity.pid));
            return process::end_of_stranger(identity).await;
        }
        let child = spawn(|command| reaper.spawn_companion(command))?;
        self.0.pid.set(Some(child.pid));
        debug!(self.0.console, "logs: the logger is process {}", child.pid);
        let exit = child.wait().await;
        Ok(exit)
    }
}

/// This program by its other name. A program that only has this library in it,
/// as tests do, is not run again.
fn spawn<T>(start: impl FnOnce(&mut Command) -> io::Result<T>) -> io::Result<T> {
    let own = fs::read_link("/proc/self/exe")?;
    if !matches!(own.file_name().and_then(OsStr::to_str), Some("service" | "rc")) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} is not rc", own.display())));
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).env_remove(crate::cli::APPLET).current_dir("/").stdin(Stdio::null());
    start(&mut command)
}

/// Without a logger nothing caps the files, but nothing is lost.
fn straight_to_files(logs: &Logs) -> Result<Outlets, (PathBuf, io::Error)> {
    for path in [&logs.stdout, &logs.stderr] {
        let make = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            OpenOptions::new().create(true).append(true).open(path)
        };
        make().map_err(|error| (path.clone(), error))?;
    }
    Ok(Outlets { stdout: logs.stdout.clone(), stderr: logs.stderr.clone(), _pipes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three short lives, then long ones.
    #[tokio::test(start_paused = true)]
    async fn a_logger_that_was_given_up_is_used_again_once_it_stays_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let logger = Logger::new(Arc::new(Console::to_file(file.reopen().unwrap())));
        let lives = Cell::new(0);
        let live = async || {
            lives.set(lives.get() + 1);
            sleep(if lives.get() > GIVE_UP { STABLE * 2 } else { Duration::from_millis(1) }).await;
            Ok(Exit { status: Some(137) })
        };
        let watch = async {
            while lives.get() <= GIVE_UP {
                assert!(logger.0.usable.get() || lives.get() == GIVE_UP, "given up after {}", lives.get());
                sleep(Duration::from_millis(10)).await;
            }
            assert!(!logger.0.usable.get(), "not given up after {GIVE_UP} short lives");
            sleep(STABLE * 3 / 2).await;
            assert!(logger.0.usable.get(), "not used again though it was up for a minute");
            sleep(STABLE).await;
            assert!(lives.get() > GIVE_UP + 1 && logger.0.usable.get(), "a short life after a long one");
        };
        tokio::select! {
            () = logger.keep(live) => panic!("it ended"),
            () = watch => {}
        }
        let text = fs::read_to_string(file.path()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("does not stay up"), count("has been up for 60s: it takes")), (1, 1), "{text}");
    }
}
