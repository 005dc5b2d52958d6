// SPDX-License-Identifier: Apache-2.0
//! Ports: whether they take a connection.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use init::sys::namespace;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, connect, getsockopt, socket, sockopt::SocketError,
};
use tokio::net::TcpSocket;

use crate::watch::Readable;

/// The context id by which a machine reaches itself (vsock(7)).
const LOCAL: u32 = 1;

/// Connects from inside the network namespace of a process: `localhost` is
/// the container's own there.
pub(super) async fn tcp(pid: u32, hosts: &[IpAddr], port: u16) -> Result<(), String> {
    let mut problem = "no address".to_owned();
    for host in hosts {
        let address = SocketAddr::new(*host, port);
        let connected = async {
            let socket = TcpSocket::from_std_stream(TcpStream::from(socket_of(pid, host)?));
            socket.connect(address).await
        };
        match connected.await {
            Ok(_) => return Ok(()),
            Err(error) => problem = format!("{address}: {error}"),
        }
    }
    Err(problem)
}

/// A socket belongs to the namespace it was made in, whoever uses it.
fn socket_of(pid: u32, host: &IpAddr) -> io::Result<OwnedFd> {
    let family = if host.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let make = || Ok(socket(family, SockType::Stream, flags, None)?);
    let theirs = fs::File::open(namespace::path(pid.cast_signed(), "net"))?;
    if theirs.metadata()?.ino() == fs::metadata("/proc/self/ns/net")?.ino() {
        return make();
    }
    namespace::inside_network(theirs.as_fd(), make)
}

/// Connects to a port of this machine. That takes the kernel's vsock_loopback.
pub(super) async fn vsock(port: u32) -> Result<(), String> {
    let told = |error: io::Error| format!("vsock port {port}: {error}");
    match vsock_connect(port).await {
        // No way to the machine itself: nothing asks for that module by name.
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENODEV | nix::libc::EAFNOSUPPORT)) => {
            let load = || crate::modules::modprobe_main(["-q", "-s", "vsock_loopback"].map(Into::into));
            // Without the module the next try says what is missing.
            let _ = tokio::task::spawn_blocking(load).await;
            vsock_connect(port).await.map_err(told)
        }
        other => other.map_err(told),
    }
}

async fn vsock_connect(port: u32) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &VsockAddr::new(LOCAL, port)) {
        Ok(()) => return Ok(()),
        Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = Readable::new(fd)?;
    socket.writable().await?;
    match getsockopt(&socket.as_fd(), SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_port_takes_connections_or_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((local, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.block_on(async {
            assert_eq!(tcp(std::process::id(), &[local], port).await, Ok(()));
            drop(listener);
            let closed = tcp(std::process::id(), &[local], port).await.unwrap_err();
            assert!(closed.starts_with(&format!("127.0.0.1:{port}: ")), "{closed}");
            assert!(closed.contains("refused"), "{closed}");
        });
    }
}
