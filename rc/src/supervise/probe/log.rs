// SPDX-License-Identifier: Apache-2.0
//! Lines of a service's output, as they come into its log files.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

use super::LogStart;
use crate::watch::Watch;

/// How much is read at a time, before others get their turn.
const PIECE: u64 = 64 * 1024;

/// The most of a line that is looked at.
const LINE: usize = 8 * 1024;

/// The end of a service's log files.
pub(super) struct Tail {
    regex: Regex,
    files: Vec<Follower>,
}

impl Tail {
    pub(super) fn new(regex: Regex, starts: &[LogStart]) -> Self {
        let files = starts.iter().map(|(path, at)| Follower::new(path, *at)).collect();
        Self { regex, files }
    }

    /// Waits until there is a line that matches.
    pub(super) async fn matching_line(&mut self) -> Result<(), String> {
        loop {
            // The watch comes before the look: what comes in between is told.
            let watch = Watch::files(self.files.iter().map(|file| file.path.as_path()))
                .map_err(|error| format!("cannot watch the logs: {error}"))?;
            if self.has_matching_line().await? {
                return Ok(());
            }
            watch.changed().await;
        }
    }

    /// Whether a line that has come since the last look matches.
    pub(super) async fn has_matching_line(&mut self) -> Result<bool, String> {
        let mut found = false;
        for file in &mut self.files {
            loop {
                match file.read(&self.regex) {
                    Ok(None) => break,
                    Ok(Some(matched)) => found |= matched,
                    Err(error) => return Err(format!("{}: {error}", file.path.display())),
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(found)
    }
}

/// A file that grows, and may be replaced by a new one of its name.
struct Follower {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    /// A line whose end has not come yet.
    line: Vec<u8>,
}

impl Follower {
    fn new(path: &Path, at: u64) -> Self {
        Self { path: path.to_owned(), file: File::open(path).ok(), at, line: Vec::new() }
    }

    /// Reads the next piece, of the file that was open to its end first.
    /// `None`: there is nothing more now.
    fn read(&mut self, regex: &Regex) -> io::Result<Option<bool>> {
        if let Some(file) = &mut self.file {
            let data = file.metadata()?;
            if !data.is_file() {
                return Ok(None);
            }
            if data.len() < self.at {
                // It was emptied.
                self.at = 0;
            }
            let mut piece = Vec::new();
            file.seek(SeekFrom::Start(self.at))?;
            self.at += file.take(PIECE).read_to_end(&mut piece)? as u64;
            if !piece.is_empty() {
                return Ok(Some(self.matches(&piece, regex)));
            }
            let new = std::fs::metadata(&self.path);
            if !new.is_ok_and(|new| (new.dev(), new.ino()) != (data.dev(), data.ino())) {
                return Ok(None);
            }
        }
        match File::open(&self.path) {
            Ok(file) => {
                self.file = Some(file);
                self.at = 0;
                Ok(Some(false))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn matches(&mut self, piece: &[u8], regex: &Regex) -> bool {
        let mut found = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend(part.iter().take(room));
            // A prompt may never get its line's end.
            let text = String::from_utf8_lossy(&self.line);
            found = found || regex.is_match(text.trim_end_matches(['\n', '\r']));
            if part.ends_with(b"\n") {
                self.line.clear();
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    fn append(path: &Path, text: &str) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_line_is_found_across_writes_and_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (dir.path().join("x.out.log"), dir.path().join("x.log"));
        append(&out, "ready\n");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let find = |write: &dyn Fn()| {
            let regex = Regex::new("^ready( now)?$").unwrap();
            let mut tail = Tail::new(regex, &[(out.clone(), 6), (err.clone(), 0)]);
            runtime.block_on(async {
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
        let path = dir.path().join("x.log");
        let mut tail = Tail::new(Regex::new("beat").unwrap(), &[(path.clone(), 0)]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(tail.has_matching_line().await, Ok(false));
            append(&path, &format!("{}\nbeat\n", "x".repeat(3 * LINE)));
            assert_eq!(tail.has_matching_line().await, Ok(true));
            assert_eq!(tail.has_matching_line().await, Ok(false));
            fs::write(&path, "beat\n").unwrap();
            assert_eq!(tail.has_matching_line().await, Ok(true));
        });
    }
}
