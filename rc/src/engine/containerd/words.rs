// SPDX-License-Identifier: Apache-2.0
//! Between containerd's words and ours: requests, states, errors.

use containerd_client::types::v1::Status as TaskStatus;
use nix::sys::signal::Signal;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::NAME;
use crate::engine::{Error, Id, TaskState};
use crate::process::Identity;

/// Whether a start failed because of something that is there already.
pub(super) fn in_the_way(status: &Status) -> bool {
    // The second is what it says of a bundle's folder that it has forgotten.
    status.code() == Code::AlreadyExists || status.message().contains("file exists")
}

/// How far a task has come, in the engine's words.
pub(super) fn state(status: TaskStatus) -> TaskState {
    match status {
        TaskStatus::Created => TaskState::Created,
        TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing => TaskState::Running,
        TaskStatus::Stopped | TaskStatus::Unknown => TaskState::Ended,
    }
}

pub(super) fn signal_process(id: &Id, identity: Identity, number: i32) -> Result<(), Error> {
    let gone = |reason: String, missing| Error::Refused {
        engine: NAME,
        step: "signal",
        id: id.clone(),
        missing,
        reason,
    };
    if !identity.is_alive() {
        return Err(gone("its process has ended".to_owned(), true));
    }
    let signal = Signal::try_from(number).map_err(|_| gone(format!("there is no signal {number}"), false))?;
    init::sys::process::signal(identity.pid, signal).map_err(|error| gone(error.to_string(), false))
}

/// A request in the namespace of a container.
pub(super) fn scoped<T>(message: T, id: &Id) -> Result<Request<T>, Error> {
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

pub(super) fn refused(step: &'static str, id: &Id, status: &Status) -> Error {
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

pub(super) fn unavailable(status: Status) -> Error {
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
