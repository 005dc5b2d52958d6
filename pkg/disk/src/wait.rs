// SPDX-License-Identifier: Apache-2.0
//! Waiting for a disk that is not there yet: one behind a controller that takes
//! its time, on USB, or just being attached by the host.

use std::fmt::Display;
use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use init::sys::uevent::{Received, UeventSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::say;

/// How long is waited where nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait where the kernel does not tell of devices.
const BLIND: Duration = Duration::from_millis(500);

/// The time of `-timeout`: whole seconds.
///
/// # Errors
/// On anything else.
pub fn seconds(text: &str) -> Result<Duration, lexopt::Error> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok().filter(|_| digits);
    let bad = || lexopt::Error::Custom(format!("-timeout {text}: not a number of seconds").into());
    number.map(|number| Duration::from_secs(number.into())).ok_or_else(bad)
}

/// What `look` finds; looks again whenever a device has come, for at most this
/// long, as long as `may_come` says of its error that waiting may help.
///
/// # Errors
/// Those of `look`, of the last time.
pub fn until<T, E: Display>(
    time: Duration,
    mut look: impl FnMut() -> Result<T, E>,
    may_come: impl Fn(&E) -> bool,
) -> Result<T, E> {
    // Opened before the first look: what comes just after that is not missed.
    let events = UeventSocket::open().ok();
    let end = Instant::now() + time;
    let mut said = false;
    loop {
        let error = match look() {
            Err(error) if may_come(&error) => error,
            result => return result,
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error);
        }
        if !said {
            say(format_args!("{error}; waiting for it, {} s at most", time.as_secs()));
            said = true;
        }
        wait(events.as_ref(), left);
    }
}

/// Waits until something has happened to a device, at most this long.
fn wait(events: Option<&UeventSocket>, time: Duration) {
    let Some(events) = events else { return sleep(time.min(BLIND)) };
    let millis = i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
    let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)).is_err() {
        // A signal, or no memory: not to be repeated at once.
        return sleep(time.min(BLIND));
    }
    let mut buffer = [0; 4096];
    while matches!(events.receive(&mut buffer), Ok(Received::Message(_) | Received::Overrun)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_waited_for() {
        let begin = Instant::now();
        assert_eq!(until(Duration::from_secs(60), || Ok::<_, String>(7), |_| true), Ok(7));
        // Nor what cannot come.
        assert_eq!(until(Duration::from_secs(60), || Err::<(), _>("broken"), |_| false), Err("broken"));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn waiting_ends() {
        let begin = Instant::now();
        let mut looks = 0;
        let mut look = || {
            looks += 1;
            Err::<(), _>("not there")
        };
        assert_eq!(until(Duration::from_millis(50), &mut look, |_| true), Err("not there"));
        assert!(begin.elapsed() >= Duration::from_millis(50) && begin.elapsed() < Duration::from_secs(10));
        assert!(looks >= 2, "not looked at once more in the end");
    }

    #[test]
    fn seconds_are_whole() {
        assert_eq!(seconds("30").unwrap(), Duration::from_secs(30));
        assert_eq!(seconds("0").unwrap(), Duration::ZERO);
        for wrong in ["", "-1", "+1", "1.5", "1s", "99999999999"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
