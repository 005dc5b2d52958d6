// SPDX-License-Identifier: Apache-2.0
//! What a program keeps in memory while it waits.

use std::ptr;

/// How many segments a program has that are not written to: the linkers make
/// two or three.
const SEGMENTS: usize = 4;

/// The parts of this program's file that are mapped and never written to:
/// its code and constants.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Address and length, page by page; a length of 0 for none.
    segments: [(usize, usize); SEGMENTS],
}

impl Program {
    /// Finds them in the program headers (elf(5)) that the kernel has left the
    /// address of (`AT_PHDR`, getauxval(3)). None of a program that was loaded
    /// somewhere else than it says: one that is not static.
    pub fn find() -> Self {
        // SAFETY: getauxval(3) reads what the kernel put on the stack at exec.
        let (address, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
        let headers: &[libc::Elf64_Phdr] = match address {
            0 => &[],
            // SAFETY: the kernel says that so many headers are there, in a
            // segment of this program that is never unmapped.
            _ => unsafe {
                std::slice::from_raw_parts(ptr::with_exposed_provenance(address as usize), count as usize)
            },
        };
        let moved = headers
            .iter()
            .any(|header| header.p_type == libc::PT_PHDR && header.p_vaddr as usize != address as usize);
        let read_only = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
        let mut segments = [(0, 0); SEGMENTS];
        if !moved {
            for (slot, header) in segments.iter_mut().zip(read_only) {
                let start = header.p_vaddr as usize & !0xfff;
                *slot = (start, (header.p_vaddr + header.p_memsz) as usize - start);
            }
        }
        Self { segments }
    }

    /// Takes these pages out of this program's page table. They stay in the
    /// page cache, and come back as they are used.
    #[inline(always)]
    pub fn release(&self) {
        for (start, length) in self.segments {
            // SAFETY: these pages hold what the file holds and nothing else,
            // so the kernel can fetch them again whenever one is touched.
            // Nothing happens for a length of 0.
            unsafe { libc::syscall(libc::SYS_madvise, start, length, libc::MADV_DONTNEED) };
        }
    }
}

/// Makes all threads share one heap. Otherwise the C library gives each thread
/// one of its own (mallopt(3)), and what a thread has freed stays there when
/// it has ended. To be called before the first thread is started.
pub fn share_heap() {
    // SAFETY: mallopt(3) takes two numbers; there is one thread, by contract.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives what the heap does not use back to the kernel (malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: malloc_trim(3) takes a number, locks the heap itself, and moves
    // nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_is_released_runs_again() {
        let program = Program::find();
        let here = code_that_is_released_runs_again as *const () as usize;
        let (start, length) = program.segments.into_iter().find(|(_, length)| *length > 0).unwrap();
        assert_eq!(start % 4096, 0);
        assert!(length > 4096);
        assert!(program.segments.iter().any(|(start, length)| (*start..start + length).contains(&here)));
        program.release();
        program.release();
    }
}
