// SPDX-License-Identifier: Apache-2.0
//! A point in time after which nobody waits any longer.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A point of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// From now on.
    pub fn after(time: Duration) -> Self {
        let now = Instant::now();
        // A time no clock can hold is a year.
        Self(now.checked_add(time).unwrap_or(now + Duration::from_secs(31_536_000)))
    }

    /// The earlier of this one and `time` from now.
    #[must_use]
    pub fn at_most(self, time: Duration) -> Self {
        self.min(Self::after(time))
    }

    /// What is left; zero when it is over.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// What is left, as something to wait for.
    ///
    /// # Errors
    /// `TimedOut` when nothing is left.
    pub fn left(self) -> io::Result<Duration> {
        let left = self.remaining();
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// How long a provider may take, which changes when it turns out to be the
/// right one, or that another is.
#[derive(Debug)]
pub struct Budget {
    until: Mutex<Option<Deadline>>,
    once_connected: Option<Deadline>,
}

impl Budget {
    /// Until this point.
    pub fn until(deadline: Deadline) -> Self {
        Self { until: Mutex::new(Some(deadline)), once_connected: None }
    }

    /// The same, and until a later one as soon as somebody takes a connection.
    pub fn connected_until(deadline: Deadline, once_connected: Deadline) -> Self {
        Self { once_connected: Some(once_connected), ..Self::until(deadline) }
    }

    /// The point in force; `None` when all is to be given up at once.
    pub fn deadline(&self) -> Option<Deadline> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives more time, or less. What was given up stays so.
    pub fn set(&self, deadline: Deadline) {
        let mut own = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *own = own.map(|_| deadline);
    }

    /// Somebody has taken a connection.
    pub fn connected(&self) {
        let mut own = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *own = own.map(|until| self.once_connected.map_or(until, |later| until.max(later)));
    }

    /// Ends everything that is not waiting for an answer already.
    pub fn cancel(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
