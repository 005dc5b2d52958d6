// SPDX-License-Identifier: Apache-2.0
//! Where connections come from and where they go: vsock, unix, TCP, behind
//! one type. Every socket made here is close-on-exec and never blocks.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::port::Port;

/// The length of a listener's queue. vsock resets what does not fit, so it is
/// as long as `net.core.somaxconn` is by default.
const BACKLOG: i32 = 4096;

/// A vsock context identifier: vsock(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cid(pub u32);

impl Cid {
    /// Listens on every identifier this machine has (`VMADDR_CID_ANY`).
    pub const ANY: Self = Self(u32::MAX);
    /// This machine itself (`VMADDR_CID_LOCAL`, Linux 5.6 on).
    pub const LOCAL: Self = Self(1);
    /// The host (`VMADDR_CID_HOST`).
    pub const HOST: Self = Self(2);
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One end of a forward. Written as systemd writes socket addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A vsock stream: `vsock:CID:PORT`, `vsock::PORT` for any CID.
    Vsock(Cid, Port),
    /// A unix stream socket: `unix:PATH`.
    Unix(PathBuf),
    /// A unix datagram socket: `unixgram:PATH`.
    Datagram(PathBuf),
    /// TCP: `tcp:ADDRESS:PORT`.
    Tcp(SocketAddr),
}

/// Who is at the other end of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A machine, by vsock.
    Machine(Cid),
    /// A process of this user, by a unix socket (`SO_PEERCRED`).
    User(u32),
    /// Somebody whose family has no such identity.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(cid) => write!(f, "CID {cid}"),
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Unknown => f.write_str("unknown peer"),
        }
    }
}

/// A connection on its way out.
#[derive(Debug)]
pub enum Dialled {
    /// It is there.
    Connected(Socket),
    /// It is there, or has failed, when the socket becomes writable.
    Pending(Socket),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(Cid::ANY, port) => write!(f, "vsock::{port}"),
            Self::Vsock(cid, port) => write!(f, "vsock:{cid}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Datagram(path) => write!(f, "unixgram:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl Endpoint {
    /// The file of a unix socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) | Self::Datagram(path) => Some(path),
            Self::Vsock(..) | Self::Tcp(_) => None,
        }
    }

    fn domain(&self) -> Domain {
        match self {
            Self::Vsock(..) => Domain::VSOCK,
            Self::Unix(_) | Self::Datagram(_) => Domain::UNIX,
            Self::Tcp(address) => Domain::for_address(*address),
        }
    }

    fn address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Vsock(cid, port) => Ok(SockAddr::vsock(cid.0, port.number())),
            Self::Unix(path) | Self::Datagram(path) => SockAddr::unix(path),
            Self::Tcp(address) => Ok((*address).into()),
        }
    }

    fn socket(&self) -> io::Result<Socket> {
        let kind = if matches!(self, Self::Datagram(_)) { Type::DGRAM } else { Type::STREAM };
        Socket::new_raw(self.domain(), kind.nonblocking().cloexec(), None)
    }

    /// Binds a socket here, with this file mode if it is a file, and listens
    /// on it unless it is a datagram socket. A socket file that nobody serves
    /// any more is replaced.
    ///
    /// # Errors
    /// `AddrInUse` when somebody serves the file or port; the kernel's.
    pub fn bind(&self, mode: u32) -> io::Result<Socket> {
        let socket = self.socket()?;
        let address = self.address()?;
        if let Some(path) = self.path() {
            self.remove_stale(path)?;
            // Never open to more than its owner between bind(2) and chmod(2).
            let before = umask(Mode::from_bits_truncate(0o177));
            let bound = socket.bind(&address);
            umask(before);
            bound?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        } else {
            socket.bind(&address)?;
        }
        if !matches!(self, Self::Datagram(_)) {
            socket.listen(BACKLOG)?;
        }
        Ok(socket)
    }

    fn remove_stale(&self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(file) if !file.file_type().is_socket() => {
                Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket has that name"))
            }
            Ok(_) => match self.dial() {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
                _ => Err(ErrorKind::AddrInUse.into()),
            },
        }
    }

    /// Starts a connection to here.
    ///
    /// # Errors
    /// The kernel's; [`is_transient`] tells which may pass.
    pub fn dial(&self) -> io::Result<Dialled> {
        let socket = self.socket()?;
        match self {
            Self::Tcp(_) => {
                socket.set_tcp_nodelay(true)?;
                // The peer of a virtual machine can vanish without a word.
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
            }
            // An address of its own, so that the target can answer: an empty
            // name makes the kernel choose an abstract one, unix(7).
            Self::Datagram(_) => socket.bind(&SockAddr::unix("")?)?,
            Self::Vsock(..) | Self::Unix(_) => {}
        }
        match socket.connect(&self.address()?) {
            Ok(()) => Ok(Dialled::Connected(socket)),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(Dialled::Pending(socket)),
            Err(error) => Err(error),
        }
    }

    /// Who connected to a listener bound here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer(&self, connection: &Socket, address: &SockAddr) -> io::Result<Peer> {
        Ok(match self {
            Self::Vsock(..) => {
                address.as_vsock_address().map_or(Peer::Unknown, |(cid, _)| Peer::Machine(Cid(cid)))
            }
            Self::Unix(_) => Peer::User(getsockopt(connection, sockopt::PeerCredentials)?.uid()),
            Self::Datagram(_) | Self::Tcp(_) => Peer::Unknown,
        })
    }
}

/// True for what [`Endpoint::dial`] says where nobody serves the other end yet,
/// where its queue is full, or where this machine is short of something: trying
/// again later makes sense.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::ConnectionRefused
            // vsock has one answer for a port nobody listens on: a reset.
            | ErrorKind::ConnectionReset
            | ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::OutOfMemory
    ) || matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EMFILE | libc::ENFILE | libc::ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(directory: &tempfile::TempDir) -> Endpoint {
        Endpoint::Unix(directory.path().join("s"))
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = unix(&directory);
        drop(endpoint.bind(0o600).unwrap());
        let live = endpoint.bind(0o640).unwrap();
        let mode = fs::metadata(endpoint.path().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(endpoint.bind(0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(matches!(endpoint.dial(), Ok(Dialled::Connected(_))));
        drop(live);
        assert!(is_transient(&endpoint.dial().unwrap_err()));
    }

    #[test]
    fn a_file_is_never_removed() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = unix(&directory);
        fs::write(endpoint.path().unwrap(), "precious").unwrap();
        assert_eq!(endpoint.bind(0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(endpoint.path().unwrap()).unwrap(), b"precious");
    }

    #[test]
    fn a_user_is_known_by_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = unix(&directory);
        let listener = endpoint.bind(0o600).unwrap();
        let _client = endpoint.dial().unwrap();
        let (connection, address) = listener.accept().unwrap();
        let me = nix::unistd::getuid().as_raw();
        assert_eq!(endpoint.peer(&connection, &address).unwrap(), Peer::User(me));
    }

    #[test]
    fn printed_as_systemd_writes_them() {
        let port = Port::new(7).unwrap();
        let text = |endpoint: Endpoint| endpoint.to_string();
        assert_eq!(text(Endpoint::Vsock(Cid::ANY, port)), "vsock::7");
        assert_eq!(text(Endpoint::Vsock(Cid::HOST, port)), "vsock:2:7");
        assert_eq!(text(Endpoint::Datagram("/dev/log".into())), "unixgram:/dev/log");
        assert_eq!(text(Endpoint::Tcp(([127, 0, 0, 1], 80).into())), "tcp:127.0.0.1:80");
    }
}
