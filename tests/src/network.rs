// SPDX-License-Identifier: Apache-2.0
//! The other end of a machine's network cable: this process. Frames come and go
//! over a pair of sockets on the loopback interface, so that a test needs
//! neither root nor a device, and nothing of it is seen by any network.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The machine's address, on a network of its own.
pub const MACHINE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Ours.
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MACHINE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SOURCE_PORT: u16 = 40_000;

/// How many packets are under way at once.
const WINDOW: usize = 128;
/// A packet that was not answered in this time was lost, and is sent again.
const LOST: Duration = Duration::from_secs(2);

/// A cable.
#[derive(Debug)]
pub struct Cable {
    socket: UdpSocket,
    qemu: Vec<String>,
}

/// What the machine said to a packet for a port.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Ports that somebody listens on.
    pub open: BTreeSet<u16>,
    /// Ports that were refused.
    pub closed: BTreeSet<u16>,
}

impl Cable {
    /// A cable with one end free.
    pub fn new() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        // QEMU binds the other end by number. The port is free now, and there
        // is nobody here who would take it meanwhile.
        let other = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        socket.connect(other)?;
        let here = socket.local_addr()?;
        let mac = MACHINE_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let qemu = vec![
            "-netdev".to_owned(),
            format!("socket,id=cable,udp={here},localaddr={other}"),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=cable,mac={mac}"),
        ];
        Ok(Self { socket, qemu })
    }

    /// What QEMU must be told.
    pub fn qemu(&self) -> Vec<&str> {
        self.qemu.iter().map(String::as_str).collect()
    }

    /// What makes the machine answer, as a command inside.
    pub fn setup() -> String {
        format!("ip addr add {MACHINE}/24 dev eth0 && ip link set eth0 up")
    }

    /// Asks every TCP port for a connection.
    pub fn scan_tcp(&self) -> Result<Scan> {
        self.scan(tcp_syn, |packet| {
            let (protocol, payload) = ip_payload(packet)?;
            let flags = payload.get(13).filter(|_| protocol == TCP)?;
            let (from, to) = (word(payload, 0)?, word(payload, 2)?);
            let open = flags & 0x12 == 0x12;
            (to == SOURCE_PORT && (open || flags & 0x04 != 0)).then_some((from, open))
        })
    }

    /// Sends a byte to every UDP port. An open one may say nothing: those that
    /// do not refuse it, again and again, are open.
    pub fn scan_udp(&self) -> Result<Scan> {
        self.scan(udp, |packet| {
            let (protocol, payload) = ip_payload(packet)?;
            match protocol {
                // Port unreachable, with the beginning of what it answers.
                ICMP if payload.starts_with(&[3, 3]) => {
                    let (_, quoted) = ip_payload(payload.get(8..)?)?;
                    Some((word(quoted, 2)?, false))
                }
                UDP => Some((word(payload, 0)?, true)),
                _ => None,
            }
        })
    }

    fn scan(&self, probe: fn(u16) -> Vec<u8>, answer: impl Fn(&[u8]) -> Option<(u16, bool)>) -> Result<Scan> {
        let mut scan = Scan::default();
        let mut waiting: Vec<u16> = (1..=u16::MAX).rev().collect();
        // Every packet is sent three times at most.
        for _ in 0..3 {
            let mut round = std::mem::take(&mut waiting);
            while !round.is_empty() {
                let rest = round.len().saturating_sub(WINDOW);
                let mut sent: BTreeSet<u16> = round.split_off(rest).into_iter().collect();
                for &port in &sent {
                    self.send(IPV4, &probe(port))?;
                }
                let deadline = Instant::now() + LOST;
                while !sent.is_empty() && Instant::now() < deadline {
                    let Some(packet) = self.receive(deadline)? else { break };
                    let Some((port, open)) = answer(&packet) else { continue };
                    sent.remove(&port);
                    if open {
                        scan.open.insert(port)
                    } else {
                        scan.closed.insert(port)
                    };
                }
                waiting.extend(sent);
                let heard = !(scan.open.is_empty() && scan.closed.is_empty());
                ensure!(
                    heard || waiting.len() < 3 * WINDOW,
                    "the machine answers to nothing: is its network up?"
                );
            }
        }
        scan.open.extend(waiting);
        Ok(scan)
    }

    /// The next IPv4 packet; questions for our address are answered meanwhile.
    fn receive(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let mut frame = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut frame) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => bail!("the machine's cable: {error}"),
            };
            let frame = frame.get(..length).context("a frame")?;
            match (word(frame, 12), frame.get(14..)) {
                (Some(ARP), Some(question)) => self.answer_arp(question)?,
                (Some(IPV4), Some(packet)) => return Ok(Some(packet.to_vec())),
                _ => {}
            }
        }
    }

    fn answer_arp(&self, question: &[u8]) -> Result<()> {
        let asks = word(question, 6) == Some(1) && question.get(24..28) == Some(&HERE.octets()[..]);
        if !asks {
            return Ok(());
        }
        let mut answer = vec![0, 1, 8, 0, 6, 4, 0, 2];
        answer.extend(MAC);
        answer.extend(HERE.octets());
        answer.extend(MACHINE_MAC);
        answer.extend(MACHINE.octets());
        self.send(ARP, &answer)
    }

    fn send(&self, kind: u16, payload: &[u8]) -> Result<()> {
        let mut frame = MACHINE_MAC.to_vec();
        frame.extend(MAC);
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        self.socket.send(&frame).context("the machine's cable")?;
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The protocol of an IPv4 packet and what is in it.
fn ip_payload(packet: &[u8]) -> Option<(u8, &[u8])> {
    let header = usize::from(packet.first()? & 15) * 4;
    Some((*packet.get(9)?, packet.get(header..)?))
}

/// The Internet checksum, RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(HERE.octets());
    header.extend(MACHINE.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    header
}

fn tcp_syn(port: u16) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(SOURCE_PORT.to_be_bytes());
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x10, 0, 0, 0, 0, 0]);
    let mut pseudo = HERE.octets().to_vec();
    pseudo.extend(MACHINE.octets());
    pseudo.extend([0, TCP, 0, segment.len() as u8]);
    pseudo.extend(&segment);
    let sum = checksum(&pseudo);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(TCP, &segment)
}

fn udp(port: u16) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(SOURCE_PORT.to_be_bytes());
    datagram.extend(port.to_be_bytes());
    // Without a checksum, which UDP over IPv4 allows.
    datagram.extend([0, 9, 0, 0, b'?']);
    ip(UDP, &datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_what_they_should_be() {
        // A packet with its own checksum in it sums up to zero.
        assert_eq!(checksum(&ip(UDP, b"abc")[..20]), 0);
        let (protocol, payload) = (TCP, tcp_syn(80));
        assert_eq!(ip_payload(&payload).unwrap().0, protocol);
        assert_eq!(word(ip_payload(&payload).unwrap().1, 2), Some(80));
        // The example of RFC 1071.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
