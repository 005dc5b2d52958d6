// SPDX-License-Identifier: Apache-2.0
//! For tests: a heap that can be forbidden.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::exit_now;

/// The exit status of a process that used the heap in spite of [`forbid`].
pub const USED: i32 = 99;

/// The process that may not; 0 for none.
static FORBIDDEN: AtomicU32 = AtomicU32::new(0);

/// From now on, asking for memory ends this process (but not the children it
/// forks) with [`USED`].
pub fn forbid() {
    FORBIDDEN.store(std::process::id(), Ordering::Relaxed);
}

struct Guarded;

// SAFETY: every call goes to the system's allocator as it is, or nowhere.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let forbidden = FORBIDDEN.load(Ordering::Relaxed);
        if forbidden != 0 && forbidden == std::process::id() {
            exit_now(USED);
        }
        // SAFETY: the caller's promises are those that System asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those that System asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Guarded = Guarded;
