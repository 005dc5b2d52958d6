// SPDX-License-Identifier: Apache-2.0
//! Processes: signals, children, who inherits orphans.

use std::ffi::{CStr, c_char};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid};

use crate::line::Line;
use crate::reaped;

/// The most words that [`exec`] passes on, the program's name included. The
/// kernel gives its first program 32 at most (`CONFIG_INIT_ENV_ARG_LIMIT`).
pub const MAX_ARGUMENTS: usize = 64;

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

/// What [`ended_child`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// One has ended and waits to be reaped.
    Ended {
        /// Which.
        pid: i32,
        /// Its wait status, as wait(2) gives it.
        status: i32,
    },
    /// There are children, and none has ended.
    Alive,
    /// There is no child.
    None,
}

/// The next child that has ended. It stays a zombie, its `/proc` directory
/// with it, until [`reap`].
///
/// This is not nix's `waitid`, which knows no real-time signals and answers
/// EINVAL for a child that one of them has killed: such a zombie would stay.
pub fn ended_child() -> Child {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is as large as the kernel's siginfo and outlives the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) };
    if result != 0 {
        return Child::None; // ECHILD; WNOHANG leaves no room for EINTR.
    }
    // SAFETY: all-zero is a valid siginfo, and waitid(2) leaves si_pid zero
    // when no child has ended and fills in a SIGCHLD siginfo otherwise.
    let (pid, value, code) = unsafe {
        let info = info.assume_init_ref();
        (info.si_pid(), info.si_status(), info.si_code)
    };
    if pid == 0 {
        return Child::Alive;
    }
    // The layout of wait(2)'s status word, from the pieces waitid(2) gives.
    let status = match code {
        libc::CLD_EXITED => (value & 0xff) << 8,
        libc::CLD_DUMPED => value & 0x7f | 0x80,
        _ => value & 0x7f,
    };
    Child::Ended { pid, status }
}

/// Lets go of a child that has ended.
pub fn reap(pid: i32) {
    // SAFETY: waitpid(2) takes a null pointer for a status nobody wants.
    unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) };
}

/// Runs `child` in a new process, whose exit status is what it returns.
/// Gives the new process' number.
///
/// For programs with one thread: in others the child could find a lock held
/// by a thread it does not have.
///
/// # Errors
/// fork(2)'s: EAGAIN, ENOMEM.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the caller has one thread, so the child is a whole program.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => exit_now(child()),
    }
}

/// Has the process that `command` starts write its number and its start time,
/// `PID START`, to `note` before it becomes the program: whoever starts it may
/// not live to do so.
pub fn note_itself(command: &mut Command, note: File) {
    let write = move || {
        let pid = std::process::id().cast_signed();
        let start = reaped::start_time(pid).unwrap_or(0);
        // There is nobody to tell of a failure, and it is no reason not to run.
        let _ = nix::unistd::write(&note, Line::<40>::of(format_args!("{pid} {start}")).as_bytes());
        Ok(())
    };
    // SAFETY: this runs between fork(2) and execve(2) and takes no lock: a few
    // system calls, and text on the stack.
    unsafe { command.pre_exec(write) };
}

/// Ends this process at once: nothing is flushed, no handler runs.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Becomes another program, with this environment and without using the heap.
/// Returns only when that fails, with the reason: execve(2)'s, or E2BIG for
/// more than [`MAX_ARGUMENTS`] words.
pub fn exec(program: &CStr, arguments: &[&CStr]) -> io::Error {
    // One more than the words, for the null pointer that ends them.
    let mut words = [ptr::null::<c_char>(); MAX_ARGUMENTS + 1];
    if arguments.len() > MAX_ARGUMENTS {
        return Errno::E2BIG.into();
    }
    for (slot, word) in words.iter_mut().zip(arguments) {
        *slot = word.as_ptr();
    }
    // SAFETY: the words are C strings that live until the call returns, and a
    // null pointer follows the last.
    unsafe { libc::execv(program.as_ptr(), words.as_ptr()) };
    io::Error::last_os_error()
}

/// The path this program was executed by, as the caller of execve(2) spelt it
/// (`AT_EXECFN` of getauxval(3)).
pub fn executed_as() -> Option<&'static CStr> {
    // SAFETY: getauxval(3) reads what the kernel put on the stack at exec.
    let address = unsafe { libc::getauxval(libc::AT_EXECFN) };
    // SAFETY: AT_EXECFN is the address of a C string at the top of the stack,
    // which nothing writes to and which lives as long as the process.
    (address != 0).then(|| unsafe { CStr::from_ptr(ptr::with_exposed_provenance(address as usize)) })
}

/// Sets an environment variable that is not there. For programs with one thread.
pub fn default_variable(name: &str, value: &str) {
    if std::env::var_os(name).is_none() {
        // SAFETY: the caller has one thread, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}
