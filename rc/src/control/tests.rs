// SPDX-License-Identifier: Apache-2.0
//! The socket from both sides, with a supervisor that has one service and
//! nothing that could run it.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use init::cmdline::Cmdline;
use init::console::Console;

use super::{Answer, Client, Failure, Request, serve};
use crate::boot::Boot;
use crate::journal::{self, Change, Journal};
use crate::progress::Progress;
use crate::reaper::Reaper;
use crate::system::System;

/// Serves in a thread of its own and asks from this one.
fn conversation(name: &str, ask: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("services").join(name);
    fs::create_dir_all(&bundle).unwrap();
    let config =
        r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["/x"], "cwd": "/"}}"#;
    fs::write(bundle.join("config.json"), config).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (ready, listening) = std::sync::mpsc::channel();
    let folder = dir.path().to_owned();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            serve(&folder.join("sock"), boot(&folder)).unwrap();
            ready.send(()).unwrap();
            stopped.await.unwrap();
        });
    });
    listening.recv().unwrap();
    ask(dir.path());
    stop.send(()).unwrap();
    server.join().unwrap();
    // What a machine has below /run/lkinit is here.
    assert!(name == "nonsense" || dir.path().join("services-state").join(name).is_file());
}

fn boot(folder: &Path) -> Rc<Boot> {
    let console = Arc::new(Console::to_file(fs::File::create("/dev/null").unwrap()));
    // No child is reaped here: other tests have children, too.
    let reaper = Reaper::default();
    let mut system = System::attach(console, Cmdline::default(), reaper, Progress::forgetful(), None);
    system.containers = folder.to_owned();
    system.services = folder.join("services-state");
    Boot::new(Rc::new(system), Journal::new(&folder.join("events")))
}

fn client(folder: &Path) -> Client {
    Client::connect(&folder.join("sock")).unwrap()
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

#[test]
fn status_is_answered_within_50_milliseconds() {
    let name = "status".to_owned();
    conversation("status", |folder| {
        // A start that fails is tried again and again meanwhile.
        let started = client(folder).ask(&Request::Start { name }, PATIENCE).unwrap();
        assert!(matches!(started, Answer::Failed { .. }), "{started:?}");
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let begin = Instant::now();
                let answer = client(folder).ask(&Request::Status, PATIENCE).unwrap();
                let Answer::Services { services, containerd: None } = answer else { panic!("{answer:?}") };
                assert_eq!(services.len(), 1);
                assert!(!services[0].ready && services[0].reason.is_some(), "{services:?}");
                begin.elapsed()
            })
            .collect();
        times.sort();
        // The median: the machine that tests run on may be busy.
        assert!(times[10] < Duration::from_millis(50), "{times:?}");
    });
}

#[test]
fn what_makes_no_sense_is_said_and_the_conversation_goes_on() {
    use std::io::{BufRead as _, BufReader, Write as _};
    conversation("nonsense", |folder| {
        let mut stream = std::os::unix::net::UnixStream::connect(folder.join("sock")).unwrap();
        stream.write_all(b"{\"command\":\"dance\"}\n{\"command\":\"status\"}\n").unwrap();
        let lines: Vec<String> = BufReader::new(&stream).lines().take(2).map(Result::unwrap).collect();
        assert!(lines[0].contains("\"failed\"") && lines[0].contains("dance"), "{lines:?}");
        assert!(lines[1].contains("\"services\""), "{lines:?}");
        let name = "nonesuch".to_owned();
        let answer = client(folder).ask(&Request::Stop { name }, PATIENCE).unwrap();
        assert!(matches!(&answer, Answer::Failed { reason } if reason.contains("nonesuch")), "{answer:?}");
    });
}

#[test]
fn who_follows_is_told_what_happens_and_it_is_written_down() {
    let name = "follow".to_owned();
    conversation("follow", |folder| {
        let mut follower = client(folder);
        assert_eq!(follower.ask(&Request::Follow, PATIENCE).unwrap(), Answer::Done);
        client(folder).ask(&Request::Start { name: name.clone() }, PATIENCE).unwrap();
        let mut told = Vec::new();
        while told.last().is_none_or(|change: &Change| change.to != "backing-off") {
            match follower.receive(PATIENCE).unwrap() {
                Answer::Changed { change } => told.push(change),
                other => panic!("{other:?}"),
            }
        }
        assert!(told.iter().all(|change| change.service == name), "{told:?}");
        assert_eq!(told[0].from, "new");
        let written = journal::load(&folder.join("events"));
        assert!(written.starts_with(&told), "{written:?} is not {told:?}");
    });
}

#[test]
fn a_supervisor_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    assert!(matches!(Client::connect(&path), Err(Failure::NoSupervisor { .. })));
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path).unwrap();
    let begin = Instant::now();
    let answer = client.ask(&Request::Status, Some(Duration::from_millis(100)));
    assert!(matches!(answer, Err(Failure::Broken(_))), "{answer:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_request_is_a_line_of_json() {
    let request = Request::Start { name: "getty".to_owned() };
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(text, r#"{"command":"start","name":"getty"}"#);
    assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    assert_eq!(serde_json::to_string(&Request::StartAll).unwrap(), r#"{"command":"start-all"}"#);
    assert!(serde_json::from_str::<Request>(r#"{"command":"dance"}"#).is_err());
}
