// SPDX-License-Identifier: Apache-2.0
//! A small HTTP server for tests, on a port of the loopback interface. It
//! knows nothing of the code under test: requests and answers are text.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the client sent.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub peer: SocketAddr,
}

impl Received {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// What the server sends back.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    close: bool,
    hang_up: bool,
    drip: Option<Duration>,
    delay: Duration,
}

impl Reply {
    pub fn text(body: impl AsRef<[u8]>) -> Self {
        Self::status(200).with_body(body)
    }

    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::text(body).field("Content-Type", "application/json")
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with_body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub fn field(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// Says that it closes the connection, and does.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Closes the connection without having said so.
    pub fn hanging_up(mut self) -> Self {
        self.hang_up = true;
        self
    }

    /// Sends the body one byte at a time.
    pub fn dripping(mut self, pause: Duration) -> Self {
        self.drip = Some(pause);
        self
    }

    /// Sends nothing before this time is over.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Handler = Box<dyn FnMut(&Received) -> Reply + Send>;

struct Shared {
    handler: Mutex<Handler>,
    requests: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    over: AtomicBool,
}

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves every connection in a thread of its own.
    pub fn start(handler: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        Self::run(TcpListener::bind("127.0.0.1:0").unwrap(), handler, true)
    }

    /// The same at an address of the test's choice.
    pub fn at(address: &str, handler: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        Self::run(TcpListener::bind(address).unwrap(), handler, true)
    }

    /// Serves a connection to its end before it takes the next.
    pub fn one_at_a_time(handler: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        Self::run(TcpListener::bind("127.0.0.1:0").unwrap(), handler, false)
    }

    fn run(
        listener: TcpListener,
        handler: impl FnMut(&Received) -> Reply + Send + 'static,
        parallel: bool,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Mutex::new(Box::new(handler)),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                own.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&own);
                if parallel {
                    std::thread::spawn(move || serve(stream, &shared));
                } else {
                    serve(stream, &shared);
                }
            }
        });
        // One that serves a connection to its end may not come back.
        Self { address, shared, accepting: parallel.then_some(accepting) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// The same as one line each: method and path.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|r| format!("{} {}", r.method, r.path)).collect()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes accept(2), which then sees that it is over.
        drop(TcpStream::connect(self.address));
        // The address is free when the listener is gone.
        self.accepting.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let peer = stream.peer_addr().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = receive(&mut reader, peer) {
        shared.requests.lock().unwrap().push(request.clone());
        let reply = (shared.handler.lock().unwrap())(&request);
        if send(reader.get_mut(), &reply).is_err() || reply.close || reply.hang_up {
            return;
        }
    }
}

fn receive(reader: &mut BufReader<TcpStream>, peer: SocketAddr) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = fields.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Received { method, path, fields, body, peer })
}

fn send(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    std::thread::sleep(reply.delay);
    let mut head = format!("HTTP/1.1 {} Whatever\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.fields {
        head += &format!("{name}: {value}\r\n");
    }
    if reply.close {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    let Some(pause) = reply.drip else {
        bytes.extend(&reply.body);
        return stream.write_all(&bytes);
    };
    stream.write_all(&bytes)?;
    for byte in &reply.body {
        std::thread::sleep(pause);
        stream.write_all(&[*byte])?;
    }
    Ok(())
}
