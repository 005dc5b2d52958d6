// SPDX-License-Identifier: Apache-2.0
//! What has happened to services, for those who ask later and for those who
//! listen. The last of it is in two files below `/run/lkinit`, which do not
//! grow beyond a limit and outlive an rc that is killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use init::sys::clock::since_boot;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, Sender};

use crate::engine::daemon::{Daemon, Health};

/// When a file has so many bytes, it becomes the older one of the two.
const MOST: u64 = 64 << 10;

/// How many changes somebody who listens may be behind before it misses some.
const BEHIND: usize = 256;

/// One service, or one program of ours, has gone from one state to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When, in seconds since the kernel started.
    pub time: f64,
    /// Which.
    pub service: String,
    /// The state it was in; a service's by the words of
    /// [`crate::supervise::Status::state`].
    pub from: String,
    /// The state it is in now.
    pub to: String,
    /// What has happened, in words.
    pub why: String,
}

impl Change {
    /// A change at `now`, to the millisecond.
    pub fn new(now: Duration, who: &str, (from, to): (&str, &str), why: String) -> Self {
        let time = (now.as_secs_f64() * 1000.0).round() / 1000.0;
        Self { time, service: who.to_owned(), from: from.to_owned(), to: to.to_owned(), why }
    }
}

/// The changes that were written last, and those to come.
pub struct Journal {
    path: PathBuf,
    sender: Sender<Change>,
}

impl Journal {
    /// A journal in this file. Nothing is read or written yet.
    pub fn new(path: &Path) -> Rc<Self> {
        Rc::new(Self { path: path.to_owned(), sender: Sender::new(BEHIND) })
    }

    /// The changes to come. What has come before is in the file.
    pub fn listen(&self) -> Receiver<Change> {
        self.sender.subscribe()
    }

    /// Writes a change down, then tells it to those who listen.
    pub fn add(&self, change: Change) {
        // A full /run is no reason to tell nobody.
        let _ = self.write(&change);
        // It fails when nobody listens.
        let _ = self.sender.send(change);
    }

    /// Writes down what has happened now.
    pub fn note(&self, who: &str, states: (&str, &str), why: String) {
        self.add(Change::new(since_boot(), who, states, why));
    }

    fn write(&self, change: &Change) -> io::Result<()> {
        let mut file = self.open()?;
        if file.metadata()?.len() >= MOST {
            fs::rename(&self.path, older(&self.path))?;
            file = self.open()?;
        }
        let mut line = serde_json::to_string(change)?;
        line.push('\n');
        file.write_all(line.as_bytes())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.path)
    }

    /// Writes down what becomes of containerd, until rc ends.
    pub fn watch(self: &Rc<Self>, daemon: &Daemon) {
        let (journal, mut health) = (self.clone(), daemon.subscribe());
        tokio::task::spawn_local(async move {
            let mut before = "new";
            loop {
                let (now, why) = match &*health.borrow_and_update() {
                    Health::Starting => ("starting", String::new()),
                    Health::Ready(version) => ("running", version.clone()),
                    Health::Down { reason, .. } => ("down", reason.clone()),
                };
                if now != before {
                    journal.note("containerd", (before, now), why);
                    before = now;
                }
                if health.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1")
}

/// What has been written down, the oldest first. A line that is not whole is
/// left out.
pub fn load(path: &Path) -> Vec<Change> {
    let text: String = [&older(path), path].iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_hold_the_last_changes_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        assert!(load(&path).is_empty());
        let journal = Journal::new(&path);
        let mut listener = journal.listen();
        for n in 0..3000 {
            journal.note("web", ("running", "stopping"), n.to_string());
        }
        let found = load(&path);
        assert_eq!(found.last().unwrap().why, "2999");
        assert!(found.len() > 500 && found.windows(2).all(|two| two[0].time <= two[1].time));
        let sizes = [&path, &older(&path)].map(|path| fs::metadata(path).unwrap().len());
        assert!(sizes.iter().all(|size| *size < MOST + 1000), "{sizes:?}");
        assert!(listener.try_recv().is_err(), "it was too slow");

        // A line that a crash has cut off, and an rc that goes on.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"time\":1.0,\"ser\n").unwrap();
        Journal::new(&path).note("rc.init", ("ended", "running"), "started again".to_owned());
        assert_eq!(load(&path).last().unwrap().service, "rc.init");
    }

    #[test]
    fn a_change_for_programs() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(&dir.path().join("events"));
        let mut listener = journal.listen();
        let change = Change::new(
            Duration::from_micros(2_000_400),
            "x",
            ("starting", "running"),
            "process 7".to_owned(),
        );
        journal.add(change.clone());
        assert_eq!(listener.try_recv(), Ok(change));
        let text = fs::read_to_string(dir.path().join("events")).unwrap();
        assert_eq!(
            text,
            "{\"time\":2.0,\"service\":\"x\",\"from\":\"starting\",\"to\":\"running\",\"why\":\"process 7\"}\n"
        );
    }
}
