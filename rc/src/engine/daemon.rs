// SPDX-License-Identifier: Apache-2.0
//! containerd itself: started early, watched, restarted.
//!
//! It is ready when its API answers. Its socket appears in a folder that is
//! watched, so nobody asks in vain; containers outlive it, as their shims do.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use init::console::Console;
use init::{debug, error, info, warning};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::containerd::{Containerd, SOCKET};
use super::runtime_config::{RUNTIME_CONFIG, RuntimeConfig};
use super::{Error, Exit};
use crate::logs::settings::Limits;
use crate::logs::{self, Logger, Logs};
use crate::process::{self, Identity, Stat};
use crate::reaper::Reaper;
use crate::watch::Watch;

/// The daemon's program.
pub const PROGRAM: &str = "/usr/bin/containerd";

/// The daemon's identity, for an rc that takes over.
const PID_FILE: &str = "/run/lkinit/containerd.pid";

/// The back-off between two starts of a daemon that will not stay up.
const DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A daemon that was up so long begins again with the shortest delay.
const STABLE: Duration = Duration::from_secs(60);

/// So many failures in a row, and those who wait for it are told.
const GIVE_UP: u32 = 3;

/// How long it may take to end by itself before it is killed. Its shims do
/// not mind.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long whoever asks where it stands waits for its answer.
const PROMPT: Duration = Duration::from_millis(30);

/// Where the daemon stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has been started and does not answer yet.
    Starting,
    /// It answers; its version.
    Ready(String),
    /// It is not running.
    Down {
        /// Why.
        reason: String,
        /// How often it has ended in a row without ever having answered;
        /// `None`: it was stopped for good.
        failures: Option<u32>,
    },
}

/// The end of the daemon's process.
type End = Pin<Box<dyn Future<Output = Exit>>>;

/// A running daemon: its pid, its end, and a watch on its socket.
type Life = (i32, End, io::Result<Watch>);

enum Order {
    Restart,
    Stop,
}

/// A handle on the daemon; cheap to clone.
#[derive(Clone)]
pub struct Daemon {
    health: watch::Receiver<Health>,
    orders: mpsc::Sender<Order>,
    pid: Rc<Cell<Option<i32>>>,
    mounts: Rc<RefCell<Vec<u64>>>,
    client: Rc<Containerd>,
    /// Since when a question has been open that shows whether it answers.
    asked: Rc<watch::Sender<Option<Instant>>>,
}

impl Daemon {
    /// Starts containerd and the task that keeps it up.
    pub fn start(
        console: Arc<Console>,
        reaper: Reaper,
        output: (Logger, Limits),
        config: RuntimeConfig,
        debug: bool,
    ) -> Self {
        let (health_sender, health) = watch::channel(Health::Starting);
        let (orders, inbox) = mpsc::channel(4);
        let pid = Rc::new(Cell::new(None));
        let mounts = Rc::new(RefCell::default());
        let client = Rc::new(Containerd::new(Path::new(SOCKET), None));
        let keeper = Keeper {
            client: client.clone(),
            console,
            reaper,
            output,
            config,
            debug,
            health: health_sender,
            pid: pid.clone(),
            mounts: mounts.clone(),
        };
        tokio::task::spawn_local(keeper.keep(inbox));
        Self { health, orders, pid, mounts, client, asked: Rc::default() }
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It was stopped, or has failed to come up [`GIVE_UP`] times in a row. It
    /// is tried again all the same; who needs it may ask again.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut health = self.health.clone();
        let settled = |health: &Health| match health {
            Health::Ready(_) | Health::Down { failures: None, .. } => true,
            Health::Down { failures: Some(count), .. } => *count >= GIVE_UP,
            Health::Starting => false,
        };
        let unavailable =
            |reason: &str| Error::Unavailable { engine: "containerd", reason: reason.to_owned() };
        match health.wait_for(settled).await.as_deref() {
            Ok(Health::Down { reason, .. }) => Err(unavailable(reason)),
            Ok(_) => Ok(()),
            Err(_) => Err(unavailable("rc is ending")),
        }
    }

    /// Where it stands now.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Where it stands, in words. It is asked now, but the answer is not
    /// waited for for long: one that hangs is found out by whoever asks.
    pub async fn describe(&self) -> String {
        let version = match self.health() {
            Health::Starting => return "started, and does not answer yet".to_owned(),
            Health::Down { reason, .. } => return format!("down: {reason}"),
            Health::Ready(version) => version,
        };
        let asked = *self.asked.borrow();
        let since = asked.unwrap_or_else(|| {
            let now = Instant::now();
            self.asked.send_replace(Some(now));
            let (client, asked) = (self.client.clone(), self.asked.clone());
            tokio::task::spawn_local(async move {
                // An error is an answer, too: the keeper will tell of it.
                let _ = client.version().await;
                asked.send_replace(None);
            });
            now
        });
        let mut open = self.asked.subscribe();
        match timeout(PROMPT, open.wait_for(Option::is_none)).await {
            Ok(_) => version,
            Err(_) => format!("{version}, has not answered for {:.2}s", since.elapsed().as_secs_f32()),
        }
    }

    /// Where it stands now, and what becomes of it.
    pub fn subscribe(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// The daemon's process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        self.pid.get()
    }

    /// Ends it, starts it again and waits until it answers.
    pub async fn restart(&self, console: &Console) {
        let mut health = self.health.clone();
        health.mark_unchanged();
        let _ = self.orders.send(Order::Restart).await;
        let _ = health.changed().await;
        if let Err(error) = self.ready().await {
            error!(console, "{error}");
        }
    }

    /// Whether something was mounted over its root or its state since it was
    /// started.
    pub fn has_new_disk(&self) -> bool {
        self.pid().is_some() && *self.mounts.borrow() != mount_ids()
    }

    /// Restarts it on a disk that was mounted over its root: services and the
    /// user's images must land there.
    pub async fn follow_disk(&self, console: &Console) {
        info!(console, "containerd: a filesystem was mounted over its root: starting it again there");
        self.restart(console).await;
    }

    /// Ends it for good.
    pub async fn stop(&self) {
        let mut health = self.health.clone();
        let _ = self.orders.send(Order::Stop).await;
        let _ = health.wait_for(|health| matches!(health, Health::Down { failures: None, .. })).await;
    }
}

struct Keeper {
    client: Rc<Containerd>,
    console: Arc<Console>,
    reaper: Reaper,
    output: (Logger, Limits),
    config: RuntimeConfig,
    debug: bool,
    health: watch::Sender<Health>,
    pid: Rc<Cell<Option<i32>>>,
    mounts: Rc<RefCell<Vec<u64>>>,
}

impl Keeper {
    async fn keep(self, mut inbox: mpsc::Receiver<Order>) {
        let (mut delay, mut failures) = (DELAY.0, 0);
        loop {
            let started = Instant::now();
            let reason = match self.once(&mut inbox, started).await {
                Ended::ByOrder(Order::Restart) => continue,
                Ended::ByOrder(Order::Stop) => break,
                Ended::Failed(reason) => reason,
            };
            let answered = matches!(*self.health.borrow(), Health::Ready(_));
            failures = if answered { 0 } else { failures + 1 };
            if started.elapsed() >= STABLE {
                delay = DELAY.0;
            }
            error!(self.console, "containerd: {reason}; starting it again in {:.1}s", delay.as_secs_f32());
            self.health.send_replace(Health::Down { reason, failures: Some(failures) });
            tokio::select! {
                () = sleep(delay) => {}
                order = inbox.recv() => if !matches!(order, Some(Order::Restart)) { break },
            }
            delay = (delay * 2).min(DELAY.1);
        }
        self.health.send_replace(Health::Down { reason: "stopped".to_owned(), failures: None });
    }

    /// One life of the daemon: until it fails, or an order ends it.
    async fn once(&self, inbox: &mut mpsc::Receiver<Order>, started: Instant) -> Ended {
        self.health.send_replace(Health::Starting);
        self.mounts.replace(mount_ids());
        let (pid, mut end, socket) = match self.adopt().map_or_else(|| self.spawn(), Ok) {
            Ok(life) => life,
            Err(error) => return Ended::Failed(format!("cannot run {PROGRAM}: {error}")),
        };
        self.pid.set(Some(pid));
        let ready = async {
            let version = self.answered(socket).await;
            let took = started.elapsed().as_secs_f32();
            info!(self.console, "containerd: {version} ready in {took:.3}s");
            self.health.send_replace(Health::Ready(version));
            std::future::pending::<()>().await;
        };
        let order = tokio::select! {
            exit = &mut end => {
                self.pid.set(None);
                return Ended::Failed(format!("ended with {exit}"));
            }
            () = ready => None,
            order = inbox.recv() => order,
        };
        self.end(pid, end).await;
        self.pid.set(None);
        // No more orders can come once every handle is gone.
        Ended::ByOrder(order.unwrap_or(Order::Stop))
    }

    /// The daemon that an earlier life of rc left running: by its file, or, where
    /// that rc was killed before it wrote one, by its command line. Two of them
    /// would lock each other out.
    fn adopt(&self) -> Option<Life> {
        let noted = fs::read_to_string(PID_FILE).ok().and_then(|text| text.parse::<Identity>().ok());
        let identity = noted.filter(|noted| noted.is_alive()).or_else(orphan)?;
        info!(self.console, "containerd: taking over process {}", identity.pid);
        let end = async move { process::end_of_stranger(identity).await.unwrap_or(Exit::LOST) };
        Some((identity.pid, Box::pin(end), Watch::new(socket_folder())))
    }

    fn spawn(&self) -> io::Result<Life> {
        let mut command = Command::new(PROGRAM);
        command.args(self.config.cliopts.split_whitespace()).stdin(Stdio::null());
        if self.debug {
            command.args(["--log-level", "debug"]);
        }
        let [stdout, stderr] = self.outputs();
        command.stdout(stdout).stderr(stderr);
        // The watch comes before what it is to see.
        let folder = socket_folder();
        fs::create_dir_all(folder)?;
        let socket = Watch::new(folder);
        let child = self.reaper.spawn(&mut command)?;
        debug!(self.console, "containerd: started as process {}", child.pid);
        if let Some(identity) = Identity::of(child.pid) {
            let _ = fs::write(PID_FILE, identity.to_string());
        }
        Ok((child.pid, Box::pin(child.wait()), socket))
    }

    async fn answered(&self, socket: io::Result<Watch>) -> String {
        let socket = match socket {
            Ok(socket) => Some(socket),
            Err(error) => {
                warning!(
                    self.console,
                    "containerd: cannot watch for its socket ({error}): asking every 20ms"
                );
                None
            }
        };
        loop {
            match self.client.version().await {
                Ok(version) => return version,
                Err(error) => debug!(self.console, "{error}"),
            }
            match &socket {
                Some(socket) => socket.changed().await,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn end(&self, pid: i32, mut end: End) {
        let _ = init::sys::process::signal(pid, Signal::SIGTERM);
        // One that was stopped sees no signal before it goes on.
        let _ = init::sys::process::signal(pid, Signal::SIGCONT);
        if timeout(PATIENCE, &mut end).await.is_err() {
            warning!(
                self.console,
                "containerd: still there {}s after SIGTERM: killing it",
                PATIENCE.as_secs()
            );
            let _ = init::sys::process::signal(pid, Signal::SIGKILL);
            end.await;
        }
    }

    /// Its output has a cap, as every other log has. Its pipes outlive it.
    fn outputs(&self) -> [Stdio; 2] {
        let wanted = [
            (self.config.stdout.as_deref(), "/var/log/containerd.out.log"),
            (self.config.stderr.as_deref(), "/var/log/containerd.log"),
        ];
        let [stdout, stderr] = wanted.map(|(wanted, usual)| self.target(wanted, usual));
        let file = |target: Option<PathBuf>, usual: &str| target.unwrap_or_else(|| PathBuf::from(usual));
        let logs = Logs::of_daemon(
            "containerd",
            &file(stdout.clone(), "/dev/null"),
            &file(stderr.clone(), "/dev/null"),
        );
        let outlets = match self.output.0.open(&logs, self.output.1) {
            Ok(outlets) => outlets,
            Err((path, error)) => {
                let path = path.display();
                warning!(self.console, "containerd: cannot open {path} ({error}): its output is lost");
                return [Stdio::null(), Stdio::null()];
            }
        };
        [(stdout, &outlets.stdout), (stderr, &outlets.stderr)].map(|(target, path)| match target {
            None => Stdio::inherit(),
            Some(_) => match logs::open_output(path) {
                Ok(file) => Stdio::from(file),
                Err(error) => {
                    let path = path.display();
                    warning!(self.console, "containerd: cannot open {path} ({error}): its output is lost");
                    Stdio::null()
                }
            },
        })
    }

    /// The file that one stream goes to; `None`: rc's own, so the console.
    fn target(&self, wanted: Option<&str>, usual: &str) -> Option<PathBuf> {
        match wanted {
            Some("stdout" | "stderr") => None,
            Some(path) if path.starts_with('/') => Some(path.into()),
            Some(other) => {
                warning!(
                    self.console,
                    "{RUNTIME_CONFIG}: {other:?} is neither stdout, stderr nor an absolute path; using {usual}"
                );
                Some(usual.into())
            }
            None => Some(usual.into()),
        }
    }
}

/// A daemon that PID 1 has inherited from an rc; what is in a container is a
/// child of somebody else.
fn orphan() -> Option<Identity> {
    let found = process::find(|words| words.first() == Some(&PROGRAM.as_bytes()));
    let orphaned = |found: &Identity| Stat::read(found.pid).is_some_and(|stat| stat.parent == 1);
    let orphan = found.into_iter().filter(|found| found.is_alive()).find(orphaned)?;
    let _ = fs::write(PID_FILE, orphan.to_string());
    Some(orphan)
}

enum Ended {
    Failed(String),
    ByOrder(Order),
}

/// Which mounts the daemon's folders are on.
fn mount_ids() -> Vec<u64> {
    ["/var/lib/containerd", "/run/containerd"]
        .iter()
        .map(|path| init::sys::mount_id(Path::new(path)))
        .collect()
}

fn socket_folder() -> &'static Path {
    Path::new(SOCKET).parent().unwrap_or(Path::new("/"))
}
