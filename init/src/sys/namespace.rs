// SPDX-License-Identifier: Apache-2.0
//! Namespaces of other processes.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// The file that stands for a namespace of process `pid`; `name` as in
/// `/proc/PID/ns`. Once it is open it means this namespace and keeps it
/// alive, whatever becomes of `pid`. Source: namespaces(7).
pub fn path(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/{name}"))
}

/// Runs `action` inside the network namespace `namespace` and returns what it
/// returns. The caller's own namespace is never left: setns(2) changes one
/// thread, and that thread is thrown away.
///
/// # Errors
/// No thread to be had, no permission to enter, or `action`'s own.
pub fn inside_network<T: Send>(
    namespace: BorrowedFd<'_>,
    action: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let visit = || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            action()
        };
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, visit)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the visit to the network namespace panicked")))
    })
}
