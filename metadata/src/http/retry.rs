// SPDX-License-Identifier: Apache-2.0
//! When to ask again: a function of what went wrong and how often.

use std::time::Duration;

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(2);

/// What is asked again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Status codes that mean "not now".
    pub codes: &'static [u16],
    /// Most times a request is sent. Connections that fail do not count: the
    /// deadline alone ends those.
    pub attempts: u32,
    /// Whether a connection that is refused or not answered is tried again.
    /// Not where it is a guess that there is a server at all.
    pub refused: bool,
    /// Whether a connection that breaks off, or on which no answer comes, is
    /// tried again.
    pub broken: bool,
    /// Whether to wait for a route to the server. Not where nobody has
    /// switched a network interface on.
    pub unreachable: bool,
}

/// What servers say when they are busy or not yet awake (RFC 9110, 15; 429 of RFC 6585).
pub const BUSY: &[u16] = &[408, 425, 429, 500, 502, 503, 504];

impl Default for Retry {
    fn default() -> Self {
        Self { codes: BUSY, attempts: 6, refused: true, broken: true, unreachable: true }
    }
}

/// The pause after the attempt of this number (from 0): doubling, and between
/// half and all of that, so that many machines do not ask in step. `random`
/// may be anything.
pub fn pause(attempt: u32, random: u32) -> Duration {
    let full = FIRST.saturating_mul(1_u32.checked_shl(attempt.min(16)).unwrap_or(u32::MAX)).min(LONGEST);
    full / 2 + (full / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// What `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date, which
/// is measured against the server's own `Date` because our clock may not be
/// set yet.
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let until = http_date(value)?;
    let now = date.and_then(http_date)?;
    Some(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)))
}

/// Seconds since 1970 of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.trim().split_once(", ")?;
    let mut words = rest.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock =
        words.next()?.split(':').map(|part| part.parse::<i64>().ok().filter(|n| (0..61).contains(n)));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next()? != "GMT" || !(1..=31).contains(&day) {
        return None;
    }
    let days = crate::time::days_from_civil(year, month, day);
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_never_in_step() {
        assert_eq!(pause(0, 0), Duration::from_millis(25));
        assert_eq!(pause(0, u32::MAX), Duration::from_millis(50));
        assert_eq!(pause(3, u32::MAX), Duration::from_millis(400));
        assert_eq!(pause(1000, u32::MAX), LONGEST);
        assert_eq!(pause(1000, 0), LONGEST / 2);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 7 ", None), Some(Duration::from_secs(7)));
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", Some(now)), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", Some(now)), Some(Duration::ZERO));
        assert_eq!(retry_after(now, None), None);
        for wrong in ["", "-1", "soon", "Sun, 06 Nov", "Sun, 99 Nov 1994 08:49:37 GMT", "99999999999"] {
            assert_eq!(retry_after(wrong, Some(now)), None, "{wrong}");
        }
    }

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Tue, 29 Feb 2000 23:59:59 GMT"), Some(951_868_799));
    }
}
