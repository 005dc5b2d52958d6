// SPDX-License-Identifier: Apache-2.0
//! Who is turned away, what is waited for, and what is said about it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::Case;
use crate::fixture::{Fixture, LONG, Transport, echo, read_what_comes, round_trip, until};

pub const CASES: &[Case] = &[
    ("a_missing_target_is_said_once_and_then_counted", missing),
    ("a_target_that_comes_in_time_is_reached_at_once", comes_late),
    ("a_socket_file_that_nobody_serves_is_waited_for_too", stale_file),
    ("connections_over_the_limit_are_turned_away", limit),
    ("strangers_are_turned_away", strangers),
    ("users_not_on_the_list_are_turned_away", users),
    ("running_out_of_descriptors_ends_nothing", descriptors),
    ("one_bad_rule_leaves_the_others_alone", bad_rule),
    ("a_port_in_use_leaves_the_others_alone", in_use),
    ("a_signal_ends_it", signals),
    ("the_background_is_entered_when_all_is_bound", background),
];

/// Where there is a tracer.
pub const TRACED: &[Case] = &[("an_aborted_connection_ends_nothing", aborted)];

fn missing(fixture: &Fixture) {
    let (vsudd, port) = fixture.forward(&["-retry", "50ms"]);
    for _ in 0..25 {
        let client = fixture.connect(port);
        assert!(read_what_comes(&client).is_empty());
    }
    let said = vsudd.lines("connection closed");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("/target: ") && said[0].contains("No such file"), "{said:?}");
    fixture.serve(echo);
    round_trip(&fixture.connect(port));
    let said = vsudd.wait_for("answers again");
    assert!(said.ends_with("closed meanwhile: 25"), "{said}");
}

fn comes_late(fixture: &Fixture) {
    let (_vsudd, port) = fixture.forward(&["-retry", "30s"]);
    let clients: Vec<_> = (0..5).map(|_| fixture.connect(port)).collect();
    { &clients[0] }.write_all(b"?").unwrap();
    // Long enough for the time between tries to have grown to half a second.
    thread::sleep(Duration::from_millis(1500));
    fixture.serve(echo);
    let start = Instant::now();
    { &clients[0] }.read_exact(&mut [0]).unwrap();
    let waited = start.elapsed();
    println!("    reached {waited:?} after its socket appeared");
    if matches!(fixture.transport, Transport::Unix) {
        assert!(waited < Duration::from_millis(200), "seen by its file and not by trying: {waited:?}");
    }
    clients[1..].iter().for_each(round_trip);
}

fn stale_file(fixture: &Fixture) {
    let path = fixture.path("target");
    drop(UnixListener::bind(&path).unwrap());
    let (vsudd, port) = fixture.forward(&["-retry", "30s"]);
    let client = fixture.connect(port);
    thread::sleep(Duration::from_millis(100));
    std::fs::remove_file(&path).unwrap();
    fixture.serve(echo);
    round_trip(&client);
    assert_eq!(vsudd.lines("connection closed").len(), 0);
}

fn limit(fixture: &Fixture) {
    fixture.serve(echo);
    let (vsudd, port) = fixture.forward(&["-max-connections", "3"]);
    let clients: Vec<_> = (0..3).map(|_| fixture.connect(port)).collect();
    clients.iter().for_each(round_trip);
    for _ in 0..10 {
        assert!(read_what_comes(&fixture.connect(port)).is_empty());
    }
    vsudd.wait_for("turned away");
    let said = vsudd.lines("turned away");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("3 connections already"));
    clients.iter().for_each(round_trip);
    drop(clients);
    until("room", || (vsudd.lines("connection closed").len() == 3).then_some(()));
    round_trip(&fixture.connect(port));
}

fn strangers(fixture: &Fixture) {
    fixture.serve(echo);
    let flags: &[&str] = match fixture.transport {
        Transport::Unix => &["-allow-uid", "12345"],
        Transport::Vsock(_) => &["-allow-cid", "host,77"],
    };
    let (vsudd, port) = fixture.forward(flags);
    for _ in 0..5 {
        assert!(read_what_comes(&fixture.connect(port)).is_empty());
    }
    vsudd.wait_for("turned away");
    let said = vsudd.lines("turned away");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("not allowed"));
    assert_eq!(vsudd.lines("connection from").len(), 0);
}

fn users(fixture: &Fixture) {
    if !nix::unistd::getuid().is_root() {
        println!("LEFT OUT: another user's connection: takes root");
        return;
    }
    let port = fixture.port();
    let host = fixture.host(port);
    host.set_nonblocking(false).unwrap();
    // Lives as long as this program.
    thread::spawn(move || {
        loop {
            host.accept().unwrap().0.write_all(b"hello").unwrap();
        }
    });
    let path = fixture.text("out");
    let rule = format!("{path}:{port}:local");
    for (flags, mode, root, other) in [
        (&["-outport", &rule][..], 0o600, "hello", ""),
        (&["-outport", &rule, "-allow-uid", "1234"], 0o666, "", "hello"),
        (&["-outport", &rule, "-allow-uid", "any"], 0o666, "hello", "hello"),
    ] {
        let vsudd = fixture.start(flags);
        let file = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(file, mode, "{flags:?}");
        assert_eq!(read_what_comes(UnixStream::connect(&path).unwrap()), root.as_bytes(), "{flags:?}");
        assert_eq!(as_user(fixture, 1234, &path), other.as_bytes(), "{flags:?}");
        drop(vsudd);
    }
}

/// What another user's process reads from a socket.
fn as_user(fixture: &Fixture, uid: u32, path: &str) -> Vec<u8> {
    use std::os::unix::process::CommandExt as _;
    std::fs::set_permissions(fixture.path("."), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = std::env::current_exe().unwrap();
    // The test program may lie where that user cannot go.
    let copy = fixture.path("client");
    std::fs::copy(program, &copy).unwrap();
    Command::new(&copy).args(["--read", path]).uid(uid).output().unwrap().stdout
}

/// `--read PATH`
pub fn read(path: &str) -> ExitCode {
    if let Ok(stream) = UnixStream::connect(path) {
        std::io::stdout().write_all(&read_what_comes(stream)).unwrap();
    }
    ExitCode::SUCCESS
}

fn descriptors(fixture: &Fixture) {
    fixture.serve(echo);
    let (port, path) = (fixture.port(), fixture.text("target"));
    let vsudd = fixture.start_limited(40, &["-inport", &format!("{port}:unix:{path}"), "-retry", "30s"]);
    // Some 15 are served; the others wait in the listener's queue, and one for
    // a descriptor for its other half.
    let clients: Vec<_> = (0..60).filter_map(|_| fixture.try_connect(port).ok()).collect();
    let said = vsudd.wait_for("Too many open files");
    assert!(said.contains("accept:"), "{said}");
    let ticks = vsudd.ticks();
    thread::sleep(Duration::from_secs(2));
    let used = vsudd.ticks() - ticks;
    assert!(used < 20, "busy while nothing can be accepted: {used} ticks in 2 s");
    assert!(vsudd.lines("Too many open files").len() <= 2, "{:?}", vsudd.lines("Too many"));
    drop(clients);
    let start = Instant::now();
    // Those that were queued are accepted and closed in between.
    until("service as before", || {
        let mut client = fixture.try_connect(port).ok()?;
        client.write_all(b"?").ok()?;
        client.read_exact(&mut [0]).ok()
    });
    assert!(start.elapsed() < LONG);
}

/// One that was gone before it was accepted: the next one is served at once.
/// strace(1) has no such connection; the one it fails for stays in the queue.
/// With a rest after each of nine, this would take more than two seconds.
fn aborted(fixture: &Fixture) {
    fixture.serve(echo);
    for (error, said) in [("ECONNABORTED", "Software caused connection abort"), ("EPROTO", "Protocol error")]
    {
        let (port, path) = (fixture.port(), fixture.text("target"));
        let vsudd = fixture.start_failing(error, 9, &["-inport", &format!("{port}:unix:{path}")]);
        let start = Instant::now();
        round_trip(&fixture.connect(port));
        round_trip(&fixture.connect(port));
        assert!(start.elapsed() < Duration::from_secs(1), "the listener rested: {:?}", start.elapsed());
        vsudd.wait_for("accept: ");
        let lines = vsudd.lines("accept: ");
        assert!(lines.len() == 1 && lines[0].contains(said), "{lines:?}");
    }
}

fn bad_rule(fixture: &Fixture) {
    fixture.serve(echo);
    let (vsudd, port) = fixture.forward(&["-inport", "1:udp:/nowhere", "-inport", "x:unix:/a"]);
    assert_eq!(vsudd.lines("not done").len(), 2);
    round_trip(&fixture.connect(port));
}

fn in_use(fixture: &Fixture) {
    fixture.serve(echo);
    let (taken, path) = (fixture.port(), fixture.text("target"));
    let _host = fixture.host(taken);
    let (vsudd, port) = fixture.forward(&["-inport", &format!("{taken}:unix:{path}")]);
    let said = vsudd.lines("not done");
    assert!(said.len() == 1 && said[0].contains("in use"), "{said:?}");
    round_trip(&fixture.connect(port));
}

fn signals(fixture: &Fixture) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut vsudd, port) = fixture.forward(&[]);
        let waiting = fixture.connect(port);
        vsudd.signal(signal);
        assert!(vsudd.wait().success());
        assert!(read_what_comes(&waiting).is_empty());
    }
}

fn background(fixture: &Fixture) {
    if !std::path::Path::new("/dev/kmsg").exists() {
        println!("LEFT OUT: -detach: there is no /dev/kmsg here");
        return;
    }
    fixture.serve(echo);
    let (port, pidfile) = (fixture.port(), fixture.path("pid"));
    let rule = format!("{port}:unix:{}", fixture.text("target"));
    let status = fixture.run(&["-inport", &rule, "-detach", "-pidfile", pidfile.to_str().unwrap()]);
    assert!(status.success());
    let number =
        until("the pid file", || std::fs::read_to_string(&pidfile).ok().filter(|text| !text.is_empty()));
    let pid = nix::unistd::Pid::from_raw(number.parse().unwrap());
    round_trip(&fixture.connect(port));
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), nix::unistd::getpgid(Some(pid)).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    until("its end", || fixture.try_connect(port).is_err().then_some(()));
    // Where it cannot be done, whoever started it is told.
    let status = fixture.run(&["-inport", &rule, "-detach", "-pidfile", "/nowhere/pid"]);
    assert_eq!(status.code(), Some(1));
    assert!(!fixture.run(&[]).success(), "nothing to do");
}
