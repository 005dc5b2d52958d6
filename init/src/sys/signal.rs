// SPDX-License-Identifier: Apache-2.0
//! Signals taken one at a time, in the program's own order, instead of
//! whenever they come.

use std::io;
use std::ptr;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

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
    /// Gives every signal its default action again (what `exec` left ignored
    /// stays so for ever otherwise, and an ignored SIGCHLD means no exit
    /// status) and blocks them.
    ///
    /// # Errors
    /// pthread_sigmask(3)'s; there are none for a valid set.
    pub fn block() -> io::Result<Self> {
        for number in 1..=libc::SIGRTMAX() {
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
    pub fn wait(&self, timeout: Option<Duration>) -> Option<i32> {
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the set and the limit live until the call returns; a null
        // pointer for the siginfo and for "no limit" is allowed.
        let number = unsafe { libc::sigtimedwait(self.set.as_ref(), ptr::null_mut(), limit) };
        (number > 0).then_some(number)
    }
}

/// Lets every signal through, for a child before `exec`.
pub fn unblock_all() {
    // It fails for no valid set.
    let _ = SigSet::empty().thread_set_mask();
}
