// SPDX-License-Identifier: Apache-2.0
//! What takes its time says so: a boot that hangs is not silent.

use std::pin::pin;
use std::time::Duration;

use init::console::Console;
use init::warning;
use tokio::time::{Instant, timeout};

/// How often a line says that something is still going on.
const EVERY: Duration = Duration::from_secs(10);

/// Waits for `work`. Every ten seconds a line says that `what` still goes on,
/// for how long, and, where a process can be named, how it is ended.
pub async fn watched<T>(console: &Console, what: &str, pid: Option<u32>, work: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    let mut work = pin!(work);
    loop {
        match timeout(EVERY, &mut work).await {
            Ok(result) => return result,
            Err(_) => warning!(console, "{}", line(what, begin.elapsed(), pid)),
        }
    }
}

/// SIGKILL, for the first process of a container never sees a SIGTERM that it
/// has no handler for (pid_namespaces(7)).
fn line(what: &str, time: Duration, pid: Option<u32>) -> String {
    let seconds = time.as_secs();
    match pid {
        Some(pid) => format!("{what} after {seconds}s: process {pid}; `kill -9 {pid}` ends it"),
        None => format!("{what} after {seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_every_ten_seconds_and_none_for_what_is_quick() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let console = Console::to_file(file.reopen().unwrap());
        watched(&console, "quick: still running", Some(7), tokio::time::sleep(Duration::from_secs(9))).await;
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "");
        let work = async {
            tokio::time::sleep(Duration::from_secs(35)).await;
            5
        };
        assert_eq!(watched(&console, "onboot 001-x: still running", Some(312), work).await, 5);
        let text = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once("] ")?.1)).collect();
        let end = "process 312; `kill -9 312` ends it";
        let wanted = [10, 20, 30].map(|time| format!("onboot 001-x: still running after {time}s: {end}"));
        assert_eq!(lines, wanted);
    }
}
