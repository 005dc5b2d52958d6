// SPDX-License-Identifier: Apache-2.0
//! What has happened to services, as data for programs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// How many changes are kept for those who ask later.
const KEPT: usize = 256;

/// How many changes a slow reader may be behind before it misses some.
const BEHIND: usize = 128;

/// One service has gone from one state to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When, in seconds since the kernel started.
    pub time: f64,
    /// Which service.
    pub service: String,
    /// The state it was in, by the words of [`super::Status::state`].
    pub from: String,
    /// The state it is in now.
    pub to: String,
    /// What has happened, in words.
    pub why: String,
}

/// The changes of all services: the last ones, and those to come.
pub(super) struct Changes {
    kept: RefCell<VecDeque<Change>>,
    sender: broadcast::Sender<Change>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { kept: RefCell::default(), sender: broadcast::Sender::new(BEHIND) }
    }
}

impl Changes {
    /// The changes that are still known, the oldest first, and those to come.
    /// A receiver that is too slow is told how many it has missed.
    pub(super) fn subscribe(&self) -> (Vec<Change>, broadcast::Receiver<Change>) {
        (self.kept.borrow().iter().cloned().collect(), self.sender.subscribe())
    }

    pub(super) fn add(&self, now: Duration, service: &str, (from, to): (&str, &str), why: String) {
        let change = Change {
            time: (now.as_secs_f64() * 1000.0).round() / 1000.0,
            service: service.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            why,
        };
        let mut kept = self.kept.borrow_mut();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(change.clone());
        // It fails when nobody listens.
        let _ = self.sender.send(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_changes_are_kept_and_new_ones_are_told() {
        let changes = Changes::default();
        for n in 0..KEPT + 10 {
            changes.add(Duration::from_millis(1234), "x", ("new", "starting"), n.to_string());
        }
        let (kept, mut receiver) = changes.subscribe();
        assert_eq!((kept.len(), kept[0].why.as_str()), (KEPT, "10"));
        changes.add(Duration::from_secs(2), "x", ("starting", "running"), "process 7".to_owned());
        let change = receiver.try_recv().unwrap();
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"time":2.0,"service":"x","from":"starting","to":"running","why":"process 7"}"#);
        assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change);
    }
}
