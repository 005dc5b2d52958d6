// SPDX-License-Identifier: Apache-2.0
//! The plainest forwarders there are, to compare with: a thread a direction,
//! calls that block. One moves bytes through a buffer, the other lets the
//! kernel move them through a pipe, splice(2).

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use socket2::Socket;

use super::Place;

/// How bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Through a buffer of this many bytes.
    Buffer(usize),
    /// Through a pipe of this many bytes.
    Pipe(usize),
}

/// Forwards connections from one place to another, for ever.
pub fn forward(from: &Place, to: &Place, means: Means) -> io::Result<()> {
    let listener = from.listen()?;
    loop {
        let (client, _) = listener.accept()?;
        let target = to.connect()?;
        let (inward, outward) = ((client.try_clone()?, target.try_clone()?), (target, client));
        for (source, sink) in [inward, outward] {
            thread::spawn(move || {
                let _ = match means {
                    Means::Buffer(size) => copy(&source, &sink, size),
                    Means::Pipe(size) => pipe(&source, &sink, size),
                };
                let _ = sink.shutdown(Shutdown::Write);
            });
        }
    }
}

fn copy(mut source: &Socket, mut sink: &Socket, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(()),
            count => sink.write_all(&buffer[..count])?,
        }
    }
}

fn pipe(source: &Socket, sink: &Socket, size: usize) -> io::Result<()> {
    let (out, into) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&into, FcntlArg::F_SETPIPE_SZ(i32::try_from(size).unwrap_or(i32::MAX)))?;
    loop {
        let mut left = splice(source, None, &into, None, size, SpliceFFlags::SPLICE_F_MOVE)?;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            left -= splice(&out, None, sink, None, left, SpliceFFlags::SPLICE_F_MOVE)?;
        }
    }
}
