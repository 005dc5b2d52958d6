// SPDX-License-Identifier: Apache-2.0
//! The program on VMware, played by the test: under ptrace(2) its CPUID
//! instructions get VMware's answers, and the instruction at the port, which
//! faults anywhere else, gets the hypervisor's. All of it is the program's own,
//! confinement included; only the machine is not there.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command};

use init::sys::backdoor::Registers;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use support::hypervisor::Hypervisor;
use support::program::{Machine, expected};

const CPUID: [u8; 2] = [0x0F, 0xA2];
const IN_EAX_DX: u8 = 0xED;
const BREAKPOINT: u8 = 0xCC;
const HYPERVISOR_LEAF: u32 = 0x4000_0000;

struct Traced {
    child: Child,
    pid: Pid,
    memory: File,
    hypervisor: Hypervisor,
    /// What has happened, in order: `ioperm`, `seccomp`, `in`, each once.
    story: Vec<&'static str>,
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Traced {
    /// The program, about to start.
    fn start(command: &Command, hypervisor: Hypervisor) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
            .arg(command.get_program())
            .args(command.get_args())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        ptrace::attach(pid).unwrap();
        waitpid(pid, None).unwrap();
        let options =
            Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
        loop {
            ptrace::cont(pid, None).unwrap();
            match waitpid(pid, None).unwrap() {
                WaitStatus::PtraceEvent(..) => break,
                WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGCONT) => {}
                status => panic!("{status:?}"),
            }
        }
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
        Self { child, pid, memory, hypervisor, story: Vec::new() }
    }

    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let _ = self.memory.read_at(&mut bytes, at);
        bytes
    }

    fn text(&self, at: u64) -> String {
        let bytes: [u8; 256] = self.bytes(at);
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap()).into_owned()
    }

    /// Goes to the call that opens the file which is looked at just before
    /// CPUID is asked.
    fn to_the_facts(&self) {
        loop {
            ptrace::syscall(self.pid, None).unwrap();
            assert!(matches!(waitpid(self.pid, None).unwrap(), WaitStatus::PtraceSyscall(_)));
            let registers = ptrace::getregs(self.pid).unwrap();
            if registers.orig_rax == libc::SYS_openat.unsigned_abs()
                && self.text(registers.rsi).ends_with("hypervisor/uuid")
            {
                return;
            }
        }
    }

    /// Goes on one instruction after the other until the hypervisor has been
    /// asked for its name, and answers; from then on each CPUID of those is a
    /// breakpoint.
    fn to_the_name(&self) {
        loop {
            let registers = ptrace::getregs(self.pid).unwrap();
            let here = self.bytes(registers.rip);
            if here != CPUID && here != [BREAKPOINT, CPUID[1]] {
                self.step();
            } else if self.cpuid(registers.rip) == HYPERVISOR_LEAF {
                return;
            }
        }
    }

    fn step(&self) {
        ptrace::step(self.pid, None).unwrap();
        match waitpid(self.pid, None).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceSyscall(_) => {}
            status => panic!("{status:?}"),
        }
    }

    /// Has the CPUID instruction at this address done, puts VMware's answers in
    /// place of this machine's, and leaves a breakpoint. Returns what was asked.
    fn cpuid(&self, at: u64) -> u32 {
        let mut registers = ptrace::getregs(self.pid).unwrap();
        let leaf = registers.rax as u32;
        registers.rip = at;
        ptrace::setregs(self.pid, registers).unwrap();
        self.memory.write_all_at(&CPUID, at).unwrap();
        self.step();
        self.memory.write_all_at(&[BREAKPOINT], at).unwrap();
        let mut registers = ptrace::getregs(self.pid).unwrap();
        let word = |text: &[u8; 4]| u32::from_le_bytes(*text).into();
        match leaf {
            1 => registers.rcx |= 1 << 31,
            HYPERVISOR_LEAF => {
                [registers.rbx, registers.rcx, registers.rdx] = [word(b"VMwa"), word(b"reVM"), word(b"ware")];
            }
            _ => {}
        }
        ptrace::setregs(self.pid, registers).unwrap();
        leaf
    }

    /// Lets it run to its end; returns its exit status.
    fn finish(&mut self) -> i32 {
        let mut deliver = None;
        loop {
            ptrace::syscall(self.pid, deliver.take()).unwrap();
            match waitpid(self.pid, None).unwrap() {
                WaitStatus::Exited(_, status) => return status,
                WaitStatus::PtraceSyscall(_) => self.call(),
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                    // It stops behind the breakpoint.
                    self.cpuid(ptrace::getregs(self.pid).unwrap().rip - 1);
                }
                WaitStatus::Stopped(_, Signal::SIGSEGV) => self.port(),
                WaitStatus::Stopped(_, signal) => deliver = Some(signal),
                status => panic!("{status:?}"),
            }
        }
    }

    fn call(&mut self) {
        let mut registers = ptrace::getregs(self.pid).unwrap();
        if registers.orig_rax == libc::SYS_ioperm.unsigned_abs() {
            assert_eq!((registers.rdi, registers.rsi, registers.rdx), (0x5658, 4, 1));
            self.note("ioperm");
            // The real port of this machine is left alone.
            registers.orig_rax = u64::MAX;
            ptrace::setregs(self.pid, registers).unwrap();
        } else if registers.orig_rax == libc::SYS_seccomp.unsigned_abs() {
            self.note("seccomp");
        }
    }

    fn port(&mut self) {
        let mut registers = ptrace::getregs(self.pid).unwrap();
        assert_eq!(self.bytes(registers.rip), [IN_EAX_DX], "a fault of another kind");
        self.note("in");
        let low = |register: u64| register as u32;
        let asked = Registers {
            eax: low(registers.rax),
            ebx: low(registers.rbx),
            ecx: low(registers.rcx),
            edx: low(registers.rdx),
            esi: low(registers.rsi),
            edi: low(registers.rdi),
        };
        assert_eq!((asked.eax, asked.edx & 0xFFFF), (0x564D_5868, 0x5658));
        let answer = self.hypervisor.call(asked);
        registers.rax = answer.eax.into();
        registers.rbx = answer.ebx.into();
        registers.rcx = answer.ecx.into();
        registers.rdx = answer.edx.into();
        registers.rsi = answer.esi.into();
        registers.rdi = answer.edi.into();
        registers.rip += 1;
        ptrace::setregs(self.pid, registers).unwrap();
    }

    fn note(&mut self, what: &'static str) {
        if !self.story.contains(&what) {
            self.story.push(what);
        }
    }
}

#[test]
fn guest_information_of_a_machine() {
    if init::sys::cpu::hypervisor().as_deref() == Some("VMwareVMware") {
        eprintln!("LEFT OUT: VMware itself would answer");
        return;
    }
    let userdata = r#"{"hello": {"content": "vmware"}}"#;
    let values = [
        ("guestinfo.userdata", userdata.as_bytes().to_vec()),
        ("guestinfo.metadata", b"bG9jYWwtaG9zdG5hbWU6IHZtCg==".to_vec()),
        ("guestinfo.metadata.encoding", b"base64".to_vec()),
    ];
    let hypervisor = Hypervisor::new(values.into());
    let machine = Machine::new();
    let mut traced = Traced::start(&machine.command(&[]), hypervisor);
    traced.to_the_facts();
    traced.to_the_name();
    assert_eq!(traced.finish(), 0);
    assert_eq!(
        machine.files(),
        expected(&[
            ("provider", "VMWARE"),
            ("userdata", userdata),
            ("metadata", "local-hostname: vm\n"),
            ("hello", "vmware")
        ])
    );
    // The right to use the port is asked for before everything is given up.
    assert_eq!(traced.story, ["ioperm", "seccomp", "in"]);
}
