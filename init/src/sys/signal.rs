// SPDX-License-Identifier: Apache-2.0
//! Signals taken one at a time, in the program's own order, instead of
//! whenever they come.

use std::io;
use std::ptr;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::memory::Program;

/// The signals that a program's own faults raise. They stay unblocked: a fault
/// under a blocked signal ends the process without a word.
pub const FAULTS: [Signal; 6] =
    [Signal::SIGABRT, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGSYS];

/// Every signal but the [`FAULTS`], blocked, so that they wait until they are asked for.
#[derive(Debug)]
pub struct Signals {
    set: SigSet,
}

impl Signals {
    /// Gives every one of them its default action again (what `exec` left
    /// ignored stays so for ever otherwise, and an ignored SIGCHLD means no
    /// exit status) and blocks them.
    ///
    /// # Errors
    /// pthread_sigmask(3)'s; there are none for a valid set.
    pub fn block() -> io::Result<Self> {
        let fault = |number: &i32| FAULTS.iter().any(|fault| *fault as i32 == *number);
        for number in (1..=libc::SIGRTMAX()).filter(|number| !fault(number)) {
            // SAFETY: SIG_DFL is no function of ours, so nothing can run at a
            // bad moment. What cannot be changed (SIGKILL) is refused.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
        let mut set = SigSet::all();
        for fault in FAULTS {
            set.remove(fault);
        }
        set.thread_set_mask()?;
        Ok(Self { set })
    }

    /// The next signal's number, which may be a real-time one; `None` when
    /// `timeout` is over. Sleeps in the kernel until then.
    #[inline(always)]
    pub fn wait(&self, timeout: Option<Duration>) -> Option<i32> {
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let set: *const libc::sigset_t = self.set.as_ref();
        // SAFETY: the set and the limit live until the call returns, and the
        // kernel's set is the first 64 bits of the C library's; a null pointer
        // for the siginfo and for "no limit" is allowed.
        let number = unsafe {
            libc::syscall(
                libc::SYS_rt_sigtimedwait,
                set,
                ptr::null::<libc::siginfo_t>(),
                limit,
                size_of::<u64>(),
            )
        };
        i32::try_from(number).ok().filter(|number| *number > 0)
    }

    /// As [`Self::wait`], with none of the program's own pages in memory but
    /// those that it waits in: this function's, and that of syscall(2), which
    /// is why both calls go through it. The kernel maps 16 pages around each
    /// page that is touched, so it matters how many places that are.
    #[inline(never)]
    pub fn wait_small(&self, program: &Program, timeout: Option<Duration>) -> Option<i32> {
        program.release();
        self.wait(timeout)
    }
}

/// Lets every signal through, for a child before `exec`.
pub fn unblock_all() {
    // It fails for no valid set.
    let _ = SigSet::empty().thread_set_mask();
}
