// SPDX-License-Identifier: Apache-2.0
//! The real program, by its three names, with sockets in a folder of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use init::testing::{PATIENCE, wait_until};
use memlogd::entry::Told;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

struct Case {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Case {
    fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["memlogd", "logread", "logwrite", "002-logging"] {
            symlink(env!("CARGO_BIN_EXE_memlogd"), folder.path().join(name)).unwrap();
        }
        let mut case = Self { folder, daemon: None };
        case.start(options);
        case
    }

    fn start(&mut self, options: &[&str]) {
        let mut command = self.command("memlogd");
        command.arg("-socket-log").arg(self.path("log")).arg("-socket-query").arg(self.path("query"));
        self.daemon = Some(command.args(options).spawn().unwrap());
        wait_until("memlogd", || UnixStream::connect(self.path("query")).is_ok());
    }

    fn end(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.stdin(Stdio::null());
        command
    }

    /// Hands a log in, as LinuxKit's init does; returns the end to print to.
    fn log(&self, name: &str) -> File {
        let (reader, writer) = io::pipe().unwrap();
        hand_over(&self.path("log"), name, &reader);
        File::from(OwnedFd::from(writer))
    }

    fn query(&self, mode: u8) -> UnixStream {
        let mut socket = UnixStream::connect(self.path("query")).unwrap();
        socket.write_all(&[mode]).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn dump(&self) -> Vec<Told> {
        let lines = BufReader::new(self.query(0)).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }

    /// The lines of one log.
    fn lines(&self, source: &str) -> Vec<String> {
        self.dump().into_iter().filter(|told| told.source == source).map(|told| told.msg).collect()
    }

    fn logread(&self, options: &[&str]) -> String {
        let out = self.command("logread").arg("-socket").arg(self.path("query")).args(options).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.end();
    }
}

fn hand_over(socket: &Path, name: &str, reader: &impl std::os::fd::AsFd) {
    let sender = UnixDatagram::unbound().unwrap();
    let descriptors = [reader.as_fd().as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let address = UnixAddr::new(socket).unwrap();
    let name = [IoSlice::new(name.as_bytes())];
    sendmsg(sender.as_raw_fd(), &name, &control, MsgFlags::empty(), Some(&address)).unwrap();
}

#[test]
fn what_is_handed_in_can_be_asked_for() {
    let case = Case::new(&[]);
    let mut out = case.log("onboot.000-x.out");
    let mut err = case.log("onboot.000-x");
    out.write_all("hello\nwörld ;\"\\\n".as_bytes()).unwrap();
    err.write_all(b"bad\xff\nthe end without its end").unwrap();
    drop((out, err));
    wait_until("the last line", || case.lines("onboot.000-x").len() == 2);
    assert_eq!(case.lines("onboot.000-x"), ["bad\u{fffd}", "the end without its end"]);
    assert_eq!(case.lines("onboot.000-x.out"), ["hello", "wörld ;\"\\"]);
    assert_eq!(case.lines("memlogd"), ["memlogd started"]);
    let text = case.logread(&[]);
    let hello = text.lines().find(|line| line.ends_with(";hello")).unwrap();
    let (time, rest) = hello.split_once(';').unwrap();
    assert_eq!(rest, "onboot.000-x.out;hello");
    assert!(time.len() >= 20 && time.starts_with("20") && time.ends_with('Z'), "{time}");
}

#[test]
fn names_and_descriptors_as_they_may_come() {
    let case = Case::new(&[]);
    // A name with a NUL at its end, a plain file, and a descriptor that nothing comes from.
    let mut padded = case.log("padded\0");
    writeln!(padded, "x").unwrap();
    let file = case.path("file");
    fs::write(&file, "of\na file\n").unwrap();
    hand_over(&case.path("log"), "file", &File::open(&file).unwrap());
    hand_over(&case.path("log"), "folder", &File::open(case.folder.path()).unwrap());
    UnixDatagram::unbound().unwrap().send_to(b"nothing with it", case.path("log")).unwrap();
    wait_until("all of them", || case.lines("padded") == ["x"] && case.lines("file").len() == 2);
    wait_until("the complaint", || {
        case.lines("memlogd").iter().any(|line| line.starts_with("folder: cannot"))
    });
}

#[test]
fn the_newest_lines_are_kept_and_long_ones_are_cut() {
    let case = Case::new(&["-max-lines=10", "-max-line-len", "20"]);
    let mut out = case.log("x");
    for n in 0..100 {
        writeln!(out, "line {n}").unwrap();
    }
    writeln!(out, "{}", "y".repeat(50)).unwrap();
    wait_until("the last line", || case.lines("x").last().is_some_and(|line| line == &"y".repeat(10)));
    let expected = (93..100).map(|n| format!("line {n}"));
    let expected = expected.chain(["y".repeat(20), "y".repeat(20), "y".repeat(10)]);
    assert_eq!(case.lines("x"), expected.collect::<Vec<_>>());
}

#[test]
fn followers_get_what_they_ask_for() {
    let case = Case::new(&[]);
    let mut out = case.log("x");
    writeln!(out, "before").unwrap();
    wait_until("a line", || case.lines("x") == ["before"]);
    let next = |reader: &mut BufReader<UnixStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str::<Told>(&line).unwrap().msg
    };
    let mut both = BufReader::new(case.query(2));
    assert_eq!([next(&mut both), next(&mut both)], ["memlogd started", "before"]);
    let mut follow = BufReader::new(case.query(1));
    // The question is read before a line that comes later is.
    assert!(!case.dump().is_empty());
    writeln!(out, "after").unwrap();
    assert_eq!([next(&mut both), next(&mut follow)], ["after", "after"]);
    // Whoever asks for what there is not is let go.
    assert_eq!(case.query(7).read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn a_hundred_thousand_lines_a_second() {
    let case = Case::new(&["-max-lines", "200000"]);
    let mut out = case.log("x");
    let lines: String = (0..200_000).map(|n| format!("line {n} {}\n", "x".repeat(60))).collect();
    let pid = case.daemon.as_ref().unwrap().id();
    let (begin, before) = (Instant::now(), processor_time(pid));
    out.write_all(lines.as_bytes()).unwrap();
    drop(out);
    let took = begin.elapsed();
    let used = processor_time(pid) - before;
    wait_until("the last line", || {
        case.lines("x").last().is_some_and(|line| line.starts_with("line 199999 "))
    });
    let found = case.lines("x");
    // The ring has a line of memlogd's own too.
    for (n, line) in (200_000 - found.len()..).zip(&found) {
        assert!(line.starts_with(&format!("line {n} ")), "{line} where line {n} should be");
    }
    let rate = 200_000.0 / took.as_secs_f64();
    eprintln!("{rate:.0} lines a second; {used:?} of processor time for 200000");
    assert!(found.len() >= 199_999);
    // By processor time: others may need the processors too.
    assert!(used < Duration::from_secs(2), "{used:?}");
}

/// What a process has used, in user space and for it in the kernel.
fn processor_time(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // sysconf(_SC_CLK_TCK) is 100 wherever Linux is.
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_reader_that_stalls_slows_nobody_and_is_told_what_it_missed() {
    let case = Case::new(&[]);
    let mut stalled = BufReader::new(case.query(1));
    let follower = BufReader::new(case.query(1));
    assert!(!case.dump().is_empty());
    let count = 100_000_u64;
    let reader = std::thread::spawn(move || {
        let (mut seen, mut dropped) = (0, 0);
        for line in follower.lines() {
            let told: Told = serde_json::from_str(&line.unwrap()).unwrap();
            match told.source.as_str() {
                "x" => seen += 1,
                _ => dropped += told.msg.split(' ').next().unwrap().parse::<u64>().unwrap(),
            }
            if told.msg.starts_with(&format!("line {} ", count - 1)) {
                break;
            }
        }
        (seen, dropped)
    });
    let mut out = case.log("x");
    let begin = Instant::now();
    for n in 0..count {
        writeln!(out, "line {n} {}", "x".repeat(60)).unwrap();
    }
    let took = begin.elapsed();
    let (seen, dropped) = reader.join().unwrap();
    assert_eq!(seen + dropped, count);
    eprintln!("{count} lines in {took:?} beside a reader that does not read; the other one missed {dropped}");
    // It begins to read again: what its socket holds, how many lines it
    // missed, and what memlogd has.
    let (mut first, mut numbers, mut missed) = (String::new(), Vec::new(), 0);
    stalled.read_line(&mut first).unwrap();
    assert!(first.contains("line 0 "), "{first}");
    while numbers.last() != Some(&(count - 1)) {
        let mut line = String::new();
        stalled.read_line(&mut line).unwrap();
        let told: Told = serde_json::from_str(&line).unwrap();
        let word = |n| told.msg.split(' ').nth(n).unwrap().parse::<u64>().unwrap();
        match told.source.as_str() {
            "x" => numbers.push(word(1)),
            _ => missed += word(0),
        }
    }
    assert_eq!(1 + numbers.len() as u64 + missed, count);
    assert!(missed > count / 2 && numbers.is_sorted(), "{missed}");
}

#[test]
fn logwrite_runs_a_command() {
    let case = Case::new(&[]);
    let mut command = case.command("logwrite");
    command.arg("-socket").arg(case.path("log")).args([
        "-n",
        "job",
        "/bin/sh",
        "-c",
        "echo a; echo b >&2; exit 3",
    ]);
    let out = command.output().unwrap();
    assert_eq!((out.status.code(), out.stdout, out.stderr), (Some(3), b"a\n".to_vec(), b"b\n".to_vec()));
    wait_until("both lines", || case.lines("job.stdout") == ["a"] && case.lines("job.stderr") == ["b"]);
}

#[test]
fn logwrite_writes_files_and_outlives_memlogd() {
    let mut case = Case::new(&[]);
    let folder = case.path("files");
    fs::create_dir(&folder).unwrap();
    let mut command = case.command("logwrite");
    command.arg("-socket").arg(case.path("query")).arg("-log-dir").arg(&folder);
    command.args(["-max-log-size", "2000", "-max-log-files", "2"]).stderr(Stdio::piped());
    let mut writer = command.spawn().unwrap();
    let mut out = case.log("x");
    // More than two files hold, however long the times are.
    for n in 0..200 {
        writeln!(out, "line {n}").unwrap();
    }
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    wait_until("the last line", || text("x.log").ends_with("Z x line 199\n"));
    assert!(text("x.log.0").len() <= 2000 && text("x.log.1").len() <= 2000 && !text("x.log.1").is_empty());
    assert!(!folder.join("x.log.2").exists());
    case.end();
    case.start(&[]);
    let mut out = case.log("x");
    writeln!(out, "after").unwrap();
    wait_until("a line of the next memlogd", || text("x.log").ends_with("Z x after\n"));
    writer.kill().unwrap();
    writer.wait().unwrap();
}

#[test]
fn it_goes_on_by_itself_and_ends_when_asked() {
    let mut case = Case::new(&[]);
    case.end();
    let begin = Instant::now();
    let mut command = case.command("memlogd");
    command.arg("-socket-log").arg(case.path("log")).arg("-socket-query").arg(case.path("query"));
    assert!(command.arg("-daemonize").status().unwrap().success());
    // Both sockets are there at once.
    let mut out = case.log("x");
    let mut follow = BufReader::new(case.query(2)).lines();
    writeln!(out, "last words").unwrap();
    eprintln!("there after {:?}", begin.elapsed());
    // A second one does not take its place.
    let mut second = case.command("memlogd");
    second.arg("-socket-log").arg(case.path("log")).arg("-socket-query").arg(case.path("other"));
    let second = second.output().unwrap();
    assert!(!second.status.success());
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert!(complaint.contains("log is in use: another one runs"), "{complaint}");
    let pid = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        let ours = String::from_utf8_lossy(&words).contains(case.path("query").to_str().unwrap());
        ours.then(|| entry.file_name().to_str()?.parse::<i32>().ok()).flatten()
    });
    let pid = nix::unistd::Pid::from_raw(pid.unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let told = std::iter::from_fn(|| follow.next()?.ok());
    let told: Vec<String> = told.map(|line| serde_json::from_str::<Told>(&line).unwrap().msg).collect();
    assert_eq!(told, ["memlogd started", "last words", "memlogd ended"]);
}

#[test]
fn mistakes_are_said() {
    let case = Case::new(&[]);
    let run = |name: &str, words: &[&str]| {
        let out = case.command(name).args(words).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (status, text) = run("memlogd", &["-max-lines", "many"]);
    assert!(status == Some(2) && text.starts_with("memlogd: ") && text.contains("usage: "), "{text}");
    let (status, text) = run("logread", &["-socket", "/nonexistent/x"]);
    assert!(status == Some(1) && text.starts_with("logread: cannot ask /nonexistent/x: "), "{text}");
    let (status, text) = run("logwrite", &["-socket", "/nonexistent/x", "/bin/true"]);
    assert!(
        status == Some(1) && text.starts_with("logwrite: cannot hand a log to /nonexistent/x: "),
        "{text}"
    );
    let (status, text) = run("memlogd", &["-fd-log", "77"]);
    assert!(status == Some(1) && text.starts_with("memlogd: cannot open descriptor 77: "), "{text}");
}
