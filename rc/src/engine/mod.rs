// SPDX-License-Identifier: Apache-2.0
//! Who runs containers: one trait, and the engines behind it.
//!
//! An engine turns a prepared bundle into a process. It knows nothing of
//! stages, policies or logs: it is told what the output goes to, and
//! reports how things ended.

pub mod containerd;
pub mod daemon;
pub mod direct;
pub mod first;
pub mod runtime_config;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;

use nix::libc::SIGKILL;
use serde::{Deserialize, Serialize};

/// A future of an engine's answer. Engines are trait objects, so that one
/// boot can use two of them.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'a>>;

/// Which container: its id in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The namespace: containerd's, or the folder of the runtime's state.
    pub namespace: String,
    /// The container's id.
    pub name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A container to be made.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Its id.
    pub id: &'a Id,
    /// The bundle's folder.
    pub bundle: &'a Path,
    /// The text of its `config.json`, with an absolute `root.path`.
    pub spec: &'a [u8],
    /// What its standard output is opened by: a named pipe with a reader, a
    /// device, or a file; it exists.
    pub stdout: &'a Path,
    /// The same for its standard error.
    pub stderr: &'a Path,
}

/// A further process in a container that runs.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    /// The program and its arguments; the rest (environment, user,
    /// capabilities, working directory) is as for the first process.
    pub args: &'a [String],
    /// It gets a terminal of its own: its standard input has to be one then.
    pub terminal: bool,
    /// A file to write its pid in the root pid namespace to. Who ends only the
    /// runtime's program leaves the process behind.
    pub pid_file: Option<&'a Path>,
}

impl Exec<'_> {
    /// The call of an OCI runtime's program. It ends with the process, and
    /// with its exit status; input and output are the caller's to set.
    fn command(self, program: &Path, root: &Path, id: &Id) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(root).arg("exec");
        if self.terminal {
            command.arg("--tty");
        }
        if let Some(path) = self.pid_file {
            command.arg("--pid-file").arg(path);
        }
        command.arg(&id.name).args(self.args);
        command
    }
}

/// How a container's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell counts: the exit status, or 128 and the signal's number.
    /// `None`: it ended, and how is not known.
    pub status: Option<u32>,
}

impl Exit {
    /// It ended, and how is not known.
    pub const LOST: Self = Self { status: None };

    /// By a wait status, as wait(2) gives it: real-time signals are signals
    /// too, which not every library knows.
    pub fn of_status(status: i32) -> Self {
        let status = match status & 0x7f {
            0 => (status >> 8) & 0xff,
            signal => 128 + signal,
        };
        Self { status: Some(status.cast_unsigned()) }
    }

    /// Whether it ended with status 0.
    pub fn success(self) -> bool {
        self.status == Some(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            None => f.write_str("exit status unknown"),
            Some(status @ 129..=192) => {
                let signal = i32::try_from(status - 128).unwrap_or_default();
                match nix::sys::signal::Signal::try_from(signal) {
                    Ok(signal) => write!(f, "exit status {status} ({signal})"),
                    Err(_) => write!(f, "exit status {status}"),
                }
            }
            Some(status) => write!(f, "exit status {status}"),
        }
    }
}

/// A container that an engine knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name in the namespace asked for.
    pub name: String,
    /// Its first process, if it has a task.
    pub task: Option<Task>,
}

/// A container's first process, as an engine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Its process id in the root pid namespace; 0 where there is none any more.
    pub pid: u32,
    /// How far it has come.
    pub state: TaskState,
}

impl Task {
    /// Whether the image's program runs.
    pub fn is_running(&self) -> bool {
        self.state == TaskState::Running
    }
}

/// How far a container's first process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It waits to be started. Whoever made it died in between, or is at it.
    Created,
    /// The image's program runs.
    Running,
    /// It has ended.
    Ended,
}

/// Why an engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine does not answer at all.
    #[error("{engine} does not answer: {reason}")]
    Unavailable {
        /// Which engine.
        engine: &'static str,
        /// What the connection said.
        reason: String,
    },
    /// The engine refused, or tried and failed.
    #[error("{engine}: {step} {id}: {reason}")]
    Refused {
        /// Which engine.
        engine: &'static str,
        /// What it was asked for.
        step: &'static str,
        /// Which container.
        id: Id,
        /// Whether it is because there is no such container or process.
        missing: bool,
        /// In the engine's words.
        reason: String,
    },
    /// A program or file of ours that the engine needs.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, and on what.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the container or process is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { missing: true, .. })
    }
}

/// Runs OCI bundles.
pub trait Engine {
    /// The name shown to people.
    fn name(&self) -> &'static str;

    /// Makes the container and its first process, which waits before it runs
    /// the image's program. Returns its pid in the root pid namespace.
    fn create<'a>(&'a self, job: Job<'a>) -> Answer<'a, u32>;

    /// Whether all that a container has printed is in the pipes it was given
    /// when the last of its processes has ended; otherwise, when it is deleted.
    fn leaves_output_complete(&self) -> bool {
        false
    }

    /// Whether [`run`](Self::run) is less work than the two steps it is made of.
    fn runs_at_once(&self) -> bool {
        false
    }

    /// Makes the container and lets its process run at once, where nothing is
    /// to be done in between. Returns its pid.
    fn run<'a>(&'a self, job: Job<'a>) -> Answer<'a, u32> {
        Box::pin(async move {
            let pid = self.create(job).await?;
            if let Err(error) = self.start(job.id).await {
                let _ = self.discard(job.id).await;
                return Err(error);
            }
            Ok(pid)
        })
    }

    /// Lets the process of a created container run.
    fn start<'a>(&'a self, id: &'a Id) -> Answer<'a, ()>;

    /// Waits until the first process has ended.
    fn wait<'a>(&'a self, id: &'a Id) -> Answer<'a, Exit>;

    /// Sends a signal to the first process, or with `all` to every process.
    fn kill<'a>(&'a self, id: &'a Id, signal: i32, all: bool) -> Answer<'a, ()>;

    /// The command that runs a further process in a container, by the OCI
    /// runtime's program: nothing of it depends on the engine's daemon.
    ///
    /// # Errors
    /// There is no OCI runtime.
    fn exec(&self, id: &Id, exec: Exec<'_>) -> Result<Command, Error>;

    /// Removes what is left of a container whose process has ended or was
    /// never started; when it returns, all output is in its pipes and
    /// nothing of it runs.
    fn delete<'a>(&'a self, id: &'a Id) -> Answer<'a, ()>;

    /// Kills whatever of a container runs, and removes it.
    fn discard<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(kill_and_delete(self, id))
    }

    /// The containers of a namespace.
    fn list<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<Found>>;
}

async fn kill_and_delete<E: Engine + ?Sized>(engine: &E, id: &Id) -> Result<(), Error> {
    // Both fail where there is less of it than that.
    if engine.kill(id, SIGKILL, true).await.is_ok() {
        let _ = engine.wait(id).await;
    }
    engine.delete(id).await
}
