// SPDX-License-Identifier: Apache-2.0
//! Containers through the OCI runtime's program alone: no daemon, no shim.
//!
//! A container's process is inherited by rc when the runtime exits, so a
//! running service costs no process but its own. Its pid and start time are
//! kept under `/run/lkinit/direct`, for an rc that takes over after a crash:
//! the process is PID 1's child by then, and its end is found in PID 1's
//! record of what it reaped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{self, File};
use std::future::poll_fn;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::Duration;

use nix::libc::SIGKILL;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Engine, Error, Exec, Exit, Found, Id, Job, Task, TaskState};
use crate::logs;
use crate::process::{self, Identity};
use crate::reaper::Reaper;

/// Where the runtimes keep their state, and this engine the pids.
pub const STATE: &str = "/run/lkinit/direct";

/// The runtimes looked for, best first: crun starts a container in a quarter
/// of runc's time.
pub const RUNTIMES: [&str; 4] =
    ["/usr/bin/crun", "/usr/local/bin/crun", "/usr/bin/runc", "/usr/local/bin/runc"];

/// The runtime of this image: the first of [`RUNTIMES`] that is there.
pub fn find_runtime() -> Option<PathBuf> {
    RUNTIMES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The crun of this image, for containerd's shims to use instead of runc.
pub fn find_crun() -> Option<PathBuf> {
    find_runtime().filter(|path| path.ends_with("crun"))
}

/// How long a runtime that an earlier rc has started may be at work.
const AT_WORK: Duration = Duration::from_secs(20);

/// The end of a container's first process.
enum End {
    Awaited(oneshot::Receiver<Exit>),
    Known(Exit),
}

/// The runtime's program, called once a step.
pub struct Direct {
    program: PathBuf,
    name: &'static str,
    state: PathBuf,
    debug: bool,
    reaper: Reaper,
    ends: RefCell<HashMap<Id, End>>,
    /// Runtimes that nobody waits for any more: their time was over.
    given_up: RefCell<Vec<(Id, Identity)>>,
    /// Whether no runtime of an earlier rc is at work any more.
    settled: Cell<bool>,
}

impl Direct {
    /// An engine that calls `program`. `debug` makes it talkative.
    pub fn new(program: PathBuf, state: &Path, debug: bool, reaper: Reaper) -> Self {
        let name = if program.ends_with("crun") { "crun" } else { "runc" };
        let (state, settled) = (state.to_path_buf(), Cell::new(false));
        let (ends, given_up) = (RefCell::default(), RefCell::default());
        Self { program, name, state, debug, reaper, ends, given_up, settled }
    }

    fn folder(&self, namespace: &str) -> PathBuf {
        self.state.join(namespace)
    }

    /// The runtime's own folder for a container.
    fn state_of(&self, id: &Id) -> PathBuf {
        self.folder(&id.namespace).join("state").join(&id.name)
    }

    fn pid_file(&self, id: &Id) -> PathBuf {
        self.folder(&id.namespace).join(format!("{}.pid", id.name))
    }

    fn log_file(&self, id: &Id) -> PathBuf {
        self.folder(&id.namespace).join(format!("{}.log", id.name))
    }

    fn command(&self, id: &Id, step: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.folder(&id.namespace).join("state"));
        command.arg("--log").arg(self.log_file(id));
        if self.debug {
            command.arg("--debug");
        }
        command.arg(step).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    async fn call(&self, id: &Id, step: &'static str, command: &mut Command) -> Result<(), Error> {
        let started = self.reaper.spawn(command);
        let child =
            started.map_err(|source| io_error(format!("running {}", self.program.display()), source))?;
        let mut work = Work { engine: self, id, runtime: Identity::of(child.pid) };
        let exit = child.wait().await;
        work.runtime = None;
        if exit.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.log_file(id)).unwrap_or_default();
        let said = log.lines().rev().find(|line| !line.trim().is_empty()).map(message);
        let reason = said.unwrap_or_else(|| format!("{}: {exit}", self.program.display()));
        let missing = reason.contains("does not exist");
        Err(Error::Refused { engine: self.name, step, id: id.clone(), missing, reason })
    }

    /// `create`, or `run --detach`, with the container's output as its own.
    async fn make(&self, job: Job<'_>, words: &[&str], step: &'static str) -> Result<u32, Error> {
        let id = job.id;
        if self.state_of(id).exists() {
            // What a start left that was cut short: nobody else makes
            // containers here.
            self.discard(id).await?;
        }
        let folder = self.folder(&id.namespace).join("state");
        fs::create_dir_all(&folder)
            .map_err(|source| io_error(format!("making the folder {}", folder.display()), source))?;
        let _ = fs::remove_file(self.log_file(id));
        let before = self.reaper.mark();
        let pid_file = self.pid_file(id);
        let mut words = words.iter();
        let mut command = self.command(id, words.next().copied().unwrap_or(step));
        command.args(words).arg("--bundle").arg(job.bundle).arg("--pid-file").arg(&pid_file).arg(&id.name);
        command.stdout(open_output(job.stdout)?).stderr(open_output(job.stderr)?);
        let made = self.call(id, step, &mut command).await.and_then(|()| read_pid(&pid_file));
        let pid = match made {
            Ok(pid) => pid,
            Err(error) => {
                // The error that is told is the one that came first.
                let _ = self.delete(id).await;
                return Err(error);
            }
        };
        let mut exit = self.reaper.claim(pid, before);
        // The start time goes beside the pid, before the exit can be claimed:
        // a pid alone may be somebody else's after a restart of rc.
        let end = match Identity::of(pid) {
            Some(identity) => {
                let _ = fs::write(&pid_file, identity.to_string());
                End::Awaited(exit)
            }
            // It has ended and was reaped: no later moment tells how.
            None => End::Known(exit.try_recv().unwrap_or(Exit::LOST)),
        };
        self.ends.borrow_mut().insert(id.clone(), end);
        Ok(pid.cast_unsigned())
    }

    fn identity(&self, id: &Id) -> Option<Identity> {
        let text = fs::read_to_string(self.pid_file(id)).ok()?;
        // Without a start time it is the runtime's word, written a moment
        // before an earlier rc died.
        text.parse().ok().or_else(|| Identity::of(text.trim().parse().ok()?))
    }

    fn task(&self, id: &Id) -> Option<Task> {
        let identity = self.identity(id)?;
        let state = match identity.is_alive() {
            false => TaskState::Ended,
            // Both runtimes have a container that was made wait at this pipe,
            // and remove it when it is started.
            true if self.state_of(id).join("exec.fifo").exists() => TaskState::Created,
            true => TaskState::Running,
        };
        Some(Task { pid: identity.pid.cast_unsigned(), state })
    }

    /// Waits for the end of what an rc before this one has called: only then
    /// is it known which containers there are.
    async fn settle(&self) {
        let root = self.state.as_os_str().as_bytes();
        let at_work = |words: &[&[u8]]| {
            let ours = words
                .windows(2)
                .any(|pair| matches!(pair, [option, path] if *option == b"--root" && path.starts_with(root)));
            let steps: [&[u8]; 5] = [b"create", b"run", b"start", b"kill", b"delete"];
            ours && words.iter().any(|word| steps.contains(word))
        };
        let limit = Instant::now() + AT_WORK;
        loop {
            // A container of crun's that waits to be started still has the
            // command line of the crun that made it.
            let containers = self.recorded();
            let mut runtimes = process::find(at_work).into_iter();
            let Some(runtime) = runtimes.find(|runtime| !containers.contains(&runtime.pid)) else { break };
            if !matches!(timeout_at(limit, process::gone(runtime)).await, Ok(Ok(()))) {
                process::end_trees(vec![runtime]).await;
            }
        }
        self.settled.set(true);
    }

    /// The first processes of all containers.
    fn recorded(&self) -> Vec<i32> {
        let folders = fs::read_dir(&self.state).into_iter().flatten().flatten();
        let files = folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten();
        let texts = files
            .filter(|file| file.path().extension().is_some_and(|end| end == "pid"))
            .filter_map(|file| fs::read_to_string(file.path()).ok());
        texts.filter_map(|text| text.split_whitespace().next()?.parse().ok()).collect()
    }

    /// Ends what nobody waits for any more: it might make a container, or end
    /// one, that nobody has asked for.
    async fn end_given_up(&self, id: &Id) {
        let of_it = |(of, _): &mut (Id, Identity)| of == id;
        let given_up: Vec<_> = self.given_up.borrow_mut().extract_if(.., of_it).collect();
        if given_up.is_empty() {
            return;
        }
        // crun leaves a process of its own to rc, which is no child of it.
        let root = self.folder(&id.namespace).join("state");
        let root: [&[u8]; 2] = [b"--root", root.as_os_str().as_bytes()];
        let left = process::find(|words| {
            words.windows(2).any(|pair| pair == root) && words.contains(&id.name.as_bytes())
        });
        let runtimes = given_up.into_iter().map(|(_, runtime)| runtime);
        process::end_trees(runtimes.filter(|runtime| runtime.is_alive()).chain(left).collect()).await;
    }

    fn missing(&self, step: &'static str, id: &Id) -> Error {
        let reason = "no such container".to_owned();
        Error::Refused { engine: self.name, step, id: id.clone(), missing: true, reason }
    }
}

/// A runtime that is at work, for as long as somebody waits for it.
struct Work<'a> {
    engine: &'a Direct,
    id: &'a Id,
    runtime: Option<Identity>,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime {
            self.engine.given_up.borrow_mut().push((self.id.clone(), runtime));
        }
    }
}

impl Engine for Direct {
    fn name(&self) -> &'static str {
        self.name
    }

    fn create<'a>(&'a self, job: Job<'a>) -> Answer<'a, u32> {
        Box::pin(self.make(job, &["create"], "create"))
    }

    fn runs_at_once(&self) -> bool {
        true
    }

    fn leaves_output_complete(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, job: Job<'a>) -> Answer<'a, u32> {
        Box::pin(self.make(job, &["run", "--detach"], "run"))
    }

    fn start<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(async move { self.call(id, "start", self.command(id, "start").arg(&id.name)).await })
    }

    fn wait<'a>(&'a self, id: &'a Id) -> Answer<'a, Exit> {
        Box::pin(async move {
            // Whoever waits may stop waiting, and ask again.
            let end = poll_fn(|context| {
                let mut ends = self.ends.borrow_mut();
                let Some(end) = ends.get_mut(id) else { return Poll::Ready(None) };
                if let End::Awaited(exit) = end {
                    match Pin::new(exit).poll(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(exit) => *end = End::Known(exit.unwrap_or(Exit::LOST)),
                    }
                }
                Poll::Ready(match end {
                    End::Known(exit) => Some(*exit),
                    End::Awaited(_) => None,
                })
            });
            if let Some(exit) = end.await {
                return Ok(exit);
            }
            let identity = self.identity(id).ok_or_else(|| self.missing("wait for", id))?;
            process::end_of_stranger(identity)
                .await
                .map_err(|source| io_error(format!("waiting for process {}", identity.pid), source))
        })
    }

    fn kill<'a>(&'a self, id: &'a Id, signal: i32, all: bool) -> Answer<'a, ()> {
        Box::pin(async move {
            let identity = self.identity(id).filter(|identity| identity.is_alive());
            let identity = identity.ok_or_else(|| self.missing("signal", id))?;
            if all {
                if signal == SIGKILL {
                    // Whatever the runtime's program makes of it: a pid
                    // namespace ends with its first process.
                    let _ = kill(Pid::from_raw(identity.pid), Signal::SIGKILL);
                }
                let number = signal.to_string();
                let mut command = self.command(id, "kill");
                let result = self.call(id, "signal", command.args(["--all", &id.name, &number])).await;
                // It may have ended under the runtime's eyes.
                return result
                    .map_err(|error| if identity.is_alive() { error } else { self.missing("signal", id) });
            }
            let signal = Signal::try_from(signal)
                .map_err(|error| io_error(format!("signal {signal}"), error.into()))?;
            kill(Pid::from_raw(identity.pid), signal)
                .map_err(|error| io_error(format!("signalling process {}", identity.pid), error.into()))
        })
    }

    fn exec(&self, id: &Id, exec: Exec<'_>) -> Result<Command, Error> {
        Ok(exec.command(&self.program, &self.folder(&id.namespace).join("state"), id))
    }

    fn delete<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(async move {
            self.end_given_up(id).await;
            self.ends.borrow_mut().remove(id);
            let mut command = self.command(id, "delete");
            let result = self.call(id, "delete", command.args(["--force", &id.name])).await;
            let _ = fs::remove_file(self.pid_file(id));
            let _ = fs::remove_file(self.log_file(id));
            match result {
                Err(error) if error.is_not_found() => Ok(()),
                other => other,
            }
        })
    }

    fn list<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<Found>> {
        Box::pin(async move {
            if !self.settled.get() {
                self.settle().await;
            }
            let folder = self.folder(namespace);
            let entries = match fs::read_dir(folder.join("state")) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(source) => return Err(io_error(format!("listing {}", folder.display()), source)),
            };
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            Ok(names
                .map(|name| {
                    let id = Id { namespace: namespace.to_owned(), name };
                    let task = self.task(&id);
                    Found { name: id.name, task }
                })
                .collect())
        })
    }
}

/// What a runtime's log line says, without time and level. runc writes
/// `time="…" level=error msg="…"`; crun the message alone, after a time.
fn message(line: &str) -> String {
    let quoted = line.split_once("msg=\"").and_then(|(_, rest)| rest.rsplit_once('"'));
    match quoted {
        Some((message, _)) => message.replace("\\\"", "\""),
        None => line.trim().to_owned(),
    }
}

/// What a runtime has written into the file it was told to.
fn read_pid(path: &Path) -> Result<i32, Error> {
    let failed = |source| io_error(format!("reading {}", path.display()), source);
    let text = fs::read_to_string(path).map_err(failed)?;
    text.trim().parse().map_err(|_| failed(io::Error::other("no process id in it")))
}

fn open_output(path: &Path) -> Result<File, Error> {
    logs::open_output(path).map_err(|source| io_error(format!("opening {}", path.display()), source))
}

fn io_error(what: String, source: io::Error) -> Error {
    Error::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_runtime() {
        let runc = r#"time="2026-11-24T02:06:00Z" level=error msg="exec: \"/x\": no such file""#;
        assert_eq!(message(runc), r#"exec: "/x": no such file"#);
        assert_eq!(
            message("2026-11-24T02:06:00Z: open executable: No such file\n"),
            "2026-11-24T02:06:00Z: open executable: No such file"
        );
    }
}
