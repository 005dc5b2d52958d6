// SPDX-License-Identifier: Apache-2.0
//! What containerd leaves behind when it, a shim or whoever asked died.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::{BUNDLES, Containerd, RUNTIME_STATE};
use crate::engine::{Id, direct};
use crate::process;

/// What belongs to the bundles of its tasks.
const WORK: &str = "/var/lib/containerd/io.containerd.runtime.v2.task";

impl Containerd {
    /// Removes what containerd has forgotten of a container that is deleted.
    ///
    /// It gives up after a few seconds when it clears up behind a shim that
    /// died, or when whoever asked for a task has died meanwhile. What is left
    /// then, perhaps with a process in it, is in the way of the next task of
    /// that name for ever.
    pub(super) async fn sweep(&self, id: &Id) {
        let below = |folder: &str| Path::new(folder).join(&id.namespace).join(&id.name);
        let (bundle, runtime) = (below(BUNDLES), below(RUNTIME_STATE));
        if bundle.exists() {
            end_shims(id).await;
        }
        if runtime.exists()
            && let (Some(program), Some(reaper)) = (direct::find_runtime(), &self.reaper)
        {
            let mut command = Command::new(program);
            command.arg("--root").arg(Path::new(RUNTIME_STATE).join(&id.namespace));
            command.args(["delete", "--force", &id.name]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // If it fails, the next start will say what is in the way.
            let _ = reaper.run(&mut command).await;
        }
        for folder in [bundle, below(WORK)] {
            // It is not there, unless something went wrong before.
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// Ends what is still at work for a start that nobody waits for any more.
    ///
    /// A shim does one thing after the other: one whose runtime waits for a
    /// hook that does not end answers nobody, and containerd forgets it.
    pub(super) async fn end_given_up(&self, id: &Id) {
        if self.given_up.borrow_mut().remove(id) {
            end_shims(id).await;
        }
    }

    /// Sees to it that a container's first process is gone.
    pub(super) async fn end_process(&self, id: &Id) {
        let process = self.processes.borrow().get(id).copied();
        if let Some(identity) = process.filter(|identity| identity.is_alive()) {
            let _ = init::sys::process::signal(identity.pid, Signal::SIGKILL);
            let _ = process::gone(identity).await;
        }
    }
}

/// A step of a container's start, for as long as somebody waits for it.
pub(super) struct Waited<'a> {
    given_up: &'a RefCell<BTreeSet<Id>>,
    id: Option<&'a Id>,
}

impl<'a> Waited<'a> {
    pub(super) fn new(containerd: &'a Containerd, id: &'a Id) -> Self {
        Self { given_up: &containerd.given_up, id: Some(id) }
    }

    /// There is an answer.
    pub(super) fn over(mut self) {
        self.id = None;
    }
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.given_up.borrow_mut().insert(id.clone());
        }
    }
}

/// Ends the shims of a container, with all that they have started.
pub(super) async fn end_shims(id: &Id) {
    let shim = |words: &[&[u8]]| {
        let has = |option: &str, value: &str| {
            words.windows(2).any(|pair| *pair == [option.as_bytes(), value.as_bytes()])
        };
        has("-namespace", &id.namespace) && has("-id", &id.name)
    };
    process::end_trees(process::find(shim)).await;
}
