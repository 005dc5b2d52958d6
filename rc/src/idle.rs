// SPDX-License-Identifier: Apache-2.0
//! What rc keeps in memory while nothing happens.
//!
//! After a second in which nothing woke it, rc gives back what the heap does
//! not use, and takes the pages of its own program out of its page table. On a
//! root in memory the kernel counts those as private and dirty, though they
//! are the root's; they come back as they are used. See docs/crash-only.md.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use init::sys::memory::{self, Program};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long next to nothing may happen until rc counts as idle.
const QUIET: Duration = Duration::from_secs(1);

/// So few wakes in that time are none: the timer alone takes up to three.
const FEW: u64 = 4;

/// How often the event loop has come back from waiting.
static WAKES: AtomicU64 = AtomicU64::new(0);
/// Whether memory was given back and nothing has happened since.
static RESTING: AtomicBool = AtomicBool::new(false);
/// Told when that is over.
static WOKEN: Notify = Notify::const_new();

/// An event loop that [`rest`] can watch.
pub fn observed(builder: &mut Builder) -> &mut Builder {
    builder.on_thread_unpark(|| {
        WAKES.fetch_add(1, Ordering::Relaxed);
        if RESTING.swap(false, Ordering::Relaxed) {
            WOKEN.notify_one();
        }
    })
}

/// Gives memory back whenever nothing happens. One timer a burst of events,
/// and none while rc is idle.
pub async fn rest() {
    let program = Program::find();
    loop {
        loop {
            let before = WAKES.load(Ordering::Relaxed);
            sleep(QUIET).await;
            if WAKES.load(Ordering::Relaxed).wrapping_sub(before) <= FEW {
                break;
            }
        }
        memory::trim_heap();
        program.release();
        RESTING.store(true, Ordering::Relaxed);
        WOKEN.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_begins_when_nothing_happens_and_ends_with_the_next_event() {
        let runtime = observed(Builder::new_current_thread().enable_all()).build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            tokio::task::spawn_local(rest());
            for _ in 0..10 {
                sleep(Duration::from_millis(150)).await;
                assert!(!RESTING.load(Ordering::Relaxed), "resting while it is woken every 150 ms");
            }
            // Waits for what a thread does at its end, without a timer.
            let (sender, receiver) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                std::thread::sleep(QUIET * 4);
                sender.send(RESTING.load(Ordering::Relaxed)).unwrap();
            });
            assert!(receiver.await.unwrap(), "not resting after {QUIET:?} without an event");
            assert!(!RESTING.load(Ordering::Relaxed), "resting after an event");
        });
    }
}
