// SPDX-License-Identifier: Apache-2.0
//! Names to addresses: `/etc/hosts`, then the servers of `/etc/resolv.conf`
//! (resolv.conf(5)). The C library's resolver is not used: in a static
//! program it would want the very C library that the image does not have.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

pub use simple_dns::TYPE;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE};

use super::connect::{LocalPort, connect};
use super::deadline::Deadline;

/// How long a server has before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// Rounds over all servers.
const ROUNDS: usize = 3;
/// As in resolv.conf(5), `MAXNS`.
const MAX_SERVERS: usize = 3;
/// Longest list of search domains that is gone through.
const MAX_SEARCH: usize = 6;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// No server is configured.
    #[error("/etc/resolv.conf names no server")]
    NoServer,
    /// A server has answered that there is none.
    #[error("there is no such name")]
    NoSuchName,
    /// No server has answered, or none with an answer of any use.
    #[error("no name server answered: {0}")]
    NoAnswer(io::Error),
}

/// Where to ask, and what to add to a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    hosts: Vec<(IpAddr, Vec<String>)>,
    servers: Vec<SocketAddr>,
    search: Vec<String>,
}

impl Resolver {
    /// From the files of the system. One that is missing says nothing.
    pub fn system() -> Self {
        let read = |path: &str| fs::read(Path::new(path)).unwrap_or_default();
        let text = |path| String::from_utf8_lossy(&read(path)).into_owned();
        Self::parse(&text("/etc/hosts"), &text("/etc/resolv.conf"))
    }

    /// From the text of `/etc/hosts` and `/etc/resolv.conf`.
    pub fn parse(hosts: &str, resolv_conf: &str) -> Self {
        let mut resolver = Self::default();
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            if let Some(address) = words.next().and_then(|word| word.parse().ok()) {
                resolver.hosts.push((address, words.map(str::to_ascii_lowercase).collect()));
            }
        }
        for line in resolv_conf.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver.servers.extend(address.map(|address| SocketAddr::new(address, 53)));
                }
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        resolver.servers.truncate(MAX_SERVERS);
        resolver.search.truncate(MAX_SEARCH);
        resolver
    }

    /// The addresses of a name, IPv4 first.
    ///
    /// # Errors
    /// [`DnsError`].
    pub fn resolve(&self, name: &str, deadline: Deadline) -> Result<Vec<IpAddr>, DnsError> {
        let bare = name.trim_end_matches('.').to_ascii_lowercase();
        let listed: Vec<IpAddr> = self
            .hosts
            .iter()
            .filter(|(_, names)| names.contains(&bare))
            .map(|(address, _)| *address)
            .collect();
        if !listed.is_empty() {
            return Ok(listed);
        }
        if self.servers.is_empty() {
            return Err(DnsError::NoServer);
        }
        let mut failure = DnsError::NoSuchName;
        for candidate in self.candidates(name) {
            match self.lookup(&candidate, deadline) {
                Err(DnsError::NoSuchName) => {}
                Err(error) => failure = error,
                found => return found,
            }
        }
        Err(failure)
    }

    /// The names to ask for. As with `ndots:1`, a name with a dot in it is
    /// asked for as it is first.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{name}.{}", domain.trim_matches('.')));
        let own = std::iter::once(name.to_owned());
        if name.contains('.') { own.chain(searched).collect() } else { searched.chain(own).collect() }
    }

    /// Asks for both kinds of address at once.
    fn lookup(&self, name: &str, deadline: Deadline) -> Result<Vec<IpAddr>, DnsError> {
        let mut failure = io::Error::from(io::ErrorKind::TimedOut);
        for server in self.servers.iter().cycle().take(self.servers.len() * ROUNDS) {
            if deadline.remaining().is_zero() {
                break;
            }
            match ask(*server, name, deadline.at_most(PATIENCE)) {
                Ok(addresses) if addresses.is_empty() => return Err(DnsError::NoSuchName),
                Ok(addresses) => return Ok(addresses),
                Err(error) => failure = error,
            }
        }
        Err(DnsError::NoAnswer(failure))
    }
}

/// One server: both questions go out together over UDP; an answer that was
/// too long for it is asked for again over TCP.
fn ask(server: SocketAddr, name: &str, deadline: Deadline) -> io::Result<Vec<IpAddr>> {
    let unspecified: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((unspecified, 0))?;
    // A connected socket takes nothing from anybody else and hears of refusals.
    socket.connect(server)?;
    let id = random_id();
    let mut open = vec![(id, TYPE::A), (id.wrapping_add(1), TYPE::AAAA)];
    for (id, kind) in &open {
        socket.send(&query(*id, name, *kind)?)?;
    }
    let mut addresses = Vec::new();
    let mut buffer = [0; 1500];
    while !open.is_empty() {
        socket.set_read_timeout(Some(deadline.left()?))?;
        let count = match socket.recv(&mut buffer) {
            Ok(count) => count,
            // One kind has been answered and the other has not: that will do.
            Err(_) if !addresses.is_empty() => break,
            Err(error) => return Err(error),
        };
        let answer = buffer.get(..count).unwrap_or_default();
        let mut rest = Vec::new();
        for (id, kind) in open {
            match read_answer(answer, id, name, kind) {
                None => rest.push((id, kind)),
                Some(Answer::Addresses(found)) => addresses.extend(found),
                Some(Answer::Truncated) => addresses.extend(ask_over_tcp(server, id, name, kind, deadline)?),
                Some(Answer::Failed) => return Err(io::Error::other("the server cannot answer")),
            }
        }
        open = rest;
    }
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses)
}

fn ask_over_tcp(
    server: SocketAddr,
    id: u16,
    name: &str,
    kind: TYPE,
    deadline: Deadline,
) -> io::Result<Vec<IpAddr>> {
    use std::io::{Read as _, Write as _};
    let (mut wire, _) = connect(&[server], LocalPort::Any, deadline)?;
    let query = query(id, name, kind)?;
    let mut framed = u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend(query);
    wire.write_all(&framed)?;
    let mut length = [0; 2];
    wire.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    wire.read_exact(&mut answer)?;
    match read_answer(&answer, id, name, kind) {
        Some(Answer::Addresses(found)) => Ok(found),
        _ => Err(io::Error::other("the server's answer over TCP is of no use")),
    }
}

fn query(id: u16, name: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// What an answer to one question says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses; none if there is no such name or none of this kind.
    Addresses(Vec<IpAddr>),
    /// It did not fit.
    Truncated,
    /// The server has a problem of its own.
    Failed,
}

/// Reads a datagram; `None` if it does not answer this question. Aliases are
/// followed by the server, so every address in the answer counts.
pub fn read_answer(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Option<Answer> {
    let packet = Packet::parse(bytes).ok()?;
    let question = packet.questions.first()?;
    let asked = question.qname.to_string().eq_ignore_ascii_case(name.trim_end_matches('.'));
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !asked {
        return None;
    }
    if question.qtype != QTYPE::TYPE(kind) {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Answer::Truncated);
    }
    match packet.rcode() {
        RCODE::NoError | RCODE::NameError => {}
        _ => return Some(Answer::Failed),
    }
    let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) => Some(Ipv4Addr::from(a.address).into()),
        RData::AAAA(aaaa) => Some(Ipv6Addr::from(aaaa.address).into()),
        _ => None,
    });
    Some(Answer::Addresses(addresses.collect()))
}

fn random_id() -> u16 {
    u16::try_from(super::client::random() & 0xFFFF).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME};

    #[test]
    fn the_files_of_the_system() {
        let resolver = Resolver::parse(
            "127.0.0.1 localhost # me\n10.0.0.1\tmetaldata Other\nnonsense x\n",
            "# c\nnameserver 10.0.0.53\nnameserver fe80::1\nnameserver x\nsearch a.example b.example.\n",
        );
        assert_eq!(resolver.servers.len(), 2);
        assert_eq!(
            resolver.candidates("metaldata"),
            ["metaldata.a.example", "metaldata.b.example", "metaldata"]
        );
        assert_eq!(resolver.candidates("x.y"), ["x.y", "x.y.a.example", "x.y.b.example"]);
        assert_eq!(resolver.candidates("x."), ["x"]);
        let found = resolver.resolve("OTHER", Deadline::after(Duration::ZERO)).unwrap();
        assert_eq!(found, [IpAddr::from([10, 0, 0, 1])]);
        let none = Resolver::default().resolve("x", Deadline::after(Duration::ZERO));
        assert!(matches!(none, Err(DnsError::NoServer)));
    }

    fn reply(id: u16, build: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new_unchecked("m.example");
        packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
        build(&mut packet);
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn an_answer_counts_only_for_its_question() {
        let name = |text| Name::new_unchecked(text);
        let answer = reply(7, |packet| {
            let alias = RData::CNAME(CNAME(name("n.example")));
            packet.answers.push(ResourceRecord::new(name("m.example"), CLASS::IN, 60, alias));
            let address = RData::A(A { address: Ipv4Addr::new(10, 1, 2, 3).into() });
            packet.answers.push(ResourceRecord::new(name("n.example"), CLASS::IN, 60, address));
        });
        let addresses = Answer::Addresses(vec![[10, 1, 2, 3].into()]);
        assert_eq!(read_answer(&answer, 7, "M.example.", TYPE::A), Some(addresses));
        assert_eq!(read_answer(&answer, 8, "m.example", TYPE::A), None);
        assert_eq!(read_answer(&answer, 7, "other", TYPE::A), None);
        assert_eq!(read_answer(&answer, 7, "m.example", TYPE::AAAA), None);
        assert_eq!(read_answer(b"junk", 7, "m.example", TYPE::A), None);
        let truncated = reply(7, |packet| packet.set_flags(PacketFlag::TRUNCATION));
        assert_eq!(read_answer(&truncated, 7, "m.example", TYPE::A), Some(Answer::Truncated));
        let failed = reply(7, |packet| *packet.rcode_mut() = RCODE::ServerFailure);
        assert_eq!(read_answer(&failed, 7, "m.example", TYPE::A), Some(Answer::Failed));
    }

    #[test]
    fn a_server_is_asked_over_udp() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut buffer = [0; 512];
                let (count, peer) = server.recv_from(&mut buffer).unwrap();
                let query = Packet::parse(&buffer[..count]).unwrap();
                let mut reply = Packet::new_reply(query.id());
                reply.questions = query.questions.clone();
                if query.questions[0].qtype == QTYPE::TYPE(TYPE::A) {
                    let address = RData::A(A { address: Ipv4Addr::new(10, 9, 8, 7).into() });
                    let name = Name::new_unchecked("m.example");
                    reply.answers.push(ResourceRecord::new(name, CLASS::IN, 60, address));
                }
                server.send_to(&reply.build_bytes_vec().unwrap(), peer).unwrap();
            }
        });
        let resolver = Resolver { servers: vec![address], ..Resolver::default() };
        let found = resolver.resolve("m.example", Deadline::after(Duration::from_secs(5))).unwrap();
        assert_eq!(found, [IpAddr::from([10, 9, 8, 7])]);
        thread.join().unwrap();
    }
}
