// SPDX-License-Identifier: Apache-2.0
//! VMware's I/O port: an IN instruction that the hypervisor takes for a call.
//!
//! Source: "VMware backdoor" in open-vm-tools (`lib/include/backdoor_def.h`).

/// The registers of a call and of its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    /// What the answer begins with.
    pub eax: u32,
    /// The call's argument.
    pub ebx: u32,
    /// The command, and in the upper half what it is to do.
    pub ecx: u32,
    /// The port, and in the upper half the channel.
    pub edx: u32,
    /// First half of a channel's cookie.
    pub esi: u32,
    /// Second half.
    pub edi: u32,
}

/// The port. It exists in VMware's virtual machines only.
#[derive(Debug)]
pub struct Backdoor(());

/// What every call has in EAX, and in the lower half of EDX.
const MAGIC: u32 = 0x564D_5868;
const PORT: u16 = 0x5658;

impl Backdoor {
    /// The port, if CPUID says that the hypervisor is VMware: anywhere else
    /// the instruction would end the process.
    pub fn open() -> Option<Self> {
        is_vmware().then_some(Self(()))
    }

    /// Asks the kernel to let this thread use the port (ioperm(2), which takes
    /// CAP_SYS_RAWIO). VMware lets everybody call unless the machine is set
    /// up so that only the privileged may; so a refusal is not one yet.
    pub fn allow() {
        #[cfg(target_arch = "x86_64")]
        if is_vmware() {
            // SAFETY: changes which I/O ports this thread may use and no
            // memory. The four are the width of the instruction below.
            unsafe {
                libc::ioperm(PORT.into(), 4, 1);
            }
        }
    }

    /// One call. EAX and the lower half of EDX are filled in here.
    #[cfg(target_arch = "x86_64")]
    pub fn call(&mut self, registers: Registers) -> Registers {
        let mut answer = registers;
        answer.eax = MAGIC;
        answer.edx = registers.edx & 0xFFFF_0000 | u32::from(PORT);
        let mut rbx = u64::from(registers.ebx);
        let (mut rsi, mut rdi) = (u64::from(registers.esi), u64::from(registers.edi));
        // SAFETY: `open` made sure of the hypervisor, which answers in these
        // registers and touches no memory. RBX belongs to the compiler and is
        // put back.
        unsafe {
            std::arch::asm!(
                "xchg rbx, {rbx}",
                "in eax, dx",
                "xchg rbx, {rbx}",
                rbx = inout(reg) rbx,
                inout("eax") answer.eax,
                inout("ecx") answer.ecx,
                inout("edx") answer.edx,
                inout("rsi") rsi,
                inout("rdi") rdi,
                options(nostack, preserves_flags),
            );
        }
        let low = |register: u64| u32::try_from(register & 0xFFFF_FFFF).unwrap_or_default();
        (answer.ebx, answer.esi, answer.edi) = (low(rbx), low(rsi), low(rdi));
        answer
    }

    /// Other processors have no such port, and `open` gives nobody one.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn call(&mut self, registers: Registers) -> Registers {
        registers
    }
}

fn is_vmware() -> bool {
    super::cpu::hypervisor().as_deref() == Some("VMwareVMware")
}

#[cfg(all(test, target_arch = "x86_64"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// What the hypervisor below saw of a call.
    static SEEN: Mutex<Option<Registers>> = Mutex::new(None);

    const ANSWER: Registers =
        Registers { eax: 0xA1A2_A3A4, ebx: 0xB1B2_B3B4, ecx: 0xC1, edx: 0xD1D2_D3D4, esi: 0xE1, edi: 0xF1 };

    /// Anywhere but on VMware the instruction faults. The handler of the fault
    /// does what the hypervisor would do: it sees the call's registers, sets
    /// the answer's, and goes on behind the instruction.
    extern "C" fn hypervisor(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        const IN_EAX_DX: u8 = 0xED;
        // SAFETY: with SA_SIGINFO the third argument is the context of the
        // thread, which this handler alone has.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let mut at = |index: libc::c_int| &raw mut registers[index as usize];
        let [rip, rax, rbx, rcx, rdx, rsi, rdi] = [
            libc::REG_RIP,
            libc::REG_RAX,
            libc::REG_RBX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RSI,
            libc::REG_RDI,
        ]
        .map(&mut at);
        // SAFETY: the pointers are into the context, and the instruction
        // pointer is at an instruction that was about to be executed.
        unsafe {
            if *(*rip as *const u8) != IN_EAX_DX {
                // Another fault: the second time it ends the program.
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                return;
            }
            let low = |register: *mut i64| *register as u32;
            *SEEN.lock().unwrap() = Some(Registers {
                eax: low(rax),
                ebx: low(rbx),
                ecx: low(rcx),
                edx: low(rdx),
                esi: low(rsi),
                edi: low(rdi),
            });
            for (register, value) in [
                (rax, ANSWER.eax),
                (rbx, ANSWER.ebx),
                (rcx, ANSWER.ecx),
                (rdx, ANSWER.edx),
                (rsi, ANSWER.esi),
                (rdi, ANSWER.edi),
            ] {
                *register = value.into();
            }
            *rip += 1;
        }
    }

    #[test]
    fn the_instruction_has_its_registers() {
        if is_vmware() {
            eprintln!("LEFT OUT: on VMware the instruction does not fault");
            return;
        }
        // SAFETY: the handler is restored before anything else can fault.
        let old = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = hypervisor as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut old = std::mem::zeroed();
            assert_eq!(libc::sigaction(libc::SIGSEGV, &action, &mut old), 0);
            old
        };
        let asked = Registers { eax: 7, ebx: 0x1112_1314, ecx: 0x1E, edx: 0x2122_FFFF, esi: 0x31, edi: 0x41 };
        let answer = Backdoor(()).call(asked);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::sigaction(libc::SIGSEGV, &old, std::ptr::null_mut()) }, 0);
        let seen = SEEN.lock().unwrap().take();
        assert_eq!(seen, Some(Registers { eax: MAGIC, edx: 0x2122_5658, ..asked }));
        assert_eq!(answer, ANSWER);
    }
}
