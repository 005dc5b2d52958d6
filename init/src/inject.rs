// SPDX-License-Identifier: Apache-2.0
//! For tests: makes a running program do system calls it would never do, by
//! ptrace(2), and tells what the kernel answered.
//!
//! That a filter was installed proves little; that the kernel refuses a
//! forbidden call of the real binary, in the state the binary put itself in,
//! is what confinement is for. No copy of the policy is involved.

use std::io;
use std::process::{Child, Command, ExitStatus};

use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A program held just after it confined itself. Dropped, it is killed.
#[derive(Debug)]
pub struct Held {
    child: Option<Child>,
    pid: Pid,
    /// Its registers, such that it does its interrupted call when resumed.
    registers: user_regs_struct,
}

/// Where a traced program stopped.
enum Stop {
    Entry,
    Exit,
    Ended(WaitStatus),
}

impl Held {
    /// Starts the program and holds it at the first system call that follows
    /// a successful seccomp(2). That call is not done yet. The program is
    /// started by way of `/bin/sh`; `command`'s environment is not used.
    ///
    /// # Errors
    /// When tracing fails, or when the program ends without ever installing a
    /// filter.
    pub fn after_seccomp(command: &Command) -> io::Result<Self> {
        // A shell that stops itself and then becomes the program gives the
        // time to attach, with no code of ours between fork and exec.
        let child = Command::new("/bin/sh")
            .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
            .arg(command.get_program())
            .args(command.get_args())
            .spawn()?;
        let pid = Pid::from_raw(child.id().try_into().map_err(io::Error::other)?);
        waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
        ptrace::attach(pid)?;
        waitpid(pid, None)?;
        let options =
            Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options)?;
        nix::sys::signal::kill(pid, Signal::SIGCONT)?;

        let (mut filtered, mut calling) = (false, 0);
        loop {
            let stop = next_stop(pid)?;
            let registers = match stop {
                Stop::Ended(status) => return Err(unexpected("ended before it was confined", status)),
                Stop::Entry | Stop::Exit => ptrace::getregs(pid)?,
            };
            match stop {
                Stop::Entry => {
                    calling = registers.orig_rax;
                    let seccomp = [libc::SYS_seccomp.unsigned_abs(), libc::SYS_prctl.unsigned_abs()];
                    if filtered && !seccomp.contains(&calling) {
                        return Self { child: Some(child), pid, registers }.rewind();
                    }
                }
                _ => filtered |= calling == libc::SYS_seccomp.unsigned_abs() && registers.rax == 0,
            }
        }
    }

    /// Takes the program out of the call it is entering, so that it stands
    /// before the instruction again.
    fn rewind(mut self) -> io::Result<Self> {
        const SYSCALL_INSTRUCTION: u64 = 2;
        let nothing = user_regs_struct { orig_rax: u64::MAX, ..self.registers };
        ptrace::setregs(self.pid, nothing)?;
        self.run_to(|stop| matches!(stop, Stop::Exit))?;
        self.registers.rax = self.registers.orig_rax;
        self.registers.rip -= SYSCALL_INSTRUCTION;
        Ok(self)
    }

    /// Makes the program do this call, with these arguments, and returns what
    /// the kernel put in the result register: a negative errno on refusal.
    ///
    /// # Errors
    /// When tracing fails or the program is killed by the call.
    pub fn call(&mut self, number: i64, arguments: [u64; 6]) -> io::Result<i64> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let rax = number.unsigned_abs();
        ptrace::setregs(self.pid, user_regs_struct { rax, rdi, rsi, rdx, r10, r8, r9, ..self.registers })?;
        self.run_to(|stop| matches!(stop, Stop::Entry))?;
        self.run_to(|stop| matches!(stop, Stop::Exit))?;
        Ok(ptrace::getregs(self.pid)?.rax.cast_signed())
    }

    fn run_to(&self, wanted: impl Fn(&Stop) -> bool) -> io::Result<()> {
        match next_stop(self.pid)? {
            stop if wanted(&stop) => Ok(()),
            Stop::Ended(status) => Err(unexpected("ended during an injected call", status)),
            Stop::Entry | Stop::Exit => Err(io::Error::other("an unexpected stop under ptrace")),
        }
    }

    /// `/proc/PID/status` of the held program: proc_pid_status(5).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn status(&self) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/status", self.pid))
    }

    /// Lets the program go on untraced, and waits for its end.
    ///
    /// # Errors
    /// When tracing or waiting fails.
    pub fn finish(mut self) -> io::Result<ExitStatus> {
        ptrace::setregs(self.pid, self.registers)?;
        ptrace::detach(self.pid, None)?;
        match self.child.take() {
            Some(mut child) => child.wait(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to be done about a failure: it has ended already then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Resumes the program until it enters or leaves a system call, or ends.
/// Signals for it are passed on, but for those that starting it took.
fn next_stop(pid: Pid) -> io::Result<Stop> {
    let mut deliver = None;
    loop {
        ptrace::syscall(pid, deliver.take())?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) => {
                let entry = ptrace::syscall_info(pid)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
                return Ok(if entry { Stop::Entry } else { Stop::Exit });
            }
            WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGCONT) => {}
            WaitStatus::Stopped(_, signal) => deliver = Some(signal),
            status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok(Stop::Ended(status)),
            _ => {}
        }
    }
}

fn unexpected(what: &str, status: WaitStatus) -> io::Error {
    io::Error::other(format!("the traced program {what}: {status:?}"))
}
