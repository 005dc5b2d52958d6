// SPDX-License-Identifier: Apache-2.0
//! Clocks: time since boot, the system clock, and the hardware clock.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// Time since the kernel started (`CLOCK_BOOTTIME`); zero if the clock cannot be read.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

nix::ioctl_read!(
    /// `RTC_RD_TIME` of rtc(4).
    rtc_rd_time,
    b'p',
    0x09,
    RtcTime
);

/// `struct rtc_time` of `<linux/rtc.h>`; the month counts from 0, the year from 1900.
#[repr(C)]
#[derive(Debug, Default)]
pub struct RtcTime {
    sec: i32,
    min: i32,
    hour: i32,
    mday: i32,
    mon: i32,
    year: i32,
    wday: i32,
    yday: i32,
    isdst: i32,
}

impl RtcTime {
    /// Seconds since 1970 in UTC, by the days-from-civil rule of the
    /// proleptic Gregorian calendar.
    fn seconds(&self) -> i64 {
        let month = i64::from(self.mon) + 1;
        let year = i64::from(self.year) + 1900 - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(self.mday) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        days * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.min) * 60 + i64::from(self.sec)
    }
}

/// Sets the system clock from the hardware clock at `device`, which is taken
/// to run in UTC. Returns the seconds since 1970.
///
/// # Errors
/// Those of opening and reading the device, and of clock_settime(2).
pub fn set_from_rtc(device: &Path) -> io::Result<i64> {
    let rtc = File::open(device)?;
    let mut time = RtcTime::default();
    // SAFETY: the descriptor is open for the call and `time` is the struct
    // that RTC_RD_TIME fills in.
    unsafe { rtc_rd_time(rtc.as_raw_fd(), &raw mut time) }?;
    let seconds = time.seconds();
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0))?;
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_time_to_seconds() {
        let time = |year, mon, mday, hour, min, sec| {
            RtcTime { sec, min, hour, mday, mon, year: year - 1900, ..RtcTime::default() }.seconds()
        };
        assert_eq!(time(1970, 0, 1, 0, 0, 0), 0);
        assert_eq!(time(2000, 1, 29, 23, 59, 59), 951_868_799);
        assert_eq!(time(2000, 2, 1, 0, 0, 0), 951_868_800);
        assert_eq!(time(2026, 10, 24, 2, 6, 0), 1_795_485_960);
    }
}
