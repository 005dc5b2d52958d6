// SPDX-License-Identifier: Apache-2.0
//! What happened before rc was there, by the kernel's log.
//!
//! A record of /dev/kmsg begins with `priority,number,microseconds,flags;`
//! (Documentation/ABI/testing/dev-kmsg). Its clock is not `CLOCK_BOOTTIME`
//! and runs beside it at a distance that one line tells whose time is known
//! by both.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use init::sys::clock::since_boot;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;

use super::Span;

/// The kernel's lane.
pub const KERNEL: &str = "kernel";

/// The lane of the initrd, which the kernel unpacks while it does other things.
pub const INITRD: &str = "initrd";

/// What runs before rc: `/init` and PID 1.
const INIT: (&str, &str) = ("init", "root switch, PID 1");

/// The line whose time both clocks know.
const MARK: &str = "lkinit: boot: the clock says ";

/// The most that is read: the kernel's log is a ring of some 1 MiB at most,
/// unless somebody has made it larger.
const MOST: usize = 16 << 10;

/// The step that rc begins after.
pub fn last_id() -> String {
    super::id(INIT.0, INIT.1)
}

/// The steps before rc, which began at `rc`. Without a kernel's log there are
/// none; it is the caller's choice to do without.
pub fn before_rc(rc: Duration) -> Vec<Span> {
    let clock = since_boot();
    let mark = format!("{MARK}{}.{:06}", clock.as_secs(), clock.subsec_micros());
    let Ok(mut kmsg) = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open("/dev/kmsg")
    else {
        return Vec::new();
    };
    // Facility daemon (3), severity debug (7). Without its end the line would
    // wait for a rest of it, and nobody could read it.
    if kmsg.write_all(format!("<31>{mark}\n").as_bytes()).is_err() {
        return Vec::new();
    }
    let mut record = [0; 8192];
    let mut records = Vec::new();
    for _ in 0..MOST {
        match kmsg.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default()).into_owned();
                records.extend(Record::parse(&text));
            }
            // It was overwritten while we read: the next one is there.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let machine = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    spans(&records, &mark, clock, rc, machine.trim())
}

/// A message of the kernel's log that we know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    at: u64,
    text: String,
}

impl Record {
    /// Reads one; messages that say nothing to us are none.
    fn parse(record: &str) -> Option<Self> {
        let (head, text) = record.split_once(';')?;
        let text = text.lines().next()?;
        let known = [UNPACKING, UNPACKED, RUN, MARK].iter().any(|known| text.contains(known));
        let at = head.split(',').nth(2)?.parse().ok()?;
        known.then(|| Self { at, text: text.to_owned() })
    }
}

const UNPACKING: &str = "unpack rootfs image as initramfs";
const UNPACKED: &str = "Freeing initrd memory";
const RUN: &str = " as init process";

fn spans(records: &[Record], mark: &str, clock: Duration, rc: Duration, release: &str) -> Vec<Span> {
    let clock = i64::try_from(clock.as_micros()).unwrap_or(i64::MAX);
    let at = |text: &str| records.iter().find(|record| record.text.contains(text)).map(|record| record.at);
    let Some(distance) = at(mark).map(|at| clock.saturating_sub_unsigned(at)) else { return Vec::new() };
    let time = |text: &str| {
        let at = at(text)?.saturating_add_signed(distance);
        Some(Duration::from_micros(at).min(rc))
    };
    let mut spans = Vec::new();
    // Without the line (a kernel with a small log) the kernel has it all.
    let run = time(RUN).unwrap_or(rc);
    spans.push(Span::over(KERNEL, if release.is_empty() { "start" } else { release }, Duration::ZERO, run));
    if let (Some(from), Some(to)) = (time(UNPACKING), time(UNPACKED))
        && from < to
    {
        spans.push(Span::over(INITRD, "unpacked", from, to));
    }
    let mut init = Span::over(INIT.0, INIT.1, run, rc);
    init.after = spans.first().map(Span::id).into_iter().collect();
    spans.push(init);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_log_is_put_on_our_clock() {
        let mark = format!("{MARK}9.000000");
        let log = [
            "6,1,0,-;Linux version 6.1.0",
            "6,80,500000,-;Trying to unpack rootfs image as initramfs...",
            "6,200,1400000,-;Freeing initrd memory: 51200K",
            "6,339,2100000,-;Run /init as init process\n SUBSYSTEM=x",
            &format!("31,400,8800000,-;{mark}"),
        ];
        let records: Vec<Record> = log.iter().filter_map(|record| Record::parse(record)).collect();
        assert_eq!(records.len(), 4);
        let rc = Duration::from_millis(2350);
        let spans = spans(&records, &mark, Duration::from_secs(9), rc, "6.1.0");
        let told: Vec<_> = spans.iter().map(|span| (span.id(), span.start, span.end.unwrap())).collect();
        assert_eq!(
            told,
            [
                ("kernel/6.1.0".to_owned(), 0, 2_300_000),
                ("initrd/unpacked".to_owned(), 700_000, 1_600_000),
                ("init/root switch, PID 1".to_owned(), 2_300_000, 2_350_000),
            ]
        );
        assert_eq!(spans[2].after, ["kernel/6.1.0"]);
    }

    #[test]
    fn a_log_that_has_lost_its_beginning() {
        let mark = format!("{MARK}9.000000");
        let records = [Record { at: 9_000_000, text: mark.clone() }];
        let spans = spans(&records, &mark, Duration::from_secs(9), Duration::from_secs(2), "");
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].id().as_str(), spans[0].end), ("kernel/start", Some(2_000_000)));
        assert!(super::spans(&[], &mark, Duration::from_secs(9), Duration::from_secs(2), "").is_empty());
    }
}
