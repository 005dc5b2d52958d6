// SPDX-License-Identifier: Apache-2.0
//! Messages with their length: datagram targets, syslog; and READY=1.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::Case;
use crate::fixture::{Fixture, LONG, Noise, Transport, accept, echo, read_what_comes, until};

pub const CASES: &[Case] = &[
    ("messages_go_to_a_datagram_socket_and_answers_come_back", datagrams),
    ("nonsense_in_place_of_a_message_ends_the_connection", nonsense),
    ("syslog_messages_arrive_with_their_length", syslog),
    ("the_last_syslog_message_is_sent_again_on_a_new_connection", syslog_again),
    ("syslog_messages_are_kept_while_the_host_is_away", syslog_kept),
    ("the_host_is_told_when_all_targets_answer", ready),
    ("the_announcement_alone_ends_the_program", ready_alone),
];

fn framed(message: &[u8]) -> Vec<u8> {
    [message.len().to_string().as_bytes(), b" ", message].concat()
}

/// Reads one message.
fn message(mut from: &Socket) -> Vec<u8> {
    let mut length = String::new();
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte).unwrap();
        if byte == *b" " {
            break;
        }
        length.push(byte[0] as char);
    }
    let mut message = vec![0; length.parse().unwrap()];
    from.read_exact(&mut message).unwrap();
    message
}

fn datagrams(fixture: &Fixture) {
    let target = UnixDatagram::bind(fixture.path("target")).unwrap();
    target.set_read_timeout(Some(LONG)).unwrap();
    let port = fixture.port();
    let vsudd = fixture.start(&["-inport", &format!("{port}:unixgram:{}", fixture.text("target"))]);
    let client = fixture.connect(port);
    let mut noise = Noise::new(9);
    let messages: Vec<Vec<u8>> =
        [0, 1, 9, 10, 100_000, 5, 0, 40_000].iter().map(|length| noise.bytes(*length)).collect();
    let stream: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
    let writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for piece in stream.chunks(7001) {
            { &writer }.write_all(piece).unwrap();
        }
    });
    let mut buffer = vec![0; 300_000];
    for sent in &messages {
        let (length, from) = target.recv_from(&mut buffer).unwrap();
        assert!(buffer[..length] == sent[..]);
        target.send_to_addr(&buffer[..length], &from).unwrap();
    }
    writing.join().unwrap();
    for sent in &messages {
        assert!(message(&client) == *sent);
    }
    // The client's end is the connection's, once nobody reads at that end.
    drop(client);
    vsudd.wait_for("connection closed");
}

fn nonsense(fixture: &Fixture) {
    let _target = UnixDatagram::bind(fixture.path("target")).unwrap();
    let port = fixture.port();
    let vsudd = fixture.start(&["-inport", &format!("{port}:unixgram:{}", fixture.text("target"))]);
    let mut client = fixture.connect(port);
    client.write_all(b"<13>no length").unwrap();
    assert!(read_what_comes(&client).is_empty());
    vsudd.wait_for("were cut off or too long");
}

/// A syslog forward; none over vsock's loopback, whose only host is none.
fn start_syslog(fixture: &Fixture) -> Option<(crate::fixture::Vsudd, u32, UnixDatagram)> {
    if let Transport::Vsock(_) = fixture.transport {
        println!("LEFT OUT: -syslog over loopback: it goes to the host");
        return None;
    }
    let (port, path) = (fixture.port(), fixture.path("log"));
    let vsudd = fixture.start(&["-syslog", &format!("{port}:{}", path.display())]);
    let source = UnixDatagram::unbound().unwrap();
    source.connect(path).unwrap();
    Some((vsudd, port, source))
}

fn syslog(fixture: &Fixture) {
    let Some((_vsudd, port, source)) = start_syslog(fixture) else { return };
    let host = fixture.host(port);
    source.send(b"<13>one").unwrap();
    let connection = accept(&host);
    assert_eq!(message(&connection), b"<13>one");
    for number in 0..5000 {
        source.send(format!("<13>message {number}").as_bytes()).unwrap();
        assert_eq!(message(&connection), format!("<13>message {number}").as_bytes());
    }
    source.send(&vec![b'x'; 100_000]).unwrap();
    assert_eq!(message(&connection).len(), 100_000);
}

fn syslog_again(fixture: &Fixture) {
    let Some((_vsudd, port, source)) = start_syslog(fixture) else { return };
    let host = fixture.host(port);
    source.send(b"one").unwrap();
    let first = accept(&host);
    assert_eq!(message(&first), b"one");
    drop(first);
    // Its end is seen although nothing is sent.
    source.send(b"two").unwrap();
    let second = accept(&host);
    assert_eq!(message(&second), b"one");
    assert_eq!(message(&second), b"two");
    source.send(b"three").unwrap();
    drop(second);
    let third = accept(&host);
    let again = message(&third);
    assert!(again == b"two" || again == b"three", "{again:?}");
}

fn syslog_kept(fixture: &Fixture) {
    let Some((vsudd, port, source)) = start_syslog(fixture) else { return };
    source.set_write_timeout(Some(LONG)).unwrap();
    for number in 0..3000 {
        source.send(format!("{number}").as_bytes()).unwrap();
    }
    vsudd.wait_for("messages are kept");
    let host = fixture.host(port);
    let connection = accept(&host);
    for number in 0..3000 {
        assert_eq!(message(&connection), format!("{number}").as_bytes());
    }
    assert!(vsudd.wait_for("answers; messages lost meanwhile").ends_with(": 0"));
    // More than is kept: nobody who logs has to wait, the oldest go.
    drop((connection, host));
    if let Transport::Unix = fixture.transport {
        std::fs::remove_file(fixture.path(&port.to_string())).unwrap();
    }
    for number in 0..3000 {
        source.send(format!("{number:0>1000}").as_bytes()).unwrap();
    }
    let host = fixture.host(port);
    let connection = accept(&host);
    until("the last message", || message(&connection).ends_with(b"2999").then_some(()));
}

fn ready(fixture: &Fixture) {
    let (port, to) = (fixture.port(), fixture.port());
    let host = fixture.host(to);
    let inport = format!("{port}:unix:{}", fixture.text("target"));
    let vsudd = fixture.start(&["-inport", &inport, "-ready", &format!("{to}:local")]);
    vsudd.wait_for("not ready");
    std::thread::sleep(Duration::from_millis(100));
    assert!(host.accept().is_err(), "told although the target is not there");
    fixture.serve(echo);
    assert_eq!(read_what_comes(accept(&host)), b"READY=1\n");
    vsudd.wait_for("everything is in place");
}

fn ready_alone(fixture: &Fixture) {
    let to = fixture.port();
    let flag = format!("{to}:local");
    let start = Instant::now();
    assert_eq!(fixture.run(&["-ready", &flag, "-retry", "200ms"]).code(), Some(1));
    assert!(start.elapsed() >= Duration::from_millis(200));
    let host = fixture.host(to);
    assert!(fixture.run(&["-ready", &flag]).success());
    assert_eq!(read_what_comes(accept(&host)), b"READY=1\n");
}
