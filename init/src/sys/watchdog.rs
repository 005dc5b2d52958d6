// SPDX-License-Identifier: Apache-2.0
//! A hardware watchdog: a timer that resets the machine unless it is told
//! again and again not to (Documentation/watchdog/watchdog-api.rst).

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::libc::c_int;
use nix::sys::stat::Mode;

/// The first watchdog of a machine.
pub const DEVICE: &CStr = c"/dev/watchdog";

nix::ioctl_readwrite!(
    /// `WDIOC_SETTIMEOUT` of `<linux/watchdog.h>`: seconds in, and back come
    /// those that the hardware has made of them.
    wdioc_settimeout,
    b'W',
    6,
    c_int
);
nix::ioctl_read!(
    /// `WDIOC_GETTIMEOUT`: seconds.
    wdioc_gettimeout,
    b'W',
    7,
    c_int
);

/// A watchdog that runs: it was started by being opened. Dropping it does not
/// stop it.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
}

impl Watchdog {
    /// Starts the watchdog at `path`, with this timeout in whole seconds.
    /// Gives the timeout that it really has: hardware rounds, and some has a
    /// timeout that cannot be changed.
    ///
    /// # Errors
    /// open(2)'s: ENOENT without a driver, EBUSY while another program has it.
    pub fn start(path: &CStr, timeout: Duration) -> io::Result<(Self, Duration)> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let device = File::from(open(path, flags, Mode::empty())?);
        let asked = c_int::try_from(timeout.as_secs()).unwrap_or(c_int::MAX).max(1);
        let mut seconds = asked;
        // SAFETY: the descriptor is open for the call, which reads and writes
        // one number of ours.
        if unsafe { wdioc_settimeout(device.as_raw_fd(), &raw mut seconds) }.is_err() {
            // SAFETY: as above; the call writes the number.
            let known = unsafe { wdioc_gettimeout(device.as_raw_fd(), &raw mut seconds) };
            if known.is_err() {
                seconds = asked;
            }
        }
        let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
        Ok((Self { device }, timeout))
    }

    /// Puts the reset off for another timeout.
    pub fn feed(&self) {
        self.write(b"\0");
    }

    /// Stops it, by the letter that says that this is meant ("magic close").
    /// A driver built or loaded with `nowayout` goes on all the same.
    pub fn stop(self) {
        self.write(b"V");
    }

    /// There is nothing to do about an error: if the device takes nothing, the
    /// machine is reset, and that is what it is for.
    fn write(&self, bytes: &[u8]) {
        let _ = nix::unistd::write(&self.device, bytes);
    }
}
