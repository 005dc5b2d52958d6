// SPDX-License-Identifier: Apache-2.0
//! Processes: signals, sessions, who inherits orphans.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Makes this process the one that inherits its descendants' orphans
/// (`PR_SET_CHILD_SUBREAPER`, Linux 3.4).
///
/// # Errors
/// The kernel's.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this prctl(2) takes a number and touches no memory of ours.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    Ok(())
}

/// Sends a signal to one process. A process that is gone is no error.
///
/// # Errors
/// EPERM.
pub fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal to every process but PID 1 and this one: kill(-1).
/// Returns false when there is none.
///
/// # Errors
/// The kernel's.
pub fn signal_all(signal: Signal) -> io::Result<bool> {
    match kill(Pid::from_raw(-1), signal) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A descriptor of a process, readable at its end (pidfd_open(2), Linux 5.3);
/// `None` where there is no such process.
///
/// # Errors
/// The kernel's, ESRCH excepted.
pub fn open_pidfd(pid: i32) -> io::Result<Option<OwnedFd>> {
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory of ours.
    match Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }) {
        Ok(fd) => {
            let fd = i32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            // SAFETY: the kernel has just given this descriptor to us alone.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        Err(Errno::ESRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
