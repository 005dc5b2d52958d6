// SPDX-License-Identifier: Apache-2.0
//! Containers through containerd, by its gRPC API (1.6 and later).
//!
//! A container is a record with a spec, no image and no snapshot; its task
//! has no root filesystem mounts, as the bundle's own is mounted already.

mod remains;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, DeleteTaskRequest,
    GetRequest, KillRequest, ListContainersRequest, ListTasksRequest, StartRequest, WaitRequest,
    container::Runtime,
};
use containerd_client::types::v1::Status as TaskStatus;
use hyper_util::rt::TokioIo;
use nix::libc::SIGKILL;
use prost::Message as _;
use prost_types::Any;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{
    Answer, Engine, Error, Exec, Exit, Found, Id, Job, Task, TaskState, direct, first, kill_and_delete,
};
use crate::process::Identity;
use crate::reaper::Reaper;
use remains::Waited;
use words::{in_the_way, refused, scoped, signal_process, state, unavailable};

/// LinuxKit's socket, and containerd's own default.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where the runc shim keeps the runtime's state, a folder a namespace: its
/// default, as the option `root` is not set.
const RUNTIME_STATE: &str = "/run/containerd/runc";

/// Where containerd keeps the bundles of its tasks, a folder a namespace; the
/// runc shim writes the pid of a container's first process there.
pub(super) const BUNDLES: &str = "/run/containerd/io.containerd.runtime.v2.task";

const NAME: &str = "containerd";
const RUNTIME: &str = "io.containerd.runc.v2";
const SPEC_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// containerd 1.6 wants this name bare, without `type.googleapis.com/`.
const OPTIONS_URL: &str = "containerd.runc.v1.Options";

/// A container that is not removed in that time has a shim that answers
/// nobody: its runtime waits for something.
const SHIM_HELD_UP: Duration = Duration::from_secs(20);

/// The pause after containerd would not wait for a task that runs.
const ANOTHER_LOOK: Duration = Duration::from_secs(1);

/// Options of the runc shim: the one field of `containerd.runc.v1.Options`
/// (api/types/runc/options/oci.proto in containerd) that we set.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    /// The OCI runtime's program.
    #[prost(string, tag = "6")]
    binary_name: String,
}

/// containerd behind its socket. The connection is made with the first call
/// and made again by itself when containerd was restarted.
pub struct Containerd {
    channel: Channel,
    runtime: Option<PathBuf>,
    /// The first processes of the containers that were made or found here: to
    /// signal one, and to see that it is gone, no daemon is needed.
    processes: RefCell<HashMap<Id, Identity>>,
    /// Containers whose start nobody waits for any more: its time was over.
    given_up: RefCell<BTreeSet<Id>>,
    /// For what has to be run where containerd has left something behind.
    reaper: Option<Reaper>,
}

impl Containerd {
    /// A client of the containerd at `socket`; `runtime` is the OCI runtime
    /// that its shims use, the shim's own default where `None`.
    pub fn new(socket: &Path, runtime: Option<PathBuf>) -> Self {
        let socket = socket.to_path_buf();
        // The URI is never looked at: the connector knows where to go.
        let endpoint = Endpoint::from_static("http://containerd.invalid");
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        }));
        let (processes, given_up) = (RefCell::default(), RefCell::default());
        Self { channel, runtime, processes, given_up, reaper: None }
    }

    /// The same, able to clear up behind a containerd that could not.
    pub fn with_reaper(self, reaper: Reaper) -> Self {
        Self { reaper: Some(reaper), ..self }
    }

    /// containerd's version: the cheapest question, asked to see whether it answers.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn version(&self) -> Result<String, Error> {
        let answer = VersionClient::new(self.channel.clone()).version(()).await;
        answer.map(|answer| answer.into_inner().version).map_err(unavailable)
    }

    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone())
    }

    fn options(&self) -> Option<Any> {
        let binary_name = self.runtime.as_ref()?.to_string_lossy().into_owned();
        Some(Any { type_url: OPTIONS_URL.to_owned(), value: RuncOptions { binary_name }.encode_to_vec() })
    }
}

impl Engine for Containerd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create<'a>(&'a self, job: Job<'a>) -> Answer<'a, u32> {
        Box::pin(async move {
            let id = job.id;
            let waited = Waited::new(self, id);
            // What a start left that was cut short, or a shim that died, is in
            // the way: nobody else makes containers of ours.
            let mut made = self.make(job).await?;
            if made.as_ref().is_err_and(in_the_way) {
                self.discard(id).await?;
                made = self.make(job).await?;
            }
            match made {
                Ok(pid) => {
                    waited.over();
                    self.given_up.borrow_mut().remove(id);
                    self.remember(id, pid);
                    Ok(pid)
                }
                Err(status) => {
                    let error = refused("create", id, &status);
                    if !matches!(error, Error::Unavailable { .. }) {
                        waited.over();
                        // A record without a task is of no use to anyone.
                        let _ = self.delete(id).await;
                    }
                    Err(error)
                }
            }
        })
    }

    fn start<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(async move {
            let request = StartRequest { container_id: id.name.clone(), ..StartRequest::default() };
            let waited = Waited::new(self, id);
            let answer = self.tasks().start(scoped(request, id)?).await;
            let result = answer.map(drop).map_err(|status| refused("start", id, &status));
            if !matches!(result, Err(Error::Unavailable { .. })) {
                waited.over();
            }
            result
        })
    }

    fn wait<'a>(&'a self, id: &'a Id) -> Answer<'a, Exit> {
        Box::pin(async move {
            loop {
                let request = WaitRequest { container_id: id.name.clone(), ..WaitRequest::default() };
                let error = match self.tasks().wait(scoped(request, id)?).await {
                    Ok(answer) => return Ok(Exit { status: Some(answer.into_inner().exit_status) }),
                    Err(status) => refused("wait for", id, &status),
                };
                if matches!(error, Error::Unavailable { .. }) {
                    return Err(error);
                }
                match self.look(id).await? {
                    Sight::Running => sleep(ANOTHER_LOOK).await,
                    Sight::Ended(exit) => return Ok(exit),
                    Sight::Nothing => {
                        // Its shim has died, or it ended while containerd was
                        // away (2.x forgets such a one). Nobody can look after
                        // it any more: containerd kills it, too, in its time.
                        self.end_process(id).await;
                        return Err(error);
                    }
                }
            }
        })
    }

    fn kill<'a>(&'a self, id: &'a Id, signal: i32, all: bool) -> Answer<'a, ()> {
        Box::pin(async move {
            let known = self.processes.borrow().get(id).copied();
            // One that an rc before this one has started is known to its shim.
            let process = known.or_else(|| first::process(id));
            if let Some(identity) = process.filter(|_| !all) {
                // At once, and also while containerd is away or hangs. The
                // shim would have runc do the same.
                return signal_process(id, identity, signal);
            }
            if let Some(identity) = process.filter(|_| signal == SIGKILL) {
                // Its first process takes a pid namespace with it. The request
                // below is for those of a container without one, and fails
                // where this has been enough.
                let _ = signal_process(id, identity, signal);
            }
            let request = KillRequest {
                container_id: id.name.clone(),
                signal: signal.cast_unsigned(),
                all,
                ..KillRequest::default()
            };
            let answer = self.tasks().kill(scoped(request, id)?).await;
            answer.map(drop).map_err(|status| refused("signal", id, &status))
        })
    }

    fn exec(&self, id: &Id, exec: Exec<'_>) -> Result<Command, Error> {
        let missing = || Error::Unavailable {
            engine: "no OCI runtime",
            reason: format!("none of {} is there", direct::RUNTIMES.join(", ")),
        };
        // With a crun in the image it is what the shims use; else they use runc.
        let program = direct::find_runtime().ok_or_else(missing)?;
        Ok(exec.command(&program, &Path::new(RUNTIME_STATE).join(&id.namespace), id))
    }

    fn delete<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(async move {
            // The task first: deleting a container that has one leaves the
            // task running and out of reach. Of a task whose shim has died the
            // first call says so, when containerd has removed it; the second
            // says that there is none.
            let mut again = true;
            loop {
                let request = DeleteTaskRequest { container_id: id.name.clone() };
                let Err(status) = self.tasks().delete(scoped(request, id)?).await else { break };
                if status.code() == Code::NotFound {
                    break;
                }
                let error = refused("delete the task of", id, &status);
                if matches!(error, Error::Unavailable { .. }) || !std::mem::take(&mut again) {
                    return Err(error);
                }
            }
            let request = DeleteContainerRequest { id: id.name.clone() };
            match self.containers().delete(scoped(request, id)?).await {
                Err(status) if status.code() != Code::NotFound => return Err(refused("delete", id, &status)),
                _ => {}
            }
            self.end_process(id).await;
            self.processes.borrow_mut().remove(id);
            self.sweep(id).await;
            Ok(())
        })
    }

    fn discard<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(async move {
            self.end_given_up(id).await;
            let result = match timeout(SHIM_HELD_UP, kill_and_delete(self, id)).await {
                Ok(result) => result,
                Err(_) => {
                    remains::end_shims(id).await;
                    kill_and_delete(self, id).await
                }
            };
            // The bundle of a start that was cut short is gone before its shim.
            remains::end_shims(id).await;
            result
        })
    }

    fn list<'a>(&'a self, namespace: &'a str) -> Answer<'a, Vec<Found>> {
        Box::pin(async move {
            let all = Id { namespace: namespace.to_owned(), name: String::new() };
            let fail = |status: Status| refused("list", &all, &status);
            let request = scoped(ListContainersRequest::default(), &all)?;
            let containers = self.containers().list(request).await.map_err(fail)?.into_inner().containers;
            let request = scoped(ListTasksRequest::default(), &all)?;
            let tasks = self.tasks().list(request).await.map_err(fail)?.into_inner().tasks;
            let task = |name: &str| {
                let process = tasks.iter().find(|process| process.id == name)?;
                Some(Task { pid: process.pid, state: state(process.status()) })
            };
            let found = |name: String| Found { task: task(&name), name };
            let all: Vec<Found> = containers.into_iter().map(|container| found(container.id)).collect();
            for Found { name, task } in &all {
                let id = Id { namespace: namespace.to_owned(), name: name.clone() };
                if let Some(task) = task.filter(|task| task.state != TaskState::Ended) {
                    self.remember(&id, task.pid);
                }
            }
            Ok(all)
        })
    }
}

impl Containerd {
    /// Makes the record and the task of a container; returns its pid, or what
    /// containerd has against it.
    async fn make(&self, job: Job<'_>) -> Result<Result<u32, Status>, Error> {
        let id = job.id;
        let container = Container {
            id: id.name.clone(),
            runtime: Some(Runtime { name: RUNTIME.to_owned(), options: self.options() }),
            spec: Some(Any { type_url: SPEC_URL.to_owned(), value: job.spec.to_vec() }),
            labels: HashMap::from([("lkinit.bundle".to_owned(), job.bundle.display().to_string())]),
            ..Container::default()
        };
        let request = CreateContainerRequest { container: Some(container) };
        if let Err(status) = self.containers().create(scoped(request, id)?).await {
            return Ok(Err(status));
        }
        let request = CreateTaskRequest {
            container_id: id.name.clone(),
            stdout: job.stdout.display().to_string(),
            stderr: job.stderr.display().to_string(),
            options: self.options(),
            ..CreateTaskRequest::default()
        };
        Ok(self.tasks().create(scoped(request, id)?).await.map(|answer| answer.into_inner().pid))
    }

    fn remember(&self, id: &Id, pid: u32) {
        if let Some(identity) = Identity::of(pid.cast_signed()) {
            self.processes.borrow_mut().insert(id.clone(), identity);
        }
    }

    /// What containerd thinks of a task that it would not wait for.
    async fn look(&self, id: &Id) -> Result<Sight, Error> {
        let request = GetRequest { container_id: id.name.clone(), ..GetRequest::default() };
        match self.tasks().get(scoped(request, id)?).await {
            Ok(answer) => {
                Ok(answer.into_inner().process.map_or(Sight::Nothing, |process| match process.status() {
                    TaskStatus::Stopped => Sight::Ended(Exit { status: Some(process.exit_status) }),
                    TaskStatus::Unknown => Sight::Nothing,
                    _ => Sight::Running,
                }))
            }
            Err(status) => match refused("look at", id, &status) {
                error @ Error::Unavailable { .. } => Err(error),
                _ => Ok(Sight::Nothing),
            },
        }
    }
}

/// What there is to be seen of a task.
enum Sight {
    Running,
    Ended(Exit),
    Nothing,
}
