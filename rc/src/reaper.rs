// SPDX-License-Identifier: Apache-2.0
//! The children of rc: started here, reaped here, in one place.
//!
//! rc is a subreaper, so it also inherits containers whose runtime has exited
//! and daemons that init.d scripts left behind. Whoever is interested in one
//! of them claims its pid; an exit that comes before its claim is kept for a
//! while, as a container may end before its pid file has been read.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::process::Command;
use std::rc::Rc;

use init::sys::process::{Child as Ended, ended_child, reap};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use crate::engine::Exit;
use crate::process::{Stat, pids};

/// How many exits that nobody has claimed are kept.
const UNCLAIMED: usize = 256;

#[derive(Default)]
struct Table {
    childless: bool,
    claims: HashMap<i32, oneshot::Sender<Exit>>,
    /// Exits that nobody was waiting for, the oldest first, each with its number.
    unclaimed: VecDeque<(u64, i32, Exit)>,
    /// How many exits have been seen.
    seen: u64,
    /// Children that are no reason to stay.
    companions: HashSet<i32>,
}

/// A moment, by the exits that had been seen until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// A handle on the table of children; cheap to clone.
#[derive(Clone, Default)]
pub struct Reaper {
    table: Rc<RefCell<Table>>,
    /// Told after every round of reaping.
    reaped: Rc<Notify>,
}

/// A child that was started here.
pub struct Child {
    /// Its process id.
    pub pid: i32,
    exit: oneshot::Receiver<Exit>,
}

impl Child {
    /// Waits until it ends.
    pub async fn wait(self) -> Exit {
        self.exit.await.unwrap_or(Exit::LOST)
    }
}

impl Reaper {
    /// A reaper that runs as a task of the current local set.
    ///
    /// # Errors
    /// Those of installing the SIGCHLD handler.
    pub fn start() -> io::Result<Self> {
        let reaper = Self::default();
        let mut children = signal(SignalKind::child())?;
        let table = reaper.clone();
        tokio::task::spawn_local(async move {
            loop {
                table.reap();
                if children.recv().await.is_none() {
                    break;
                }
            }
        });
        Ok(reaper)
    }

    /// Starts a program as a child of ours.
    ///
    /// # Errors
    /// Those of fork(2) and execve(2).
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let pid = command.spawn()?.id().cast_signed();
        self.table.borrow_mut().childless = false;
        // It has just begun: its end cannot have been seen.
        Ok(Child { pid, exit: self.claim(pid, self.mark()) })
    }

    /// As [`Self::spawn`], for a program that serves the others: nobody waits
    /// for its end when the others are gone.
    ///
    /// # Errors
    /// Those of fork(2) and execve(2).
    pub fn spawn_companion(&self, command: &mut Command) -> io::Result<Child> {
        let child = self.spawn(command)?;
        self.table.borrow_mut().companions.insert(child.pid);
        Ok(child)
    }

    /// Starts a program and waits until it ends.
    ///
    /// # Errors
    /// Those of fork(2) and execve(2).
    pub async fn run(&self, command: &mut Command) -> io::Result<Exit> {
        Ok(self.spawn(command)?.wait().await)
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        Mark(self.table.borrow().seen)
    }

    /// The end of a child, or of a process that this one has inherited, which
    /// began after `since`: an earlier end is that of another process, which
    /// had the same number.
    pub fn claim(&self, pid: i32, since: Mark) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table.borrow_mut();
        table.unclaimed.retain(|(number, known, _)| *known != pid || *number > since.0);
        if let Some(at) = table.unclaimed.iter().position(|(_, known, _)| *known == pid)
            && let Some((_, _, exit)) = table.unclaimed.remove(at)
        {
            // The receiver is in our hands: this cannot fail.
            let _ = sender.send(exit);
        } else {
            table.claims.insert(pid, sender);
        }
        receiver
    }

    /// Waits until there is no child left but companions.
    pub async fn childless(&self) {
        while !self.table.borrow().childless && !self.only_companions() {
            self.reaped.notified().await;
        }
    }

    fn only_companions(&self) -> bool {
        let companions = &self.table.borrow().companions;
        let own = std::process::id().cast_signed();
        !companions.is_empty()
            && pids()
                .all(|pid| companions.contains(&pid) || Stat::read(pid).is_none_or(|stat| stat.parent != own))
    }

    fn reap(&self) {
        let childless = loop {
            match ended_child() {
                Ended::Ended { pid, status } => {
                    reap(pid);
                    self.record(pid, Exit::of_status(status));
                }
                Ended::Alive => break false,
                Ended::None => break true,
            }
        };
        self.table.borrow_mut().childless = childless;
        self.reaped.notify_waiters();
    }

    fn record(&self, pid: i32, exit: Exit) {
        let mut table = self.table.borrow_mut();
        table.seen += 1;
        table.companions.remove(&pid);
        // A claim that was given up may be of an earlier process of that number.
        if let Some(sender) = table.claims.remove(&pid)
            && sender.send(exit).is_ok()
        {
            return;
        }
        if table.unclaimed.len() == UNCLAIMED {
            table.unclaimed.pop_front();
        }
        let number = table.seen;
        table.unclaimed.push_back((number, pid, exit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Exit = Exit { status: Some(7) };

    #[test]
    fn an_exit_that_comes_before_its_claim_is_kept() {
        let reaper = Reaper::default();
        let mark = reaper.mark();
        reaper.record(42, EXIT);
        assert_eq!(reaper.claim(42, mark).try_recv(), Ok(EXIT));
        assert!(reaper.claim(42, mark).try_recv().is_err(), "told twice");
    }

    /// Process numbers are used again.
    #[test]
    fn the_end_of_an_earlier_process_of_that_number_is_not_told() {
        let reaper = Reaper::default();
        reaper.record(42, EXIT);
        let mut end = reaper.claim(42, reaper.mark());
        assert!(end.try_recv().is_err());
        reaper.record(42, Exit { status: Some(0) });
        assert_eq!(end.try_recv(), Ok(Exit { status: Some(0) }));
        assert!(reaper.table.borrow().unclaimed.is_empty());
    }

    #[test]
    fn a_claim_that_was_given_up_takes_no_exit_away() {
        let reaper = Reaper::default();
        drop(reaper.claim(42, reaper.mark()));
        let mark = reaper.mark();
        reaper.record(42, EXIT);
        assert_eq!(reaper.claim(42, mark).try_recv(), Ok(EXIT));
    }
}
