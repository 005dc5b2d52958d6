// SPDX-License-Identifier: Apache-2.0
//! When PID 1 feeds the watchdog, and when it stops: decided here, without
//! clock or system calls.
//!
//! The watchdog runs from the moment its device is there until reboot(2), so
//! that a shutdown that hangs ends, too.

use std::time::Duration;

use super::policy::Hopeless;

/// Fed so many times within its timeout, so that one late feeding is no reset.
const FEEDINGS: u32 = 3;

/// The watchdog as far as PID 1 decides about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Feeding {
    /// None is wanted, or its device is not there yet.
    #[default]
    Off,
    /// It is fed.
    On {
        /// It resets the machine after so long without.
        timeout: Duration,
        /// It is fed then.
        next: Duration,
    },
    /// It is not fed any more: it resets the machine.
    Starved,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meal {
    /// Feed it.
    Feed,
    /// Say that it is fed no more, why, and when the machine is reset.
    Starve(Hopeless, Duration),
}

impl Feeding {
    /// It was started with this timeout.
    pub fn started(timeout: Duration, now: Duration) -> Self {
        Self::On { timeout, next: now + timeout / FEEDINGS }
    }

    /// When [`Feeding::step`] is wanted next; `None` for never.
    pub fn deadline(&self) -> Option<Duration> {
        match self {
            Self::On { next, .. } => Some(*next),
            Self::Off | Self::Starved => None,
        }
    }

    /// What to do at `now`, where `hopeless` says why the machine is better
    /// reset. Once that is decided it stays so.
    pub fn step(&mut self, hopeless: Option<Hopeless>, now: Duration) -> Option<Meal> {
        let Self::On { timeout, next } = self else { return None };
        let timeout = *timeout;
        if let Some(reason) = hopeless {
            *self = Self::Starved;
            return Some(Meal::Starve(reason, timeout));
        }
        if now < *next {
            return None;
        }
        *next = now + timeout / FEEDINGS;
        Some(Meal::Feed)
    }
}

/// The timeout that `lkinit.watchdog=` asks for: whole seconds, from 1 on; 0
/// is none. An error is a value that is neither.
///
/// # Errors
/// The value.
pub fn wanted(command_line: &str) -> Result<Option<Duration>, &str> {
    let words = command_line.split_ascii_whitespace();
    let Some(value) = words.filter_map(|word| word.strip_prefix("lkinit.watchdog=")).next_back() else {
        return Ok(None);
    };
    match value.strip_suffix('s').unwrap_or(value).parse::<u16>() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Err(_) => Err(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_fed_three_times_within_its_timeout() {
        let mut feeding = Feeding::started(30 * SECOND, 5 * SECOND);
        assert_eq!(feeding.deadline(), Some(15 * SECOND));
        assert_eq!(feeding.step(None, 14 * SECOND), None);
        assert_eq!(feeding.step(None, 16 * SECOND), Some(Meal::Feed));
        assert_eq!(feeding.deadline(), Some(26 * SECOND));
    }

    #[test]
    fn once_it_is_starved_it_is_never_fed_again() {
        let mut feeding = Feeding::started(30 * SECOND, SECOND);
        let starve = Meal::Starve(Hopeless::Rc, 30 * SECOND);
        assert_eq!(feeding.step(Some(Hopeless::Rc), 2 * SECOND), Some(starve));
        assert_eq!(feeding.deadline(), None);
        for now in 0..1000 {
            assert_eq!(feeding.step(None, now * SECOND), None);
            assert_eq!(feeding.step(Some(Hopeless::Shutdown), now * SECOND), None);
        }
    }

    #[test]
    fn nothing_is_done_without_one() {
        let mut feeding = Feeding::default();
        assert_eq!(feeding.step(Some(Hopeless::Rc), SECOND), None);
        assert_eq!(feeding.deadline(), None);
    }

    #[test]
    fn the_word_of_the_command_line() {
        assert_eq!(wanted("quiet console=ttyS0"), Ok(None));
        assert_eq!(wanted("lkinit.watchdog=30 quiet\n"), Ok(Some(30 * SECOND)));
        assert_eq!(wanted("lkinit.watchdog=30 lkinit.watchdog=1m lkinit.watchdog=9s"), Ok(Some(9 * SECOND)));
        assert_eq!(wanted("lkinit.watchdog=0"), Ok(None));
        for wrong in ["", "soon", "-1", "1m", "99999"] {
            assert_eq!(wanted(&format!("a lkinit.watchdog={wrong} b")), Err(wrong));
        }
    }
}
