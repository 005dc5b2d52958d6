// SPDX-License-Identifier: Apache-2.0
//! Containers through containerd, by its gRPC API (1.6 and later).
//!
//! A container is a record with a spec, no image and no snapshot; its task
//! has no root filesystem mounts, as the bundle's own is mounted already.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest, DeleteTaskRequest,
    KillRequest, ListContainersRequest, ListTasksRequest, StartRequest, WaitRequest, container::Runtime,
};
use containerd_client::types::v1::Status as TaskStatus;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost_types::Any;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{Answer, Engine, Error, Exit, Found, Id, Job, Task};

/// The socket of CONTRACT and of containerd's defaults.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

const NAME: &str = "containerd";
const RUNTIME: &str = "io.containerd.runc.v2";
const SPEC_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// containerd 1.6 wants this name bare, without `type.googleapis.com/`.
const OPTIONS_URL: &str = "containerd.runc.v1.Options";

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
        Self { channel, runtime }
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
            let container = Container {
                id: id.name.clone(),
                runtime: Some(Runtime { name: RUNTIME.to_owned(), options: self.options() }),
                spec: Some(Any { type_url: SPEC_URL.to_owned(), value: job.spec.to_vec() }),
                labels: HashMap::from([("lkinit.bundle".to_owned(), job.bundle.display().to_string())]),
                ..Container::default()
            };
            let request = CreateContainerRequest { container: Some(container) };
            self.containers()
                .create(scoped(request, id)?)
                .await
                .map_err(|status| refused("create", id, &status))?;
            let request = CreateTaskRequest {
                container_id: id.name.clone(),
                stdout: job.stdout.display().to_string(),
                stderr: job.stderr.display().to_string(),
                options: self.options(),
                ..CreateTaskRequest::default()
            };
            match self.tasks().create(scoped(request, id)?).await {
                Ok(answer) => Ok(answer.into_inner().pid),
                Err(status) => {
                    // A record without a task is of no use to anyone.
                    let request = DeleteContainerRequest { id: id.name.clone() };
                    let _ = self.containers().delete(scoped(request, id)?).await;
                    Err(refused("create", id, &status))
                }
            }
        })
    }

    fn start<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(async move {
            let request = StartRequest { container_id: id.name.clone(), ..StartRequest::default() };
            let answer = self.tasks().start(scoped(request, id)?).await;
            answer.map(drop).map_err(|status| refused("start", id, &status))
        })
    }

    fn wait<'a>(&'a self, id: &'a Id) -> Answer<'a, Exit> {
        Box::pin(async move {
            let request = WaitRequest { container_id: id.name.clone(), ..WaitRequest::default() };
            let answer = self.tasks().wait(scoped(request, id)?).await;
            let answer = answer.map_err(|status| refused("wait for", id, &status))?;
            Ok(Exit { status: Some(answer.into_inner().exit_status) })
        })
    }

    fn kill<'a>(&'a self, id: &'a Id, signal: i32, all: bool) -> Answer<'a, ()> {
        Box::pin(async move {
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

    fn delete<'a>(&'a self, id: &'a Id) -> Answer<'a, ()> {
        Box::pin(async move {
            // The task first: deleting a container that has one leaves the
            // task running and out of reach.
            let request = DeleteTaskRequest { container_id: id.name.clone() };
            match self.tasks().delete(scoped(request, id)?).await {
                Err(status) if status.code() != Code::NotFound => {
                    return Err(refused("delete the task of", id, &status));
                }
                _ => {}
            }
            let request = DeleteContainerRequest { id: id.name.clone() };
            match self.containers().delete(scoped(request, id)?).await {
                Err(status) if status.code() != Code::NotFound => Err(refused("delete", id, &status)),
                _ => Ok(()),
            }
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
                let running = !matches!(process.status(), TaskStatus::Stopped | TaskStatus::Unknown);
                Some(Task { pid: process.pid, running })
            };
            let found = |name: String| Found { task: task(&name), name };
            Ok(containers.into_iter().map(|container| found(container.id)).collect())
        })
    }
}

/// A request in the namespace of a container.
fn scoped<T>(message: T, id: &Id) -> Result<Request<T>, Error> {
    let namespace = MetadataValue::try_from(&id.namespace).map_err(|error| Error::Refused {
        engine: NAME,
        step: "name the namespace of",
        id: id.clone(),
        missing: false,
        reason: error.to_string(),
    })?;
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace);
    Ok(request)
}

fn refused(step: &'static str, id: &Id, status: &Status) -> Error {
    match status.code() {
        // What a connection says that broke under a call, or was never made.
        Code::Unavailable => unavailable(status.clone()),
        Code::Unknown if status.message().contains("transport error") => unavailable(status.clone()),
        code => Error::Refused {
            engine: NAME,
            step,
            id: id.clone(),
            missing: code == Code::NotFound,
            reason: status.message().to_owned(),
        },
    }
}

fn unavailable(status: Status) -> Error {
    // The system's own words are the innermost source; the layers above say
    // them again.
    let mut reason = status.message().to_owned();
    let mut source = std::error::Error::source(&status);
    while let Some(error) = source {
        reason = error.to_string();
        source = error.source();
    }
    Error::Unavailable { engine: NAME, reason }
}
