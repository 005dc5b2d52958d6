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
