// SPDX-License-Identifier: Apache-2.0
//! TCP connections: to the first of several addresses that answers, from a
//! port below 1024 where that is asked for, and never longer than a deadline.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_socket, getsockopt,
    setsockopt, socket, sockopt,
};

use super::deadline::Deadline;

/// How long an address has for its answer before the next one is tried beside
/// it (RFC 8305, "Connection Attempt Delay", asks for 100 ms to 2 s).
pub const STAGGER: Duration = Duration::from_millis(150);

/// Which ports a connection may come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalPort {
    /// Any.
    #[default]
    Any,
    /// One below 1024, which says that root asks. Needs CAP_NET_BIND_SERVICE.
    Privileged,
}

/// Privileged ports are tried from the highest down; the lowest have owners.
pub const PRIVILEGED: std::ops::RangeInclusive<u16> = 512..=1023;

/// A connection whose every read and write ends at a deadline.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    deadline: Deadline,
}

impl Wire {
    /// Until when reads and writes may take from now on.
    pub fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Whether the other side has hung up, or sent something nobody asked for.
    pub fn is_stale(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }
}

/// The socket's own timeouts end with EAGAIN.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left()?))?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects to the first address that answers. They are tried in order, each
/// [`STAGGER`] after the one before it or as soon as that has failed. Returns
/// the address too.
///
/// # Errors
/// `TimedOut` at the deadline; the last failure when every address has failed.
pub fn connect(
    addresses: &[SocketAddr],
    port: LocalPort,
    deadline: Deadline,
) -> io::Result<(Wire, SocketAddr)> {
    let mut waiting = addresses.iter();
    let mut attempts: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut next_start = deadline.at_most(Duration::ZERO);
    loop {
        if attempts.is_empty() || next_start.remaining().is_zero() {
            match waiting.next() {
                Some(address) => {
                    match start(*address, port) {
                        Ok(socket) => attempts.push((socket, *address)),
                        Err(error) => failure = error,
                    }
                    next_start = Deadline::after(STAGGER);
                    continue;
                }
                None if attempts.is_empty() => return Err(failure),
                None => {}
            }
        }
        let until = if waiting.len() == 0 { deadline } else { deadline.min(next_start) };
        if deadline.remaining().is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        for index in ready(&attempts, until)?.into_iter().rev() {
            let (socket, address) = attempts.swap_remove(index);
            match getsockopt(&socket, sockopt::SocketError)? {
                0 => return Ok((finish(socket, deadline)?, address)),
                errno => failure = io::Error::from_raw_os_error(errno),
            }
        }
    }
}

/// The attempts that have come to an end, of whatever kind, by their index.
fn ready(attempts: &[(OwnedFd, SocketAddr)], until: Deadline) -> io::Result<Vec<usize>> {
    let mut fds: Vec<PollFd<'_>> =
        attempts.iter().map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLOUT)).collect();
    match poll(&mut fds, poll_timeout(until.remaining())) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ended = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
    Ok(fds.iter().enumerate().filter(|(_, fd)| ended(fd)).map(|(index, _)| index).collect())
}

/// For poll(2), which counts in milliseconds: rounded up, so as not to spin
/// through the last one.
pub fn poll_timeout(time: Duration) -> PollTimeout {
    let millis = time.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

fn start(address: SocketAddr, port: LocalPort) -> io::Result<OwnedFd> {
    match port {
        LocalPort::Any => {
            let socket = new_socket(address)?;
            begin(&socket, address)?;
            Ok(socket)
        }
        LocalPort::Privileged => {
            let mut failure = Errno::EADDRINUSE;
            for port in PRIVILEGED.rev() {
                let socket = new_socket(address)?;
                setsockopt(&socket, sockopt::ReuseAddr, &true)?;
                let local: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
                };
                let bound = bind(socket.as_raw_fd(), &SockaddrStorage::from(local));
                match bound.and_then(|()| begin(&socket, address)) {
                    Ok(()) => return Ok(socket),
                    // Somebody listens on the port, or an earlier connection
                    // from it to the same address is not quite over.
                    Err(errno @ (Errno::EADDRINUSE | Errno::EADDRNOTAVAIL)) => failure = errno,
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(failure.into())
        }
    }
}

fn new_socket(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)
}

fn begin(socket: &OwnedFd, address: SocketAddr) -> nix::Result<()> {
    match connect_socket(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn finish(socket: OwnedFd, deadline: Deadline) -> io::Result<Wire> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    // Requests are written whole: nothing is gained by waiting for more.
    stream.set_nodelay(true)?;
    Ok(Wire { stream, deadline })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    /// A port on which nobody listens: the kernel refuses at once.
    fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn the_first_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let (_, address) = connect(&[closed(), open], LocalPort::Any, soon()).unwrap();
        assert_eq!(address, open);
    }

    #[test]
    fn refused_by_all_is_refused() {
        let error = connect(&[closed(), closed()], LocalPort::Any, soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(&[], LocalPort::Any, soon()).is_err());
    }

    #[test]
    fn an_address_that_swallows_does_not_hold_up_the_next() {
        // A listener whose queue is full swallows the next connection.
        let full = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        bind(full.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let swallow = TcpListener::from(full);
        let address = swallow.local_addr().unwrap();
        let _queued = TcpStream::connect(address).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();

        let start = std::time::Instant::now();
        let (_, taken) = connect(&[address, listener.local_addr().unwrap()], LocalPort::Any, soon()).unwrap();
        assert_eq!(taken, listener.local_addr().unwrap());
        assert!(start.elapsed() >= STAGGER && start.elapsed() < STAGGER * 10, "{:?}", start.elapsed());

        let start = std::time::Instant::now();
        let short = Deadline::after(Duration::from_millis(200));
        let error = connect(&[address], LocalPort::Any, short).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_millis(900));
    }

    #[test]
    fn a_read_ends_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut wire, _) = connect(&[listener.local_addr().unwrap()], LocalPort::Any, soon()).unwrap();
        wire.set_deadline(Deadline::after(Duration::from_millis(50)));
        assert_eq!(wire.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_privileged_port_is_below_1024() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        match connect(&[address], LocalPort::Privileged, soon()) {
            Ok(_) => {
                let (_, peer) = listener.accept().unwrap();
                assert!(PRIVILEGED.contains(&peer.port()), "{peer}");
                // The next one comes from another port, or reuses it.
                connect(&[address], LocalPort::Privileged, soon()).unwrap();
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
