// SPDX-License-Identifier: Apache-2.0
//! Whether a service is ready, and whether it is well: `lkinit.ready` and
//! `lkinit.healthcheck`.
//!
//! Where the kernel tells of what is waited for, nobody asks twice: files and
//! sockets come into a folder that is watched, and so do lines into a log.
//! Ports, and programs that are run, have no event and are tried again and
//! again, with a pause that doubles.

mod exec;
mod log;
mod net;
mod place;
mod words;

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use regex_lite::Regex;
use tokio::time::{sleep, timeout};

use crate::engine::{Engine, Id};
use crate::launch::Output;
use crate::reaper::Reaper;
use log::Tail;

/// The first and the longest pause between two tries of what has no event.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `started`: nothing; its process runs.
    Started,
    /// `file:PATH`: a file is there, in the container.
    File(PathBuf),
    /// `unix:PATH`: a socket there takes a connection.
    Unix(PathBuf),
    /// `tcp:HOST:PORT`: the port takes a connection, in the container's
    /// network. `localhost` is two addresses.
    Tcp(Vec<IpAddr>, u16),
    /// `vsock:PORT`: the port takes a connection from this machine.
    Vsock(u32),
    /// `log:REGEX`: a line of its output matches.
    Log(String),
    /// `exec:CMD`: a command, run in the container, ends with status 0.
    Exec(Vec<String>),
}

impl Probe {
    /// Reads an annotation's value.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "started" {
            return Ok(Self::Started);
        }
        let known = "started, file:PATH, unix:PATH, tcp:HOST:PORT, vsock:PORT, log:REGEX, exec:CMD";
        let Some((kind, what)) = text.split_once(':') else {
            return Err(format!("is none of {known}"));
        };
        match kind {
            "file" => path(what).map(Self::File),
            "unix" => path(what).map(Self::Unix),
            "tcp" => address(what).map(|(hosts, port)| Self::Tcp(hosts, port)),
            "vsock" => match what.parse() {
                Ok(port) => Ok(Self::Vsock(port)),
                Err(_) => Err("has no port number".to_owned()),
            },
            "log" => match Regex::new(what) {
                Ok(_) => Ok(Self::Log(what.to_owned())),
                Err(error) => Err(format!("has no regular expression: {error}")),
            },
            "exec" => match words::split(what) {
                Some(words) if !words.is_empty() => Ok(Self::Exec(words)),
                Some(_) => Err("has no command".to_owned()),
                None => Err("has a quotation mark without its other half".to_owned()),
            },
            _ => Err(format!("is none of {known}")),
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_started(&self) -> bool {
        matches!(self, Self::Started)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(hosts, port) => match hosts.as_slice() {
                [IpAddr::V4(host)] => write!(f, "tcp:{host}:{port}"),
                [IpAddr::V6(host)] => write!(f, "tcp:[{host}]:{port}"),
                _ => write!(f, "tcp:localhost:{port}"),
            },
            Self::Vsock(port) => write!(f, "vsock:{port}"),
            Self::Log(regex) => write!(f, "log:{regex}"),
            Self::Exec(words) => write!(f, "exec:{}", words.join(" ")),
        }
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') { Ok(text.into()) } else { Err("has no absolute path".to_owned()) }
}

/// `HOST:PORT`. Names other than `localhost` would need a resolver.
fn address(text: &str) -> Result<(Vec<IpAddr>, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port number")?;
    let port = port.parse().map_err(|_| "has no port number")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let hosts = match host {
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        host => vec![host.parse().map_err(|_| "has neither localhost nor an IP address")?],
    };
    Ok((hosts, port))
}

/// The service that is looked at, in one of its lives.
pub struct Target {
    /// Its first process.
    pub pid: u32,
    /// Who runs it.
    pub engine: Rc<dyn Engine>,
    /// Its container.
    pub id: Id,
    /// Our children.
    pub reaper: Reaper,
    /// Where its output is.
    pub output: Rc<Output>,
    /// A folder of ours, for what a check needs on disk.
    pub folder: &'static Path,
}

/// A probe of one service.
pub struct Checker {
    probe: Probe,
    target: Target,
    tail: Result<Tail, String>,
    /// What the last look has found, in words; for people.
    finding: Rc<RefCell<String>>,
}

impl Checker {
    /// Looks at `target` by `probe`; what it finds is written to `finding`.
    pub fn new(probe: Probe, target: Target, finding: Rc<RefCell<String>>) -> Self {
        let tail = match &probe {
            Probe::Log(regex) => Tail::new(regex, &target.output),
            _ => Err(String::new()),
        };
        Self { probe, target, tail, finding }
    }

    /// Waits until it is ready, for ever if need be.
    pub async fn ready(mut self) {
        let mut pause = PAUSE.0;
        loop {
            match self.wait().await {
                Ok(()) => return,
                Err(problem) => self.finding.replace(problem),
            };
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One try; it waits where there is an event to wait for.
    async fn wait(&mut self) -> Result<(), String> {
        match (&self.probe, &mut self.tail) {
            (Probe::File(path), _) => {
                self.finding.replace(format!("{} is not there", path.display()));
                place::appears(self.target.pid, path).await
            }
            (Probe::Unix(path), _) => {
                self.finding.replace(format!("{} is not there", path.display()));
                place::appears(self.target.pid, path).await?;
                place::connect(self.target.pid, path).await
            }
            (Probe::Log(_), Ok(tail)) => {
                self.finding.replace("no line has matched".to_owned());
                tail.matching_line().await
            }
            _ => self.check(Duration::from_secs(10)).await,
        }
    }

    /// One look, which takes `limit` at most.
    ///
    /// # Errors
    /// What it has found instead, in words.
    pub async fn check(&mut self, limit: Duration) -> Result<(), String> {
        let target = &self.target;
        let looked = async {
            match (&self.probe, &mut self.tail) {
                (Probe::Started, _) => Ok(()),
                (Probe::File(path), _) => place::find(target.pid, path).map(drop),
                (Probe::Unix(path), _) => place::connect(target.pid, path).await,
                (Probe::Tcp(hosts, port), _) => net::tcp(target.pid, hosts, *port).await,
                (Probe::Vsock(port), _) => net::vsock(*port).await,
                (Probe::Log(_), Ok(tail)) => match tail.has_matching_line().await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("no line has matched since the last check".to_owned()),
                    Err(problem) => Err(problem),
                },
                (Probe::Log(_), Err(problem)) => Err(problem.clone()),
                // It has its own clock, since it leaves a process to end.
                (Probe::Exec(words), _) => exec::run(target, words, limit).await,
            }
        };
        match timeout(limit + Duration::from_secs(2), looked).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:.1}s", limit.as_secs_f32())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_looked_at() {
        for text in [
            "started",
            "file:/run/x",
            "unix:/run/x.sock",
            "tcp:127.0.0.1:80",
            "tcp:localhost:80",
            "tcp:[::1]:80",
            "vsock:1024",
            "log:^ready (yes|no)",
            "exec:/bin/true -x",
        ] {
            assert_eq!(Probe::parse(text).map(|probe| probe.to_string()), Ok(text.to_owned()));
        }
        let quoted = Probe::parse("exec:/bin/sh -c 'a b'").unwrap();
        assert_eq!(quoted, Probe::Exec(vec!["/bin/sh".into(), "-c".into(), "a b".into()]));
    }

    #[test]
    fn what_cannot_is_told() {
        for (text, problem) in [
            ("ready", "is none of "),
            ("http:x", "is none of "),
            ("file:x", "has no absolute path"),
            ("unix:", "has no absolute path"),
            ("tcp:80", "has no port number"),
            ("tcp:127.0.0.1:99999", "has no port number"),
            ("tcp:example.org:80", "has neither localhost nor"),
            ("vsock:x", "has no port number"),
            ("log:(", "has no regular expression: "),
            ("exec: ", "has no command"),
            ("exec:sh -c 'x", "has a quotation mark without"),
        ] {
            let found = Probe::parse(text).unwrap_err();
            assert!(found.starts_with(problem), "{text}: {found}");
        }
    }
}
