// SPDX-License-Identifier: Apache-2.0
//! What the processor says about the machine.

/// The signature of the hypervisor this runs under, from CPUID leaf
/// 0x40000000 (EBX, ECX, EDX): `KVMKVMKVM`, `VMwareVMware`, `Microsoft Hv`.
/// `None` without a hypervisor, or where the processor has no CPUID.
///
/// Bit 31 of ECX of leaf 1 is kept clear by real processors and set by
/// hypervisors (Intel SDM volume 2, CPUID); the leaf is asked for only then.
#[cfg(target_arch = "x86_64")]
pub fn hypervisor() -> Option<String> {
    use std::arch::x86_64::__cpuid;

    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    const HYPERVISOR_LEAF: u32 = 0x4000_0000;

    // SAFETY: every x86_64 processor has the instruction, and it touches
    // nothing but the registers it answers in.
    #[allow(unused_unsafe)]
    let (features, leaf) = unsafe { (__cpuid(1), __cpuid(HYPERVISOR_LEAF)) };
    if features.ecx & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .take_while(|b| *b != 0)
        .collect();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Other processors have no such instruction.
#[cfg(not(target_arch = "x86_64"))]
pub fn hypervisor() -> Option<String> {
    None
}
