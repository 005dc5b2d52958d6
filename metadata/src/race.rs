// SPDX-License-Identifier: Apache-2.0
//! Asking several providers at once, where nothing tells which is the one:
//! the first that proves to be it wins.
//!
//! An answer that imitators give too waits a moment for a better one. Where
//! the providers were named by the user, the order of the names counts: a
//! later one wins only when the earlier ones have failed or time is up.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::http::Deadline;
use crate::http::deadline::Budget;
use crate::providers::session::Certainty;

/// How long a likely answer waits for a certain one. They come from the same
/// address, so at about the same time.
const GRACE: Duration = Duration::from_millis(300);

/// One race.
#[derive(Debug)]
pub struct Race {
    ordered: bool,
    deadline: Deadline,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    runners: Vec<Runner>,
    winner: Option<usize>,
}

#[derive(Debug)]
struct Runner {
    running: bool,
    budget: Option<Arc<Budget>>,
}

/// A runner's place in a race.
#[derive(Debug)]
pub struct Ticket {
    race: Arc<Race>,
    index: usize,
}

impl Race {
    /// A race of so many, with a ticket for each. `ordered` where the earlier
    /// is to be preferred.
    pub fn new(runners: usize, ordered: bool, deadline: Deadline) -> (Arc<Self>, Vec<Ticket>) {
        let runners: Vec<Runner> = (0..runners).map(|_| Runner { running: true, budget: None }).collect();
        let indices = 0..runners.len();
        let state = Mutex::new(State { runners, winner: None });
        let race = Arc::new(Self { ordered, deadline, state, changed: Condvar::new() });
        let tickets = indices.map(|index| Ticket { race: Arc::clone(&race), index }).collect();
        (race, tickets)
    }

    /// Whether somebody has won.
    pub fn winner(&self) -> Option<usize> {
        self.lock().winner
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The runner's time, which ends when another wins.
    pub(crate) fn budget(&self, budget: Budget) -> Arc<Budget> {
        let budget = Arc::new(budget);
        if let Some(runner) = self.race.lock().runners.get_mut(self.index) {
            runner.budget = Some(Arc::clone(&budget));
        }
        budget
    }

    /// Wants to win. Returns when that is decided.
    pub(crate) fn claim(&self, certainty: Certainty) -> bool {
        let race = &self.race;
        let until = match certainty {
            Certainty::Likely if !race.ordered => race.deadline.at_most(GRACE),
            _ => race.deadline,
        };
        let mut state = race.lock();
        loop {
            if let Some(winner) = state.winner {
                return winner == self.index;
            }
            let preferred = |(index, runner): (usize, &Runner)| {
                let counts = if race.ordered { index < self.index } else { certainty == Certainty::Likely };
                index != self.index && counts && runner.running
            };
            if until.remaining().is_zero() || !state.runners.iter().enumerate().any(preferred) {
                state.winner = Some(self.index);
                for (_, loser) in state.runners.iter().enumerate().filter(|(index, _)| *index != self.index) {
                    loser.budget.iter().for_each(|budget| budget.cancel());
                }
                race.changed.notify_all();
                return true;
            }
            let waited = race.changed.wait_timeout(state, until.remaining());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A runner whose ticket is gone runs no longer.
impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(runner) = self.race.lock().runners.get_mut(self.index) {
            runner.running = false;
        }
        self.race.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn race(runners: usize, ordered: bool, millis: u64) -> (Arc<Race>, Vec<Ticket>) {
        Race::new(runners, ordered, Deadline::after(Duration::from_millis(millis)))
    }

    #[test]
    fn the_first_certain_answer_wins_and_ends_the_others() {
        let (race, tickets) = race(3, false, 5000);
        let budgets: Vec<_> = tickets
            .iter()
            .map(|ticket| ticket.budget(Budget::until(Deadline::after(Duration::from_secs(5)))))
            .collect();
        assert!(tickets[1].claim(Certainty::Certain));
        assert!(!tickets[0].claim(Certainty::Certain));
        assert!(!tickets[2].claim(Certainty::Likely));
        assert_eq!(race.winner(), Some(1));
        let over: Vec<bool> = budgets.iter().map(|budget| budget.deadline().is_none()).collect();
        assert_eq!(over, [true, false, true]);
    }

    #[test]
    fn a_likely_answer_waits_for_a_certain_one() {
        let (_, mut tickets) = race(2, false, 5000);
        let (first, second) = (tickets.remove(0), tickets.remove(0));
        let start = Instant::now();
        let likely = std::thread::spawn(move || first.claim(Certainty::Likely));
        std::thread::sleep(Duration::from_millis(20));
        assert!(second.claim(Certainty::Certain));
        assert!(!likely.join().unwrap());
        assert!(start.elapsed() < GRACE);
    }

    #[test]
    fn a_likely_answer_wins_when_nobody_else_is_left_or_comes() {
        let (_, mut tickets) = race(2, false, 5000);
        drop(tickets.pop());
        let start = Instant::now();
        assert!(tickets[0].claim(Certainty::Likely));
        assert!(start.elapsed() < GRACE);

        let (_, tickets) = race(2, false, 5000);
        let start = Instant::now();
        assert!(tickets[1].claim(Certainty::Likely));
        assert!(start.elapsed() >= GRACE);
    }

    #[test]
    fn names_have_an_order() {
        let (_, mut tickets) = race(2, true, 5000);
        let (first, second) = (tickets.remove(0), tickets.remove(0));
        let later = std::thread::spawn(move || second.claim(Certainty::Certain));
        std::thread::sleep(Duration::from_millis(20));
        assert!(first.claim(Certainty::Likely));
        assert!(!later.join().unwrap());

        let (_, tickets) = race(2, true, 100);
        let start = Instant::now();
        assert!(tickets[1].claim(Certainty::Certain), "the deadline ends the waiting for the first");
        assert!(start.elapsed() >= Duration::from_millis(90));
    }
}
