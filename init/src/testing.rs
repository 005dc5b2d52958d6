// SPDX-License-Identifier: Apache-2.0
//! For tests of programs that run by themselves.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what takes an instant on a machine that has
/// nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done` says so.
///
/// # Panics
/// When it has not after [`PATIENCE`].
#[allow(clippy::panic, reason = "the test has failed")]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
}
