// SPDX-License-Identifier: Apache-2.0
//! Lines of a service's output, as they come into its log files or to an
//! external logger.

use regex_lite::Regex;
use tokio::time::timeout;

use super::PAUSE;
use crate::launch::Output;
use crate::logs::follow::{Follower, From};

/// The most of a line that is looked at.
const LINE: usize = 8 * 1024;

/// The end of a service's log.
pub(super) struct Tail {
    regex: Regex,
    follower: Follower,
}

impl Tail {
    /// Looks at what a process prints, from its beginning on.
    ///
    /// # Errors
    /// In words: the expression, or the log, cannot be used.
    pub(super) fn new(regex: &str, output: &Output) -> Result<Self, String> {
        let regex = Regex::new(regex).map_err(|error| error.to_string())?;
        let follower = Follower::new(&output.logs, From::Marks(&output.marks));
        let follower = follower.map_err(|error| format!("cannot watch the logs: {error}"))?;
        Ok(Self { regex, follower })
    }

    /// Waits until there is a line that matches.
    pub(super) async fn matching_line(&mut self) -> Result<(), String> {
        let failed = |error| format!("cannot watch the logs: {error}");
        while !self.has_matching_line().await? {
            if self.follower.is_cut_off() {
                // Its socket has a name a moment before it can be connected to.
                let _ = timeout(PAUSE.1, self.follower.changed()).await;
            } else {
                self.follower.changed().await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Whether a line that has come since the last look matches.
    pub(super) async fn has_matching_line(&mut self) -> Result<bool, String> {
        let (regex, mut found) = (&self.regex, false);
        let mut look = |text: &str| {
            found |= regex.is_match(beginning(text));
        };
        while self
            .follower
            .read(&mut |line| look(line.text))
            .map_err(|error| format!("cannot read the logs: {error}"))?
        {
            tokio::task::yield_now().await;
        }
        // A prompt may never get its line's end.
        self.follower.so_far(&mut |line| look(line.text));
        Ok(found)
    }
}

/// The part of a line that is looked at.
fn beginning(text: &str) -> &str {
    if text.len() <= LINE {
        return text;
    }
    // No character is longer than four bytes.
    (LINE - 3..=LINE).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::logs::Logs;

    fn append(path: &Path, text: &str) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test)
    }

    #[test]
    fn a_line_is_found_across_writes_and_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (dir.path().join("x.out.log"), dir.path().join("x.log"));
        let logs = Logs::of_daemon("x", &out, &err);
        append(&out, "ready\n");
        let find = |write: &dyn Fn()| {
            run(async {
                // What was printed before it was started does not count.
                let mut tail = Tail::new("^ready( now)?$", &Output::begin(&logs)).unwrap();
                let early = timeout(Duration::from_millis(20), tail.matching_line()).await;
                assert!(early.is_err(), "{early:?}");
                let later = async {
                    sleep(Duration::from_millis(5)).await;
                    write();
                };
                let (found, ()) = tokio::join!(timeout(Duration::from_secs(10), tail.matching_line()), later);
                found.unwrap().unwrap();
            });
        };
        // In pieces.
        find(&|| {
            append(&err, "not yet\nrea");
            append(&err, "dy now\n");
        });
        // Without its end, as a prompt is.
        find(&|| append(&err, "ready now"));
        fs::remove_file(&err).unwrap();
        // In a file that takes the name of the one that is watched.
        find(&|| {
            append(&out, "almost\n");
            fs::rename(&out, dir.path().join("x.out.log.1")).unwrap();
            append(&out, "ready\n");
        });
    }

    #[test]
    fn a_check_sees_what_has_come_since_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (dir.path().join("x.out.log"), dir.path().join("x.log"));
        let output = Output::begin(&Logs::of_daemon("x", &out, &err));
        run(async {
            let mut tail = Tail::new("beat", &output).unwrap();
            assert_eq!(tail.has_matching_line().await, Ok(false));
            append(&err, &format!("{}\nbeat\n", "x".repeat(3 * LINE)));
            assert_eq!(tail.has_matching_line().await, Ok(true));
            assert_eq!(tail.has_matching_line().await, Ok(false));
            append(&err, "beat");
            assert_eq!(tail.has_matching_line().await, Ok(true));
            assert_eq!(tail.has_matching_line().await, Ok(false), "the same half of a line");
            append(&err, &format!("\n{}beat\n", "x".repeat(LINE)));
            // The first line has ended meanwhile; of the second one this is too far behind.
            assert_eq!(tail.has_matching_line().await, Ok(true));
            assert_eq!(tail.has_matching_line().await, Ok(false));
            fs::write(&err, "beat\n").unwrap();
            assert_eq!(tail.has_matching_line().await, Ok(true));
        });
    }
}
