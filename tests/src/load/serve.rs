// SPDX-License-Identifier: Apache-2.0
//! The servers.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::thread;

use socket2::Socket;

use super::{Mode, Pattern, Place, Request};

/// What one call writes.
pub const PIECE: usize = 65_536;

/// Serves for ever, each connection in a thread of its own. What is wrong
/// with the bytes of one is said on standard error.
pub fn serve(place: &Place) -> io::Result<()> {
    serve_on(&place.listen()?)
}

/// As [`serve`], with a socket that listens already.
pub fn serve_on(listener: &Socket) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept()?;
        thread::Builder::new().stack_size(128 * 1024).spawn(move || {
            if let Err(error) = answer(&socket)
                && error.kind() == io::ErrorKind::InvalidData
            {
                eprintln!("vsock-load: WRONG: {error}");
            }
        })?;
    }
}

/// One connection.
fn answer(socket: &Socket) -> io::Result<()> {
    let request = Request::read(&mut &*socket)?;
    let mut incoming = Pattern::new(request.seed);
    match request.mode {
        Mode::HalfClose => {
            incoming.read_to_end(&mut &*socket)?;
            send(socket, &request)?;
        }
        Mode::Duplex => {
            let writer = socket.try_clone()?;
            let sending = thread::spawn(move || send(&writer, &request));
            let received = incoming.read(&mut &*socket, request.there);
            sending.join().unwrap_or(Ok(()))?;
            received?;
        }
        Mode::Abandon => {
            let writer = socket.try_clone()?;
            let sending = thread::spawn(move || send(&writer, &request));
            // What comes is the beginning of what was sent, whatever ends it.
            let received = incoming.read_to_end(&mut &*socket);
            let _ = socket.shutdown(Shutdown::Both);
            let _ = sending.join();
            return received;
        }
        Mode::Blind => {
            incoming.count = discard(socket, request.there)?;
            send(socket, &request)?;
        }
    }
    (&*socket).write_all(&incoming.count.to_le_bytes())?;
    // The client closes first.
    (&*socket).read_exact(&mut [0])
}

fn send(socket: &Socket, request: &Request) -> io::Result<()> {
    Pattern::new(!request.seed).write(&mut &*socket, request.back, PIECE)
}

/// Reads so many bytes and no more; fewer only where the stream ends.
pub fn discard(mut socket: &Socket, count: u64) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut got = 0;
    while got < count {
        let most = usize::try_from(count - got).unwrap_or(PIECE).min(PIECE);
        match socket.read(&mut buffer[..most])? {
            0 => break,
            now => got += now as u64,
        }
    }
    Ok(got)
}

/// Serves connections: one byte and its echo, then the client's end. In this
/// thread, one after the other, or `each` in a thread of its own.
pub fn serve_bytes(place: &Place, each: bool) -> io::Result<()> {
    let listener = place.listen()?;
    loop {
        let (socket, _) = listener.accept()?;
        if each {
            thread::Builder::new().stack_size(128 * 1024).spawn(move || echo_byte(&socket))?;
        } else {
            echo_byte(&socket);
        }
    }
}

/// A client that is gone already is the next one's business.
fn echo_byte(mut socket: &Socket) {
    let mut byte = [0];
    if socket.read_exact(&mut byte).is_ok() {
        let _ = socket.write_all(&byte);
        let _ = socket.read(&mut byte);
    }
}
