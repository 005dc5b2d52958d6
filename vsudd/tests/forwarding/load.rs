// SPDX-License-Identifier: Apache-2.0
//! Many connections, long ones, stuck ones; what they cost and leave behind.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vsudd::buffer::{PLENTY, SMALL};

use crate::Case;
use crate::fixture::{Fixture, Noise, echo, read_all, round_trip, until};

pub const CASES: &[Case] = &[
    ("many_connections_leave_nothing_behind", many),
    ("a_thousand_idle_connections_cost_little", thousand_idle),
    ("stuck_connections_hold_up_no_other", stuck),
    ("a_connection_that_never_pauses_holds_up_no_other", greedy),
    ("nothing_runs_while_nothing_happens", idle_time),
    ("many_at_once_while_the_target_restarts", restarts),
];

fn many(fixture: &Fixture) {
    fixture.serve(echo);
    let (vsudd, port) = fixture.forward(&[]);
    let some = |count: usize| {
        for number in 0..count {
            let mut client = fixture.connect(port);
            if number % 3 == 0 {
                round_trip(&client);
            } else if number % 3 == 1 {
                client.write_all(b"unanswered").unwrap();
            }
        }
    };
    let descriptors = vsudd.descriptors();
    // All of them, to the last: one may not even have been accepted when its
    // client has closed it, and its sockets are there when its end is told.
    let quiet = |count: usize| {
        until(&format!("{count} connections to end and {descriptors} descriptors to be left"), || {
            let told = vsudd.lines("connection closed").len();
            assert!(told <= count, "{told} ends of {count} connections");
            (told == count && vsudd.descriptors() == descriptors).then_some(())
        });
        vsudd.private_memory()
    };
    // What is allocated once is there after the first few.
    some(200);
    let before = quiet(200);
    // Fewer where a machine is emulated.
    let count = std::env::var("VSUDD_CONNECTIONS").map_or(10_000, |count| count.parse().unwrap());
    some(count);
    let after = quiet(200 + count);
    println!(
        "    {count} connections: {descriptors} descriptors, from {before} to {after} KiB of private memory"
    );
    assert!(after <= before + 64, "private memory grew from {before} to {after} KiB");
}

fn thousand_idle(fixture: &Fixture) {
    fixture.serve(echo);
    let (vsudd, port) = fixture.forward(&[]);
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let client = fixture.connect(port);
            // Used once: what that took has to be given back.
            round_trip(&client);
            client
        })
        .collect();
    let memory = vsudd.private_memory();
    println!("    1000 idle connections: {memory} KiB of private memory");
    assert!(memory <= 4096, "{memory} KiB");
    assert!(vsudd.descriptors() >= 2000);
    clients.iter().for_each(round_trip);
}

/// More than there are buffers of full size.
const STUCK: u64 = 100;

fn stuck(fixture: &Fixture) {
    // Says what it is first; reads nothing if it is to be stuck.
    fixture.serve(|mut stream| {
        let mut kind = [0];
        stream.read_exact(&mut kind).unwrap();
        if &kind == b"s" {
            thread::sleep(Duration::from_secs(600));
        }
        echo(stream);
    });
    let (vsudd, port) = fixture.forward(&[]);
    let mut held = Vec::new();
    let noise = Noise::new(5).bytes(100_000);
    for _ in 0..STUCK {
        let mut client = fixture.connect(port);
        client.write_all(b"s").unwrap();
        client.set_nonblocking(true).unwrap();
        // Until nobody takes anything any more.
        let mut refusals = 0;
        while refusals < 10 {
            if client.write(&noise).is_err() {
                refusals += 1;
                thread::sleep(Duration::from_millis(2));
            }
        }
        held.push(client);
    }
    let memory = vsudd.private_memory();
    println!("    {STUCK} stuck connections: {memory} KiB of private memory");
    // A buffer each, and small ones when there are many.
    assert!(memory < (PLENTY as u64 + STUCK * SMALL as u64) / 1024 + 2048, "{memory} KiB");
    for _ in 0..20 {
        let mut client = fixture.connect(port);
        client.write_all(b"e").unwrap();
        let bytes = Noise::new(6).bytes(300_000);
        let writer = client.try_clone().unwrap();
        let sent = bytes.clone();
        let writing = thread::spawn(move || {
            { &writer }.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_all(&client) == bytes);
        writing.join().unwrap();
    }
    drop(held);
}

fn greedy(fixture: &Fixture) {
    fixture.serve(|mut stream| {
        let mut kind = [0];
        if stream.read_exact(&mut kind).is_err() {
            return;
        }
        if &kind == b"g" {
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        } else {
            echo(stream);
        }
    });
    let (_vsudd, port) = fixture.forward(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let streams: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, stop) = (fixture.connect(port), Arc::clone(&stop));
            thread::spawn(move || {
                let noise = Noise::new(8).bytes(500_000);
                client.write_all(b"g").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    client.write_all(&noise).unwrap();
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        let start = Instant::now();
        let mut client = fixture.connect(port);
        client.write_all(b"e").unwrap();
        round_trip(&client);
        slowest = slowest.max(start.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    streams.into_iter().for_each(|stream| stream.join().unwrap());
    println!("    slowest of 30 connections beside 4 endless streams: {slowest:?}");
    assert!(slowest < Duration::from_secs(10));
}

fn idle_time(fixture: &Fixture) {
    fixture.serve(echo);
    let (vsudd, port) = fixture.forward(&[]);
    let clients: Vec<_> = (0..10).map(|_| fixture.connect(port)).collect();
    // Ends of all kinds that stay half open.
    for (number, client) in clients.iter().enumerate() {
        round_trip(client);
        if number % 2 == 0 {
            client.shutdown(Shutdown::Read).unwrap();
        }
    }
    thread::sleep(Duration::from_secs(2));
    let (ticks, switches) = (vsudd.ticks(), switches(&vsudd));
    thread::sleep(Duration::from_secs(2));
    assert_eq!((vsudd.ticks(), self::switches(&vsudd)), (ticks, switches), "woken for nothing");
}

/// How often it has gone to sleep: proc_pid_status(5).
fn switches(vsudd: &crate::fixture::Vsudd) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", vsudd.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

fn restarts(fixture: &Fixture) {
    // A target that is gone for a moment, again and again, and breaks what it
    // serves when it goes.
    let path = fixture.path("target");
    let stop = Arc::new(AtomicBool::new(false));
    let going = Arc::clone(&stop);
    let target = thread::spawn(move || {
        let mut lives = 0;
        while !going.load(Ordering::Relaxed) {
            let _ = std::fs::remove_file(&path);
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            let start = Instant::now();
            let mut streams = Vec::new();
            while start.elapsed() < Duration::from_millis(100) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        streams.push(stream.try_clone().unwrap());
                        thread::spawn(move || echo(stream));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
            drop(listener);
            streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
            thread::sleep(Duration::from_millis(30));
            lives += 1;
        }
        lives
    });
    let (vsudd, port) = fixture.forward(&[]);
    let (whole, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 0..8 {
            let (whole, broken) = (&whole, &broken);
            scope.spawn(move || {
                let mut noise = Noise::new(seed);
                for _ in 0..40 {
                    let length = noise.below(60_000) as usize;
                    let bytes = noise.bytes(length);
                    let mut client = fixture.connect(port);
                    let mut answer = Vec::new();
                    let _ = client.write_all(&bytes);
                    let _ = client.shutdown(Shutdown::Write);
                    let _ = client.read_to_end(&mut answer);
                    assert!(bytes.starts_with(&answer), "other bytes than were sent");
                    if answer == bytes { whole } else { broken }.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    stop.store(true, Ordering::Relaxed);
    let lives = target.join().unwrap();
    println!("    {whole:?} answered in full and {broken:?} broken in {lives} lives of the target");
    assert!(whole.load(Ordering::Relaxed) > 100);
    until("all to end", || (vsudd.lines("connection closed").len() >= 320).then_some(()));
}
