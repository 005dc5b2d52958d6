// SPDX-License-Identifier: Apache-2.0
//! System calls by name, and the sets most programs share.

use std::fmt;

/// One system call that stays allowed. Made by [`crate::syscalls!`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syscall {
    /// libc's name of its number, `SYS_read`.
    constant: &'static str,
    /// Its number on this architecture.
    pub(super) number: i64,
    /// What one of its arguments must be.
    pub(super) argument: Argument,
}

/// A condition on one argument, counted from 0. Only the value in the register
/// can be judged: what a pointer points to is out of a filter's sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// No condition.
    Any,
    /// Equal, as a 32-bit number, to one of these.
    OneOf(u8, &'static [u32]),
    /// All of these flags are set.
    With(u8, u64),
    /// None of these flags is set.
    Without(u8, u64),
}

impl Syscall {
    #[doc(hidden)]
    pub const fn new(constant: &'static str, number: i64, argument: Argument) -> Self {
        Self { constant, number, argument }
    }

    /// Its name, as in section 2 of the manual.
    pub fn name(&self) -> &'static str {
        self.constant.strip_prefix("SYS_").unwrap_or(self.constant)
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.argument {
            Argument::Any => Ok(()),
            Argument::OneOf(index, values) => {
                write!(f, "(argument {index} one of")?;
                values.iter().try_for_each(|value| write!(f, " {value:#x}"))?;
                f.write_str(")")
            }
            Argument::With(index, flags) => write!(f, "(argument {index} with {flags:#x})"),
            Argument::Without(index, flags) => write!(f, "(argument {index} without {flags:#x})"),
        }
    }
}

/// A `&'static [Syscall]` from libc's `SYS_` names, each with an optional
/// [`Argument`] condition and an optional `#[cfg]`, for calls that only one
/// architecture has:
///
/// ```
/// use init::confine::{Argument, Syscall};
/// const CALLS: &[Syscall] = init::syscalls![
///     SYS_epoll_pwait,
///     #[cfg(target_arch = "x86_64")]
///     SYS_epoll_wait,
///     SYS_socket: Argument::OneOf(0, &[libc::AF_UNIX as u32]),
/// ];
/// assert_eq!(CALLS[0].name(), "epoll_pwait");
/// ```
///
/// A call listed twice with conditions is allowed where either holds.
#[macro_export]
macro_rules! syscalls {
    (@argument) => { $crate::confine::Argument::Any };
    (@argument $argument:expr) => { $argument };
    ($($(#[$attribute:meta])* $constant:ident $(: $argument:expr)?),* $(,)?) => {
        &[$(
            $(#[$attribute])*
            $crate::confine::Syscall::new(
                stringify!($constant),
                $crate::confine::libc::$constant,
                $crate::syscalls!(@argument $($argument)?),
            )
        ),*]
    };
}

/// What the C library and Rust's own need in any program: memory that is never
/// executable, locks, signal handling, time, randomness, standard streams, an end.
pub const BASE: &[Syscall] = syscalls![
    SYS_read,
    SYS_write,
    SYS_writev,
    SYS_close,
    SYS_brk,
    SYS_mmap: Argument::Without(2, libc::PROT_EXEC as u64),
    SYS_mprotect: Argument::Without(2, libc::PROT_EXEC as u64),
    SYS_mremap,
    SYS_munmap,
    SYS_madvise,
    SYS_futex,
    SYS_sched_yield,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_restart_syscall,
    SYS_getpid,
    SYS_gettid,
    // abort(3) raises SIGABRT with it. The kill(2) family is not there.
    SYS_tgkill,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_getrandom,
    SYS_exit,
    SYS_exit_group,
];

/// Starting threads, never processes. The filter makes clone3(2) look absent.
pub const THREADS: &[Syscall] = syscalls![
    SYS_clone: Argument::With(0, libc::CLONE_THREAD as u64),
    // For the other filter, the one that answers ENOSYS, to be the stricter.
    SYS_clone3,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_sched_getaffinity,
    SYS_prctl: Argument::OneOf(0, &[libc::PR_SET_NAME as u32]),
];

/// Opening files and listing directories. Which files, and whether to write
/// them, is for Landlock and file permissions.
pub const READ_FILES: &[Syscall] = syscalls![
    SYS_openat,
    #[cfg(target_arch = "x86_64")]
    SYS_open,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_lseek,
    SYS_getdents64,
    SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    SYS_readlink,
    SYS_fcntl,
];
