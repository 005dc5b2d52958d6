// SPDX-License-Identifier: Apache-2.0
//! The logger as a process of its own: killed, flooded, with an external
//! logger that comes and goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use init::testing::{PATIENCE, wait_until};
use rc::logs::Stream;
use rc::logs::record::{Record, open_pipe, pipe};
use rc::logs::settings::Limits;

struct Case {
    folder: tempfile::TempDir,
    logger: Option<Child>,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pipes")).unwrap();
        let mut case = Self { folder, logger: None };
        case.start();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pipes(&self) -> PathBuf {
        self.path("pipes")
    }

    fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rc"));
        command.arg("rc.logger").arg(self.pipes()).arg(self.path("external"));
        command.env("LKINIT_APPLET", "1").stdin(Stdio::null());
        let errors = fs::OpenOptions::new().create(true).append(true).open(self.path("errors")).unwrap();
        self.logger = Some(command.stderr(errors).spawn().unwrap());
    }

    fn kill(&mut self) {
        let mut logger = self.logger.take().unwrap();
        logger.kill().unwrap();
        logger.wait().unwrap();
    }

    /// A log of which each stream has files of `bytes`.
    fn log(&self, id: &str, bytes: u64, external: bool) -> File {
        let folder = self.pipes();
        let fifo = open_pipe(&folder, id, Stream::Stdout).unwrap();
        let record = Record {
            stdout: self.path(&format!("{id}.out.log")),
            stderr: self.path(&format!("{id}.log")),
            limits: Limits { bytes, files: 100 },
            external: external.then(|| id.to_owned()),
            keep_files: false,
        };
        record.write(&folder, id).unwrap();
        let pipe = pipe(&folder, id, Stream::Stdout);
        drop(fifo);
        // Blocking, as a container's is.
        File::options().read(true).write(true).open(pipe).unwrap()
    }

    fn ask(&self, request: &str) {
        let begin = Instant::now();
        loop {
            let socket = UnixStream::connect(self.pipes().join("socket"));
            if let Ok(mut socket) = socket {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.write_all(format!("{request}\n").as_bytes()).unwrap();
                let mut answer = String::new();
                if socket.read_to_string(&mut answer).is_ok() && answer == "done\n" {
                    return;
                }
            }
            assert!(begin.elapsed() < PATIENCE, "no answer to {request}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that is kept of a log's standard output, the oldest first.
    fn text(&self, id: &str) -> String {
        let path = self.path(&format!("{id}.out.log"));
        let older = (1..=100).rev().map(|index| PathBuf::from(format!("{}.{index}", path.display())));
        older.chain([path.clone()]).filter_map(|path| fs::read_to_string(path).ok()).collect()
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.path("errors")).unwrap()
    }

    fn resident(&self) -> u64 {
        resident(self.logger.as_ref().unwrap().id())
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if self.logger.is_some() {
            self.kill();
        }
    }
}

/// Memory of its own that a process has, in KiB: its files do not count, of
/// which a new one may not be on the disk yet.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = text.lines().filter(|line| line.starts_with("Anonymous:"));
    private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

fn numbers(text: &str) -> Vec<u64> {
    text.lines().map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap()).collect()
}

#[test]
fn a_logger_that_is_killed_again_and_again_loses_nothing_and_repeats_nothing() {
    let mut case = Case::new();
    let mut out = case.log("x", 1_000_000, false);
    // As rc does: the writer may end while there is no logger.
    let _held = open_pipe(&case.pipes(), "x", Stream::Stdout).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut count = 0_u64;
            // As much as all of the log's files hold.
            while !stop.load(Ordering::Relaxed) && count < 1_500_000 {
                out.write_all(format!("line {count} of a service that prints all the time\n").as_bytes())
                    .unwrap();
                count += 1;
            }
            count
        })
    };
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(20 + round * 3));
        case.kill();
        case.start();
    }
    stop.store(true, Ordering::Relaxed);
    let count = writer.join().unwrap();
    case.ask("sync x");
    let found = numbers(&case.text("x"));
    for (expected, found) in (0..).zip(&found) {
        assert_eq!(expected, *found, "{}", case.errors());
    }
    assert_eq!(found.len() as u64, count, "{}", case.errors());
    assert!(count > 1000, "only {count} lines were printed");
    eprintln!("{count} lines, 20 kills");
}

#[test]
fn what_a_dead_container_printed_while_nobody_read_is_there() {
    let mut case = Case::new();
    let out = case.log("x", 1_000_000, false);
    case.ask("sync x");
    case.kill();
    // As rc does, something holds the pipe; the container is gone.
    let held = open_pipe(&case.pipes(), "x", Stream::Stdout).unwrap();
    (&out).write_all(b"its last words\n").unwrap();
    drop(out);
    case.start();
    case.ask("end x");
    drop(held);
    assert_eq!(case.text("x"), "its last words\n");
    assert!(!pipe(&case.pipes(), "x", Stream::Stdout).exists());
}

/// How many seconds of flood; `LKINIT_SOAK` makes it the minute.
fn seconds() -> u64 {
    if std::env::var_os("LKINIT_SOAK").is_some() { 60 } else { 2 }
}

#[test]
fn a_flood_slows_nobody_and_takes_no_memory() {
    let case = Case::new();
    let mut flood = case.log("flood", 1_000_000, false);
    let mut quiet = case.log("quiet", 1_000_000, false);
    case.ask("sync flood");
    let before = case.resident();
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let flooder = {
        let (stop, written) = (stop.clone(), written.clone());
        std::thread::spawn(move || {
            let line = format!("{}\n", "x".repeat(99)).repeat(100);
            while !stop.load(Ordering::Relaxed) {
                flood.write_all(line.as_bytes()).unwrap();
                written.fetch_add(line.len() as u64, Ordering::Relaxed);
            }
        })
    };
    let begin = Instant::now();
    let (mut worst, mut waiting, mut lines, mut most) = (Duration::ZERO, 0, 0_u64, 0);
    while begin.elapsed() < Duration::from_secs(seconds()) {
        let start = Instant::now();
        writeln!(quiet, "line {lines}").unwrap();
        worst = worst.max(start.elapsed());
        waiting = waiting.max(init::sys::pipe::waiting(&quiet).unwrap());
        lines += 1;
        std::thread::sleep(Duration::from_millis(10));
        most = most.max(case.resident());
    }
    stop.store(true, Ordering::Relaxed);
    flooder.join().unwrap();
    case.ask("sync quiet");
    case.ask("sync flood");
    assert_eq!(numbers(&case.text("quiet")), (0..lines).collect::<Vec<_>>());
    let rate = written.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64() / 1e6;
    eprintln!(
        "{} s of flood: {rate:.0} MB/s; the worst write beside it took {worst:?}, {waiting} bytes waited; the logger's own memory \
         {before} KiB before, {most} KiB at most",
        seconds()
    );
    assert!(most <= before + 256, "{before} KiB before, {most} KiB meanwhile");
    // How long a write takes depends on who else needs the processors; a
    // writer waits for the flood only if its own pipe is full.
    assert!(waiting < 16 * 1024, "{waiting} bytes waited");
    let kept: u64 = fs::read_dir(case.folder.path())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("flood"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(kept <= 100_000_000, "{kept}");
}

/// As memlogd takes a log: its name, and the end to read from.
fn take(socket: &UnixDatagram) -> (String, File) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut name = [0; 256];
    let (count, mut descriptors) = init::sys::pass::receive(socket, &mut name).unwrap();
    let name = String::from_utf8_lossy(&name[..count]).into_owned();
    (name, File::from(descriptors.pop().unwrap()))
}

fn read_some(file: &mut File) -> String {
    let mut text = [0; 4096];
    let count = file.read(&mut text).unwrap();
    String::from_utf8_lossy(&text[..count]).into_owned()
}

/// Both streams, standard output first.
fn take_both(socket: &UnixDatagram) -> (File, File) {
    let (first, out) = take(socket);
    let (second, err) = take(socket);
    assert_eq!((first.as_str(), second.as_str()), ("x.out", "x"));
    (out, err)
}

#[test]
fn an_external_logger_gets_the_output_and_may_come_and_go() {
    let mut case = Case::new();
    let external = case.path("external");
    let socket = UnixDatagram::bind(&external).unwrap();
    let out = case.log("x", 1_000_000, true);
    let (mut reader, errors) = take_both(&socket);
    (&out).write_all(b"one\n").unwrap();
    assert_eq!(read_some(&mut reader), "one\n");
    assert!(!case.path("x.out.log").exists(), "it goes there instead of a file");

    // It ends without having read this.
    (&out).write_all(b"two\n").unwrap();
    case.ask("sync x");
    drop((reader, errors, socket));
    let fallback = case.path("x.out.fallback.log");
    let away = || fs::read_to_string(&fallback).unwrap_or_default();
    wait_until("the line it had not read", || away() == "two\n");
    (&out).write_all(b"three\n").unwrap();
    wait_until("the next line", || away() == "two\nthree\n");
    assert!(case.errors().contains("no longer reads x.out"), "{}", case.errors());

    // Meanwhile the logger is killed, and goes on in the same file.
    case.kill();
    case.start();
    case.ask("sync x");

    // It is there again.
    fs::remove_file(&external).unwrap();
    let socket = UnixDatagram::bind(&external).unwrap();
    let (mut reader, _errors) = take_both(&socket);
    (&out).write_all(b"four\n").unwrap();
    assert_eq!(read_some(&mut reader), "four\n");
    assert_eq!(away(), "two\nthree\n");
    assert!(case.errors().contains("the external logger reads x.out again"), "{}", case.errors());
    assert!(!case.path("x.out.log").exists());
}

#[test]
fn a_stalled_external_logger_holds_up_its_own_logs_only() {
    let case = Case::new();
    let socket = UnixDatagram::bind(case.path("external")).unwrap();
    let mut out = case.log("x", 1_000_000, true);
    let (mut reader, _errors) = take_both(&socket);
    let writer = std::thread::spawn(move || {
        for count in 0..20_000_u64 {
            out.write_all(format!("line {count} {}\n", "x".repeat(50)).as_bytes()).unwrap();
        }
    });
    let quiet = case.log("quiet", 1_000_000, false);
    (&quiet).write_all(b"line 0\n").unwrap();
    wait_until("a line of another log", || case.text("quiet") == "line 0\n");
    assert!(!writer.is_finished());
    let mut text = String::new();
    while !text.ends_with(&format!("line 19999 {}\n", "x".repeat(50))) {
        text.push_str(&read_some(&mut reader));
    }
    writer.join().unwrap();
    assert_eq!(numbers(&text), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn there_is_one_logger() {
    let case = Case::new();
    wait_until("the logger", || case.pipes().join("socket").exists());
    let mut command = Command::new(env!("CARGO_BIN_EXE_rc"));
    command.arg("rc.logger").arg(case.pipes()).arg(Path::new("/nonexistent")).env("LKINIT_APPLET", "1");
    assert!(command.status().unwrap().success());
    assert_eq!(case.errors(), "");
    let _out = case.log("x", 1_000_000, false);
    case.ask("sync x");
}

#[test]
fn a_disk_that_is_full_stops_no_container() {
    let case = Case::new();
    // No file can be made where a file is in the way of a folder.
    fs::write(case.path("f"), "").unwrap();
    let folder = case.pipes();
    let out = open_pipe(&folder, "x", Stream::Stdout).unwrap();
    let record = Record {
        stdout: case.path("f/x.out.log"),
        stderr: case.path("f/x.log"),
        limits: Limits { bytes: 1000, files: 1 },
        external: None,
        keep_files: false,
    };
    record.write(&folder, "x").unwrap();
    for _ in 0..100 {
        (&out).write_all(&[b'x'; 4000]).unwrap();
        case.ask("sync x");
    }
    assert!(case.errors().contains("output is lost until that is possible"), "{}", case.errors());
    // Once for each stream.
    assert_eq!(case.errors().lines().count(), 2, "{}", case.errors());
}
