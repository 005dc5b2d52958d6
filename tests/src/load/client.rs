// SPDX-License-Identifier: Apache-2.0
//! Many connections that check what comes back.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use socket2::Socket;

use super::serve::{PIECE, discard};
use super::{Mode, Pattern, Place, Request, VERDICT, wrong};

/// How long a client waits after its connection broke.
const PAUSE: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many connections.
    pub connections: u32,
    /// How many at a time.
    pub at_once: u32,
    /// The most bytes each way; a connection has fewer, and often very few.
    pub most: u64,
    /// Whether clients half-close and abandon connections. A device between
    /// may not be able to pass that on.
    pub ends: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Connections that were answered in full.
    pub whole: u32,
    /// Connections that were abandoned, as planned.
    pub abandoned: u32,
    /// Connections that ended early. Every byte that came was right.
    pub broken: u32,
    /// Bytes that came back and were right.
    pub bytes: u64,
    /// Why the first connection broke.
    pub first: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { whole, abandoned, broken, bytes, first } = self;
        write!(f, "whole={whole} abandoned={abandoned} broken={broken} bytes={bytes}")?;
        first.iter().try_for_each(|first| write!(f, " first={first:?}"))
    }
}

/// Does it. A wrong byte is an error, a broken connection is counted.
pub fn stress(place: &Place, plan: Plan) -> Result<Outcome> {
    let next = AtomicU32::new(0);
    let (total, wrongs) = (Mutex::new(Outcome::default()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= plan.connections {
                return;
            }
            let request = request(number, plan);
            let result = connection(place, request);
            let mut total = total.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match result {
                Ok(bytes) if request.mode == Mode::Abandon => {
                    total.abandoned += 1;
                    total.bytes += bytes;
                }
                Ok(bytes) => {
                    total.whole += 1;
                    total.bytes += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    wrongs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(error);
                }
                Err(error) => {
                    total.broken += 1;
                    total.first.get_or_insert_with(|| format!("{request:?}: {error}"));
                    drop(total);
                    // Whoever serves may be about to start again; not all of
                    // the connections are to be spent on that moment.
                    thread::sleep(PAUSE);
                }
            }
        }
    };
    thread::scope(|scope| (0..plan.at_once).for_each(|_| drop(scope.spawn(work))));
    let wrongs = wrongs.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    ensure!(wrongs.is_empty(), "bytes that were not sent: {wrongs:?}");
    Ok(total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// The request of the connection with that number.
fn request(number: u32, plan: Plan) -> Request {
    let hash = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let length = |bits: u64| match bits % 8 {
        0 => 0,
        1..=4 => 1 + bits / 8 % 200,
        5 | 6 => bits / 8 % 20_000,
        _ => bits / 8 % plan.most.max(1),
    };
    let mode = match number % 5 {
        0 | 1 if plan.ends => Mode::HalfClose,
        2 if plan.ends => Mode::Abandon,
        _ => Mode::Duplex,
    };
    let (there, back) = (length(hash >> 8 & 0xff_ffff), length(hash >> 32 & 0xff_ffff));
    Request { mode, seed: number.wrapping_mul(7919), there, back }
}

/// One connection; returns how many bytes came back.
pub fn connection(place: &Place, request: Request) -> io::Result<u64> {
    let socket = place.connect()?;
    request.write(&mut &socket)?;
    if request.mode == Mode::Abandon {
        return abandon(&socket, request);
    }
    let sender = socket.try_clone()?;
    let sending = thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        Pattern::new(request.seed).write(&mut &sender, request.there, PIECE)?;
        match request.mode {
            Mode::HalfClose => sender.shutdown(Shutdown::Write),
            _ => Ok(()),
        }
    })?;
    let read = match request.mode {
        Mode::Blind => discard(&socket, request.back).map(drop),
        _ => Pattern::new(!request.seed).read(&mut &socket, request.back),
    };
    let received = read.and_then(|()| verdict(&socket));
    // The server no longer reads where it no longer answers.
    if received.is_err() {
        let _ = socket.shutdown(Shutdown::Both);
    }
    let sent = sending.join().unwrap_or(Ok(()));
    let arrived = received?;
    sent?;
    if arrived != request.there {
        return Err(wrong(format!("{arrived} bytes arrived of {}", request.there)));
    }
    Ok(request.back)
}

fn verdict(mut socket: &Socket) -> io::Result<u64> {
    let mut bytes = [0; VERDICT];
    socket.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Sends a part, reads a part, and closes with the rest unread.
fn abandon(socket: &Socket, request: Request) -> io::Result<u64> {
    let mut pattern = Pattern::new(!request.seed);
    // At most what the buffers between take, for the server sends as well.
    Pattern::new(request.seed).write(&mut &*socket, (request.there / 2).min(20_000), PIECE)?;
    pattern.read(&mut &*socket, request.back / 2)?;
    Ok(pattern.count)
}

/// Opens so many connections, uses each once, and keeps them while `then` runs.
pub fn idle(place: &Place, count: usize, then: impl FnOnce() -> Result<()>) -> Result<()> {
    let request = Request { mode: Mode::Duplex, seed: 1, there: 100, back: 100 };
    let sockets = (0..count).map(|_| {
        let socket = place.connect()?;
        request.write(&mut &socket)?;
        Pattern::new(request.seed).write(&mut &socket, request.there, PIECE)?;
        Pattern::new(!request.seed).read(&mut &socket, request.back)?;
        verdict(&socket)?;
        Ok(socket)
    });
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    then()?;
    // They are still there.
    for mut socket in &sockets {
        socket.write_all(b".")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::serve;

    /// Without anything between: what this finds later is not its own.
    #[test]
    fn a_plain_socket_passes() {
        let path = crate::paths::fresh_folder("load").unwrap().join("s");
        // A path of a socket has 108 bytes.
        let path = format!("/proc/self/cwd/{}", relative(&path));
        let place = Place::Unix(path.into());
        let listener = place.listen().unwrap();
        thread::spawn(move || serve::serve_on(&listener));
        let plan = Plan { connections: 200, at_once: 4, most: 500_000, ends: true };
        let outcome = stress(&place, plan).unwrap();
        assert_eq!((outcome.whole, outcome.abandoned, outcome.broken), (160, 40, 0), "{outcome}");
        idle(&place, 10, || Ok(())).unwrap();
    }

    fn relative(path: &std::path::Path) -> String {
        let cwd = std::env::current_dir().unwrap();
        let up = cwd.ancestors().position(|above| path.starts_with(above)).unwrap();
        let below = path.strip_prefix(cwd.ancestors().nth(up).unwrap()).unwrap();
        format!("{}{}", "../".repeat(up), below.display())
    }
}
