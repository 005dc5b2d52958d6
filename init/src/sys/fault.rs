// SPDX-License-Identifier: Apache-2.0
//! The last words of a program whose end is the machine's: a panic or a fault
//! in PID 1 is written down before the kernel stops.
//!
//! What runs in the signal handler takes no lock and no memory, on a stack of
//! its own, so that a fault of the heap or of the stack can be reported too.

use std::ffi::{CStr, c_int, c_void};
use std::panic::PanicHookInfo;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use super::process::exit_now;
use super::signal::{FAULTS, unblock_all};
use crate::console::PATIENCE;
use crate::line::Line;

/// Where last words go: the kernel's log and the console.
const OUTPUTS: [&CStr; 2] = [c"/dev/kmsg", c"/dev/console"];

/// Room for the handler, and for the registers that the kernel saves there
/// (`AT_MINSIGSTKSZ`: 12 KiB with AMX).
const STACK_SIZE: usize = 64 * 1024;

/// Signals report to these; tests have their own.
static TARGETS: OnceLock<[&'static CStr; 2]> = OnceLock::new();
/// One fault, one line: what follows from the first is not worth another.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Reports every panic and every fault of this process from now on.
pub fn report() {
    report_to(OUTPUTS);
}

/// As [`report`], to other files.
pub fn report_to(targets: [&'static CStr; 2]) {
    let _ = TARGETS.set(targets);
    std::panic::set_hook(Box::new(on_panic));
    // SAFETY: an anonymous mapping of new pages touches no memory of ours.
    // It is never unmapped: the kernel keeps its address.
    let stack = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        libc::mmap(ptr::null_mut(), STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    let mut flags = libc::SA_SIGINFO;
    if stack != libc::MAP_FAILED {
        let stack = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: STACK_SIZE };
        // SAFETY: the stack's pages are ours, of that size, and stay mapped.
        if unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) } == 0 {
            flags |= libc::SA_ONSTACK;
        }
    }
    for fault in FAULTS {
        // SAFETY: all-zero is a valid sigaction; the handler has the signature
        // that SA_SIGINFO asks for and calls only what signal-safety(7) allows.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = flags;
            libc::sigaction(fault as c_int, &raw const action, ptr::null_mut());
        }
    }
}

fn on_panic(panic: &PanicHookInfo<'_>) {
    say(format_args!("panic in init: {panic}"));
    // Not abort(3): PID 1 has no default action for the SIGABRT it would send
    // itself, and the instruction it tries next would look like a fault.
    exit_now(128 + libc::SIGABRT);
}

extern "C" fn on_fault(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a SA_SIGINFO handler a siginfo that is valid
    // until it returns; si_pid is the sender where the code is not positive.
    let (code, sender, address) = unsafe { ((*info).si_code, (*info).si_pid(), (*info).si_addr()) };
    // SAFETY: getpid(2) has no conditions.
    let own = unsafe { libc::getpid() };
    // A kill(2) from outside is no fault: PID 1 ignores it. abort(3)'s signal
    // comes from the process itself.
    if code <= 0 && sender != own {
        return;
    }
    let name = Signal::try_from(number).map_or("signal", Signal::as_str);
    let (address, instruction) = (address.addr(), instruction(context));
    say(format_args!(
        "fault in init: {name}, address {address:#x}, instruction {instruction:#x}, code {code}"
    ));
    // SAFETY: SIG_DFL is no function of ours; raise(3) is signal-safe.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        unblock_all();
        libc::raise(number);
    }
    // The kernel drops that signal where this is PID 1.
    exit_now(128 + number);
}

/// The address of the instruction that a signal interrupted; 0 where this
/// architecture's registers are not known.
fn instruction(context: *mut c_void) -> usize {
    if context.is_null() {
        return 0;
    }
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the third argument of a SA_SIGINFO handler is a ucontext.
    let address = unsafe { (*context).uc_mcontext.gregs.get(libc::REG_RIP as usize).copied() };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the third argument of a SA_SIGINFO handler is a ucontext.
    let address = Some(unsafe { (*context).uc_mcontext.pc });
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let address: Option<u64> = None;
    address.map_or(0, |address| address as usize)
}

/// Waits, not for ever, until a terminal has sent what was written to it: what
/// its driver still holds when the kernel stops is lost. Closing it would wait
/// for half a minute where nobody listens.
fn drain(file: c_int) {
    let mut queued: c_int = 0;
    for _ in 0..PATIENCE.as_millis() {
        // SAFETY: TIOCOUTQ fills in an int; poll(2) of no descriptors waits for a millisecond.
        unsafe {
            if libc::ioctl(file, libc::TIOCOUTQ, &raw mut queued) != 0 || queued == 0 {
                return;
            }
            libc::poll(ptr::null_mut(), 0, 1);
        }
    }
}

/// One line to the kernel's log and the console.
fn say(text: std::fmt::Arguments<'_>) {
    if REPORTED.swap(true, Ordering::Relaxed) {
        return;
    }
    // Facility daemon (3), severity critical (2): the kernel shows it on every
    // console even when it was told to be quiet.
    let mut kmsg = Line::<512>::of(format_args!("<26>lkinit: {text}"));
    kmsg.push_bytes(b"\n");
    let mut console = Line::<512>::of(format_args!("lkinit: {text}"));
    console.push_bytes(b"\r\n");
    let targets = TARGETS.get().unwrap_or(&OUTPUTS);
    for (path, line) in targets.iter().zip([kmsg.as_bytes(), console.as_bytes()]) {
        // SAFETY: the path is a C string, the bytes and their length belong
        // together, and the descriptor is this block's own.
        unsafe {
            let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_NOCTTY | libc::O_NONBLOCK);
            if file >= 0 {
                libc::write(file, line.as_ptr().cast(), line.len());
                drain(file);
            }
        }
    }
}

#[cfg(test)]
mod tests;
