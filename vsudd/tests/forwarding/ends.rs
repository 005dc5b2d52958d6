// SPDX-License-Identifier: Apache-2.0
//! How connections end: each direction for itself, and nothing lost.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::Socket;

use crate::Case;
use crate::fixture::{
    Fixture, Noise, accept, read_all, read_what_comes, round_trip, until, write_in_pieces,
    write_until_refused,
};

pub const CASES: &[Case] = &[
    ("bytes_arrive_both_ways_in_order", both_ways),
    ("a_client_that_has_said_all_still_hears", client_half_closes),
    ("a_target_that_has_said_all_still_hears", target_half_closes),
    ("an_empty_request_is_an_end_too", empty_request),
    ("a_target_that_reads_no_more_still_speaks", target_shuts_reading),
    ("a_client_that_reads_no_more_still_speaks", client_shuts_reading),
    ("what_a_client_said_before_it_closed_arrives", client_closes),
    ("what_a_target_said_before_it_closed_arrives", target_closes),
    ("a_half_closed_client_that_closes_is_noticed", client_closes_in_two_steps),
    ("a_target_that_closes_with_input_unread_ends_the_client", target_leaves_input),
    ("a_client_killed_in_the_middle_ends_the_target", client_killed),
    ("a_target_killed_in_the_middle_ends_the_client", target_killed),
    ("a_tcp_target_is_reached_and_its_reset_ends_the_client", tcp),
    ("outward_connections_reach_the_host", outward),
];

/// More than all the buffers on the way hold.
const MUCH: usize = 1_500_000;

fn both_ways(fixture: &Fixture) {
    let (there, back) = (Noise::new(1).bytes(MUCH), Noise::new(2).bytes(MUCH + 77));
    let answer = back.clone();
    let target = fixture.serve_one(move |stream| {
        let reader = stream.try_clone().unwrap();
        let reading = thread::spawn(move || read_all(reader));
        write_in_pieces(&stream, &answer, &mut Noise::new(3));
        stream.shutdown(Shutdown::Write).unwrap();
        reading.join().unwrap()
    });
    let (_vsudd, port) = fixture.forward(&[]);
    let client = fixture.connect(port);
    let reader = client.try_clone().unwrap();
    let reading = thread::spawn(move || read_all(reader));
    write_in_pieces(&client, &there, &mut Noise::new(4));
    client.shutdown(Shutdown::Write).unwrap();
    assert!(target.join().unwrap() == there, "what the client sent");
    assert!(reading.join().unwrap() == back, "what the target sent");
}

fn client_half_closes(fixture: &Fixture) {
    let there = Noise::new(1).bytes(MUCH);
    let target = fixture.serve_one(|mut stream| {
        let all = read_all(&stream);
        // Long after the client's end was passed on.
        thread::sleep(Duration::from_millis(50));
        stream.write_all(&all).unwrap();
    });
    let (_vsudd, port) = fixture.forward(&[]);
    let mut client = fixture.connect(port);
    client.write_all(&there).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&client) == there);
    target.join().unwrap();
}

fn target_half_closes(fixture: &Fixture) {
    let (there, back) = (Noise::new(1).bytes(MUCH), Noise::new(2).bytes(MUCH));
    let answer = back.clone();
    let target = fixture.serve_one(move |mut stream| {
        stream.write_all(&answer).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(stream)
    });
    let (_vsudd, port) = fixture.forward(&[]);
    let mut client = fixture.connect(port);
    assert!(read_all(&client) == back);
    client.write_all(&there).unwrap();
    drop(client);
    assert!(target.join().unwrap() == there);
}

fn empty_request(fixture: &Fixture) {
    let target = fixture.serve_one(|mut stream| {
        assert!(read_all(&stream).is_empty());
        stream.write_all(b"answer").unwrap();
    });
    let (_vsudd, port) = fixture.forward(&[]);
    let client = fixture.connect(port);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), b"answer");
    target.join().unwrap();
}

fn target_shuts_reading(fixture: &Fixture) {
    let (go, going) = mpsc::channel();
    let target = fixture.serve_one(move |mut stream| {
        stream.shutdown(Shutdown::Read).unwrap();
        going.recv().unwrap();
        stream.write_all(b"still here").unwrap();
    });
    let (_vsudd, port) = fixture.forward(&[]);
    let client = fixture.connect(port);
    write_until_refused(&client);
    go.send(()).unwrap();
    assert_eq!(read_what_comes(&client), b"still here");
    target.join().unwrap();
}

fn client_shuts_reading(fixture: &Fixture) {
    let there = Noise::new(1).bytes(MUCH);
    let (refused, was_refused) = mpsc::channel();
    let target = fixture.serve_one(move |stream| {
        write_until_refused(&stream);
        refused.send(()).unwrap();
        read_what_comes(stream)
    });
    let (_vsudd, port) = fixture.forward(&[]);
    let mut client = fixture.connect(port);
    client.shutdown(Shutdown::Read).unwrap();
    was_refused.recv().unwrap();
    client.write_all(&there).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(target.join().unwrap() == there);
}

fn client_closes(fixture: &Fixture) {
    let there = Noise::new(1).bytes(MUCH);
    let target = fixture.serve_one(|stream| {
        // Slower than the client: much of it is under way when that closes.
        thread::sleep(Duration::from_millis(50));
        let all = read_all(&stream);
        write_until_refused(&stream);
        all
    });
    let (vsudd, port) = fixture.forward(&[]);
    let mut client = fixture.connect(port);
    client.write_all(&there).unwrap();
    drop(client);
    assert!(target.join().unwrap() == there);
    vsudd.wait_for("connection closed");
}

fn target_closes(fixture: &Fixture) {
    let back = Noise::new(1).bytes(MUCH);
    let answer = back.clone();
    let target = fixture.serve_one(move |mut stream| stream.write_all(&answer).unwrap());
    let (vsudd, port) = fixture.forward(&[]);
    let client = fixture.connect(port);
    thread::sleep(Duration::from_millis(50));
    assert!(read_all(&client) == back);
    write_until_refused(&client);
    target.join().unwrap();
    vsudd.wait_for("connection closed");
}

fn client_closes_in_two_steps(fixture: &Fixture) {
    let (ended, has_ended) = mpsc::channel();
    let target = fixture.serve_one(move |mut stream| {
        assert!(read_all(&stream).is_empty());
        ended.send(()).unwrap();
        until("the refusal", || stream.write(b"x").is_err().then_some(()));
    });
    let (vsudd, port) = fixture.forward(&[]);
    let client = fixture.connect(port);
    client.shutdown(Shutdown::Write).unwrap();
    has_ended.recv().unwrap();
    assert_eq!(vsudd.lines("connection closed").len(), 0);
    drop(client);
    vsudd.wait_for("connection closed");
    target.join().unwrap();
}

fn target_leaves_input(fixture: &Fixture) {
    let back = Noise::new(1).bytes(100_000);
    let answer = back.clone();
    let target = fixture.serve_one(move |mut stream| {
        let mut some = [0; 10];
        stream.read_exact(&mut some).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let (vsudd, port) = fixture.forward(&[]);
    let mut client = fixture.connect(port);
    let _ = client.write_all(&Noise::new(2).bytes(150_000));
    target.join().unwrap();
    assert!(read_what_comes(&client) == back, "all that the target said");
    write_until_refused(&client);
    vsudd.wait_for("connection closed");
}

/// A process that writes to this socket without an end, and has it alone.
fn streamer(socket: impl Into<OwnedFd>) -> Child {
    let socket: OwnedFd = socket.into();
    Command::new("/bin/sh").args(["-c", "exec cat /dev/zero >&0"]).stdin(Stdio::from(socket)).spawn().unwrap()
}

fn kill(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

fn client_killed(fixture: &Fixture) {
    let (begun, has_begun) = mpsc::channel();
    let target = fixture.serve_one(move |mut stream| {
        let mut first = [1];
        stream.read_exact(&mut first).unwrap();
        begun.send(()).unwrap();
        [&first[..], &read_all(stream)].concat()
    });
    let (vsudd, port) = fixture.forward(&[]);
    let process = streamer(fixture.connect(port));
    has_begun.recv().unwrap();
    kill(process);
    assert!(target.join().unwrap().iter().all(|byte| *byte == 0));
    vsudd.wait_for("connection closed");
}

fn target_killed(fixture: &Fixture) {
    let (begun, has_begun) = mpsc::channel();
    let target = fixture.serve_one(move |stream| {
        let process = streamer(stream);
        has_begun.recv().unwrap();
        kill(process);
    });
    let (vsudd, port) = fixture.forward(&[]);
    let mut client = fixture.connect(port);
    // Unread by the target when it is killed: its end is a reset.
    client.write_all(b"unread").unwrap();
    let mut first = [1];
    client.read_exact(&mut first).unwrap();
    begun.send(()).unwrap();
    let got = [&first[..], &read_what_comes(&client)].concat();
    assert!(got.iter().all(|byte| *byte == 0));
    write_until_refused(&client);
    target.join().unwrap();
    vsudd.wait_for("connection closed");
}

fn tcp(fixture: &Fixture) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let port = fixture.port();
    let vsudd = fixture.start(&["-inport", &format!("{port}:tcp:{to}")]);
    let target = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&request).unwrap();
            Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        listener
    });
    for _ in 0..2 {
        let client = fixture.connect(port);
        round_trip(&client);
        assert!(read_what_comes(&client).is_empty());
        write_until_refused(&client);
    }
    until("both ends", || (vsudd.lines("connection closed").len() == 2).then_some(()));
    drop(target.join().unwrap());
    // Nobody listens there any more.
    assert!(read_what_comes(fixture.connect(port)).is_empty());
    vsudd.wait_for("connection closed");
}

fn outward(fixture: &Fixture) {
    let (port, path) = (fixture.port(), fixture.text("out"));
    let _vsudd = fixture.start(&["-outport", &format!("{path}:{port}:local")]);
    let host = fixture.host(port);
    let (there, back) = (Noise::new(1).bytes(MUCH), Noise::new(2).bytes(MUCH));
    let answer = back.clone();
    let hosting = thread::spawn(move || {
        let mut stream = accept(&host);
        let all = read_all(&stream);
        stream.write_all(&answer).unwrap();
        all
    });
    let client = UnixStream::connect(path).unwrap();
    { &client }.write_all(&there).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&client) == back);
    assert!(hosting.join().unwrap() == there);
}
