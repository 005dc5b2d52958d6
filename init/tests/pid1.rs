// SPDX-License-Identifier: Apache-2.0
//! The binary as PID 1 of a machine made of namespaces.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod machine;

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use init::pid1::policy;
use init::reaped;
use init::sys::{clock, process};
use machine::Root;

/// What a machine ends with in a PID namespace: reboot(2).
const POWEROFF: Result<i32, i32> = Ok(libc::SIGINT);
const REBOOT: Result<i32, i32> = Ok(libc::SIGHUP);

/// An rc.shutdown that says what it was asked for and does it.
const SHUTDOWN: &str = "echo shutdown: $1 >/dev/console; $1 -f";

#[test]
fn rc_starts_clean_in_a_session_of_its_own_on_the_console() {
    let rc = "echo out; echo err >&2
        grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status
        read pid name state parent group session rest </proc/self/stat; echo session $((session - $$))
        echo path $PATH; sleep 1000";
    let root = Root::new(rc, SHUTDOWN);
    // What starts PID 1 may have left signals ignored: nobody may inherit that.
    root.script("start", "trap '' HUP TERM CHLD PIPE; exec /sbin/init");
    let mut machine = root.run("/start", &[]);
    machine.expect("out");
    machine.expect("err");
    machine.expect("SigBlk:\t0000000000000000");
    let ignored = machine.expect("SigIgn:\t").replace("SigIgn:\t", "");
    let ignored = u64::from_str_radix(&ignored, 16).unwrap();
    // 32 and 33 are the C library's own, which it lets nobody change.
    assert_eq!(ignored & !(3 << 31), 0, "{ignored:x}");
    machine.expect("session 0");
    machine.expect("path /usr");
}

#[test]
fn a_variable_stays_as_it_is_and_the_search_path_is_there() {
    let machine = Root::new("echo color=$COLOR; sleep 1000", SHUTDOWN).variable("COLOR", "red");
    machine.boot().expect("color=red");
}

#[test]
fn each_signal_means_what_it_should() {
    let table =
        [("USR1", POWEROFF), ("USR2", POWEROFF), ("PWR", POWEROFF), ("INT", REBOOT), ("TERM", REBOOT)];
    for (signal, end) in table {
        let mut machine = Root::new(&format!("kill -{signal} 1; sleep 1000"), SHUTDOWN).boot();
        let action = if end == POWEROFF { "poweroff" } else { "reboot" };
        machine.expect("init: signal ");
        machine.expect(&format!("shutdown: {action}"));
        assert_eq!(machine.end(), end, "{signal}");
    }
}

#[test]
fn other_signals_change_nothing() {
    let rc = "for i in $(seq 1 64); do case $i in 2|10|12|15|30) ;; *) kill -$i 1 ;; esac; done
        sleep 0.2; echo still; kill -USR1 1; sleep 1000";
    let mut machine = Root::new(rc, SHUTDOWN).boot();
    machine.expect("still");
    machine.expect("shutdown: poweroff");
    let noise = machine.transcript().iter().filter(|line| line.contains("init:")).count();
    assert_eq!(noise, 1, "{:#?}", machine.transcript());
}

/// How many orphans a burst has.
const ORPHANS: u64 = 10_000;

/// Set in the environment, the test below is the parent of the burst.
const PARENT: &str = "PARENT_OF_ORPHANS";

#[test]
fn ten_thousand_orphans_in_a_burst_leave_none() {
    if std::env::var_os(PARENT).is_some() {
        // A program that never waits.
        for _ in 0..ORPHANS {
            process::fork(|| 0).unwrap();
        }
        println!("forked {ORPHANS}");
        process::exit_now(0);
    }
    let rc = "mkdir -p /run/lkinit
        PARENT_OF_ORPHANS=1 /bin/parent --exact --nocapture ten_thousand_orphans_in_a_burst_leave_none
        set -- /proc/[0-9]*; echo seen: $#
        while [ $# -gt 2 ]; do sleep 0.1; set -- /proc/[0-9]*; done
        echo left: $#
        sleep 1000";
    let root = Root::new(rc, SHUTDOWN);
    std::fs::copy(std::env::current_exe().unwrap(), root.path("bin/parent")).unwrap();
    let mut machine = root.boot();
    machine.expect(&format!("forked {ORPHANS}"));
    let parent_ended = clock::since_boot();
    machine.expect("left: 2");
    let records = reaped::records(&machine.root.path("run/lkinit/reaped")).unwrap();
    let last = records.iter().rev().find(|record| record.sequence >= ORPHANS).unwrap();
    println!("reaped {} in {:?}", last.sequence, last.reaped.saturating_sub(parent_ended));
}

#[test]
fn rc_is_started_again_ever_later() {
    let rc = "echo up $(cut -d' ' -f1 /proc/uptime); exit 4";
    let mut machine = Root::new(rc, SHUTDOWN).boot();
    let mut times = Vec::new();
    for delay in ["0.100s", "0.200s", "0.400s", "0.800s"] {
        let line = machine.expect("up ");
        times.push(line.replace("up ", "").parse::<f64>().unwrap());
        let note = machine.expect("rc.init ended: exit status 4 after 0.");
        assert!(note.contains(&format!("starts again in {delay}")), "{note}");
    }
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, least) in gaps.iter().zip([0.1, 0.2, 0.4]) {
        // uptime(1) counts hundredths.
        assert!(*gap >= least - 0.02, "{gaps:?}");
    }
}

#[test]
fn without_rc_it_says_so_and_goes_on_trying() {
    let mut machine = Root::bare().boot();
    for _ in 0..2 {
        machine.expect("cannot run /bin/rc.init: No such file or directory");
        machine.expect("rc.init ended: exit status 127");
    }
}

#[test]
fn a_second_request_is_ignored() {
    let shutdown = "test -e /tmp/once && echo twice; touch /tmp/once
        kill -TERM 1; sleep 0.5; echo going; poweroff -f";
    let mut machine = Root::new("kill -USR1 1; sleep 1000", shutdown).boot();
    machine.expect("signal 15 ignored: the machine is going down already");
    machine.expect("going");
    assert!(!machine.transcript().iter().any(|line| line == "twice"), "{:#?}", machine.transcript());
    assert_eq!(machine.end(), POWEROFF);
}

#[test]
fn a_failing_rc_shutdown_does_not_keep_the_machine_up() {
    for (shutdown, how) in [("exit 3", "exit status 3"), ("kill -9 $$", "killed by signal 9")] {
        let mut machine = Root::new("kill -TERM 1; sleep 1000", shutdown).boot();
        machine.expect(&format!("rc.shutdown ended: {how} and the machine is still up"));
        assert_eq!(machine.end(), REBOOT);
    }
}

#[test]
fn without_rc_shutdown_what_ignores_the_end_is_killed() {
    let root = Root::bare();
    let rc = "(trap '' TERM; echo deaf; while :; do sleep 1; done) &
        sleep 0.5; kill -USR2 1; sleep 1000";
    root.script("bin/rc.init", rc);
    let mut machine = root.boot();
    machine.expect("deaf");
    machine.expect("cannot run /bin/rc.shutdown: No such file or directory");
    machine.expect("rc.shutdown ended: exit status 127");
    machine.expect("some processes are still there; killing them");
    assert_eq!(machine.end(), POWEROFF);
}

#[test]
fn rc_stays_down_once_the_marker_is_there() {
    // As after `rc.shutdown noop`, run by hand.
    let rc = "mkdir -p /run/lkinit; touch /run/lkinit/shutdown
        (sleep 0.5; sh -c 'sleep 0.2; echo reaping' & sleep 1; kill -PWR 1) &
        exit 0";
    let mut machine = Root::new(rc, SHUTDOWN).boot();
    machine.expect("the machine is going down: rc.init is not started again");
    machine.expect("reaping");
    machine.expect("shutdown: poweroff");
    assert_eq!(machine.end(), POWEROFF);
}

#[test]
fn what_it_reaps_is_on_record_before_it_is_gone() {
    let rc = "mkdir -p /run/lkinit
        orphan() { sh -c \"echo \\$\\$ \\$(cut -d' ' -f22 /proc/\\$\\$/stat) >/tmp/$1; $2\" & }
        (orphan code 'exit 7'; orphan killed 'kill -9 $$'; orphan realtime 'kill -40 $$')
        for each in code killed realtime; do
            until [ -s /tmp/$each ]; do sleep 0.02; done
            read -r pid start </tmp/$each
            while [ -d /proc/$pid ]; do sleep 0.02; done
        done
        echo done; sleep 1000";
    let mut machine = Root::new(rc, SHUTDOWN).boot();
    machine.expect("done");
    let records = reaped::records(&machine.root.path("run/lkinit/reaped")).unwrap();
    for (name, code, signal) in
        [("code", Some(7), None), ("killed", None, Some(9)), ("realtime", None, Some(40))]
    {
        let text = std::fs::read_to_string(machine.root.path("tmp").join(name)).unwrap();
        let (pid, start) = text.trim().split_once(' ').unwrap();
        let record = records.iter().find(|record| record.pid.to_string() == pid).unwrap();
        assert_eq!(record.start_time.to_string(), start, "{name}");
        assert_eq!((record.status.code(), record.status.signal()), (code, signal), "{name}");
        assert!(record.reaped > Duration::ZERO);
    }
    assert!(records.iter().enumerate().all(|(at, record)| record.sequence == at as u64 + 1));
}

/// A machine with a watchdog, which is a file, and with a word for it on the
/// kernel's command line. rc makes PID 1 look for it, and `more` follows.
fn watched(more: &str) -> Root {
    let rc = "echo up
        grep -q ' /proc/cmdline ' /proc/self/mounts || {
            echo quiet lkinit.watchdog=1 >/tmp/cmdline; mount -o bind /tmp/cmdline /proc/cmdline; }
        touch /dev/watchdog; kill -HUP 1";
    Root::new(&format!("{rc}\n{more}"), SHUTDOWN)
}

#[test]
fn the_watchdog_is_fed_until_rc_cannot_be_brought_back() {
    let mut machine = watched("test -e /tmp/once && exit 4; touch /tmp/once; sleep 2; exit 4").boot();
    machine.expect("watchdog: on; it resets the machine 1s after");
    for _ in 1..policy::HOPELESS {
        machine.expect("up");
    }
    machine.expect("rc.init cannot be brought back: the watchdog resets the machine in 1s");
    let fed = std::fs::read(machine.root.path("dev/watchdog")).unwrap();
    // Three times a second, for 2 s and then 12.7 s of waits; late on a busy machine.
    assert!((20..60).contains(&fed.len()), "{}", fed.len());
    assert!(fed.iter().all(|byte| *byte == 0), "{fed:?}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(std::fs::read(machine.root.path("dev/watchdog")).unwrap().len(), fed.len());
}

#[test]
fn the_watchdog_is_stopped_for_a_halt_and_for_nothing_else() {
    let more = "mkdir -p /run/lkinit; sleep 1
        echo -n poweroff >/run/lkinit/shutdown; kill -HUP 1; sleep 1; echo still fed; sleep 5
        echo -n halt >/run/lkinit/shutdown; kill -HUP 1; sleep 1000";
    let mut machine = watched(more).boot();
    machine.expect("still fed");
    let before = std::fs::read(machine.root.path("dev/watchdog")).unwrap();
    assert!(before.len() >= 3 && before.iter().all(|byte| *byte == 0), "{before:?}");
    machine.expect("watchdog: off, as the machine is to halt");
    let after = std::fs::read(machine.root.path("dev/watchdog")).unwrap();
    assert_eq!(after.last(), Some(&b'V'), "{after:?}");
}

#[test]
fn a_watchdog_that_is_not_there_is_one_line() {
    let root = Root::new(
        "echo lkinit.watchdog=soon >/tmp/a; mount -o bind /tmp/a /proc/cmdline; kill -HUP 1; sleep 0.5
        echo lkinit.watchdog=9 >/tmp/a; kill -HUP 1; sleep 1000",
        SHUTDOWN,
    );
    let mut machine = root.boot();
    machine.expect("lkinit.watchdog= wants whole seconds, 1 to 65535; there is no watchdog");
    machine.expect("watchdog: cannot open /dev/watchdog: No such file or directory");
}

/// Somebody destroys the code that PID 1 runs next: what it says then is the
/// last anyone hears of this machine.
#[test]
fn a_fault_in_it_is_the_last_thing_it_says() {
    let rc = "sleep 1; set -- $(cat /proc/1/syscall); shift $(($# - 1))
        printf '\\017\\013' | dd of=/proc/1/mem bs=1 seek=$(($1)) conv=notrunc 2>/dev/null
        kill -HUP 1; sleep 1000";
    let root = Root::new(rc, SHUTDOWN);
    std::fs::write(root.path("dev/kmsg"), "").unwrap();
    let mut machine = root.boot();
    let line = machine.expect("lkinit: fault in init: SIGILL, address 0x");
    assert_eq!(machine.end(), Err(128 + libc::SIGILL));
    let kmsg = std::fs::read_to_string(machine.root.path("dev/kmsg")).unwrap();
    assert_eq!(kmsg.lines().last(), Some(format!("<26>{}", line.trim_end()).as_str()));
}

/// A root with nothing in `/dev` and no standard streams: the kernel's way of
/// starting PID 1 where there is no /dev/console. Rust's own start would abort.
#[test]
fn closed_streams_and_an_empty_dev_are_no_obstacle() {
    let root = Root::new(
        "echo up >/tmp/up; test -e /proc/$$/fd/2 && touch /tmp/streams; kill -USR1 1; sleep 1000",
        "poweroff -f",
    );
    std::fs::remove_file(root.path("dev/null")).unwrap();
    let start = "rm /dev/console; exec /sbin/init <&- >&- 2>&-";
    root.script("start", start);
    let mut machine = root.run("/start", &[]);
    assert_eq!(machine.end(), POWEROFF);
    assert_eq!(std::fs::read_to_string(machine.root.path("tmp/up")).unwrap(), "up\n");
    assert!(machine.root.path("tmp/streams").exists());
}

/// As in a container without CAP_SYS_BOOT: PID 1 ends, and the container with it.
#[test]
fn a_container_that_may_not_reboot_ends() {
    let root = Root::new("kill -TERM 1; sleep 1000", "exit 1");
    let mut machine = root.run("/sbin/init", &["setpriv", "--bounding-set=-sys_boot"]);
    machine.expect("reboot: the container ends");
    assert_eq!(machine.end(), Err(0));
}

#[test]
fn it_refuses_to_be_anything_but_the_first() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_init")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PID 1"), "{output:?}");
}

#[test]
fn the_usermode_helper_runs_four_programs_and_no_other() {
    // The kernel leaves the program it means in the first word, closes
    // everything, and gives an environment of its own.
    let rc = "helper() { (exec -a \"$@\" <&- >&- 2>&-); echo \"$1 -> $?\"; }
        helper /sbin/modprobe /sbin/usermode-helper -q -- some-alias
        cat /tmp/modprobe
        helper /bin/sh /sbin/usermode-helper -c 'touch /tmp/pwned'
        helper /sbin/mdev /sbin/usermode-helper
        ls /tmp; echo end; sleep 1000";
    let root = Root::new(rc, SHUTDOWN);
    root.script("sbin/modprobe", "echo \"modprobe ran: $*\" >/tmp/modprobe; exit 5");
    let mut machine = root.boot();
    machine.expect("/sbin/modprobe -> 5");
    machine.expect("modprobe ran: -q -- some-alias");
    machine.expect("/bin/sh -> 2");
    machine.expect("/sbin/mdev -> 127");
    machine.expect("end");
    assert!(!machine.root.path("tmp/pwned").exists());
}
