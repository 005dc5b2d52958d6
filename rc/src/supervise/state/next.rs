// SPDX-License-Identifier: Apache-2.0
//! What comes next in a service's life: the ways into its phases.

use std::time::Duration;

use super::{Cause, Effect, Machine, Phase, Why};
use crate::supervise::policy::{Policy, Restart};

impl Machine {
    /// What follows when nothing is left of the last run, or of a start that
    /// failed: then it never `ran`.
    pub(super) fn decide(&mut self, policy: &Policy, ran: bool, now: Duration) -> Vec<Effect> {
        if !self.wanted {
            self.phase = Phase::Down(Why::Asked);
            return Vec::new();
        }
        if std::mem::take(&mut self.again) {
            self.forgive();
            return self.begin(policy);
        }
        let again = match policy.restart {
            Restart::No => false,
            Restart::OnFailure => self.failed,
            Restart::Always => true,
        };
        if !again {
            return self.rest(policy, if self.failed { Why::Failed } else { Why::Ended });
        }
        if let Some((most, window)) = policy.most_restarts() {
            self.recent.retain(|at| now.saturating_sub(*at) < window);
            if self.recent.len() >= most {
                return self.rest(policy, Why::GaveUp);
            }
            self.recent.push(now);
        }
        self.restarts = self.restarts.saturating_add(1);
        // The pause counts from the end of the last run, not of its removal.
        self.pause = self.pause.max(self.next_pause(policy, ran));
        let until = self.ended_at.saturating_add(self.pause);
        if until <= now {
            return self.begin(policy);
        }
        self.phase = Phase::BackingOff(until);
        vec![Effect::WakeAt(until)]
    }

    /// The pause by the count of failures, and up to a quarter more of it.
    fn next_pause(&mut self, policy: &Policy, ran: bool) -> Duration {
        let base = policy.delay(self.failures, ran);
        // Marsaglia's xorshift with 32 bits (Journal of Statistical Software 8/14).
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let jitter = base.mul_f64(f64::from(self.seed) / f64::from(u32::MAX) / 4.0);
        base.saturating_add(jitter).min(policy.delay_ceiling)
    }

    /// It is down for good, and perhaps the machine with it.
    pub(super) fn rest(&mut self, policy: &Policy, why: Why) -> Vec<Effect> {
        self.phase = Phase::Down(why);
        match (why, policy.critical) {
            (Why::Failed | Why::GaveUp, Some(how)) => vec![Effect::TakeDown(how)],
            (Why::New | Why::Asked | Why::Ended | Why::Failed | Why::GaveUp, _) => Vec::new(),
        }
    }

    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        self.pause = Duration::ZERO;
    }

    /// The next start, in its turn.
    pub(super) fn begin(&mut self, policy: &Policy) -> Vec<Effect> {
        if policy.after.is_empty() {
            return self.launch();
        }
        self.phase = Phase::Held;
        vec![Effect::AwaitTurn]
    }

    pub(super) fn launch(&mut self) -> Vec<Effect> {
        self.phase = Phase::Starting;
        vec![Effect::Launch]
    }

    pub(super) fn readying(&mut self, policy: &Policy, now: Duration) -> Vec<Effect> {
        if policy.ready.is_started() {
            return self.up(policy);
        }
        let until = policy.ready_timeout.map(|limit| now.saturating_add(limit));
        self.phase = Phase::Readying(until);
        [Effect::AwaitReady].into_iter().chain(until.map(Effect::WakeAt)).collect()
    }

    pub(super) fn up(&mut self, policy: &Policy) -> Vec<Effect> {
        self.phase = Phase::Up;
        policy.health.iter().map(|_| Effect::WatchHealth).collect()
    }

    pub(super) fn end(&mut self, policy: &Policy, cause: Cause, now: Duration) -> Vec<Effect> {
        let kill_at = now.saturating_add(policy.stop_timeout);
        self.phase = Phase::Stopping(cause, Some(kill_at));
        vec![Effect::EndProbe, Effect::AskToEnd, Effect::WakeAt(kill_at)]
    }
}
