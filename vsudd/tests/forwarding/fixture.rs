// SPDX-License-Identifier: Apache-2.0
//! vsudd as a process of its own, and the sockets around it.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// Longer than anything here takes, also in an emulated machine.
pub const LONG: Duration = Duration::from_secs(60);

/// What stands for vsock.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Unix sockets in a directory, one a port: everywhere.
    Unix,
    /// vsock's loopback, with this program: where the kernel has it.
    Vsock(PathBuf),
}

impl Transport {
    /// `VSUDD_ON_VSOCK` names the program to try on vsock.
    pub fn chosen() -> Self {
        std::env::var_os("VSUDD_ON_VSOCK").map_or(Self::Unix, |program| Self::Vsock(program.into()))
    }
}

/// What a case needs: a directory, ports of its own, vsudd.
pub struct Fixture {
    pub transport: Transport,
    directory: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Self { transport: Transport::chosen(), directory: tempfile::tempdir().unwrap() }
    }

    /// A port nobody used before.
    pub fn port(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(20_000);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn address(&self, port: u32, listen: bool) -> (Domain, SockAddr) {
        match self.transport {
            Transport::Unix => (Domain::UNIX, SockAddr::unix(self.path(&port.to_string())).unwrap()),
            Transport::Vsock(_) => (Domain::VSOCK, SockAddr::vsock(if listen { u32::MAX } else { 1 }, port)),
        }
    }

    /// Starts vsudd with these flags and waits until it forwards.
    pub fn start(&self, flags: &[&str]) -> Vsudd {
        let mut command = self.command(flags);
        command.arg("-v");
        Vsudd::spawn(command)
    }

    /// As `start`, with at most this many descriptors.
    pub fn start_limited(&self, descriptors: u32, flags: &[&str]) -> Vsudd {
        let program = self.command(flags);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]);
        command.arg(program.get_program()).args(program.get_args()).arg("-v");
        Vsudd::spawn(command)
    }

    /// As `start`, with accept4(2) failing so the first so many times:
    /// strace(1) sees to it, behind vsudd's back (-D: vsudd is this process's
    /// child, not strace's).
    pub fn start_failing(&self, error: &str, times: u32, flags: &[&str]) -> Vsudd {
        let program = self.command(flags);
        let mut command = Command::new("strace");
        command.args(["-D", "-qq", "-o", "/dev/null", "-e", "trace=accept4"]);
        command.args(["-e", &format!("inject=accept4:error={error}:when=1..{times}"), "--"]);
        command.arg(program.get_program()).args(program.get_args()).arg("-v");
        Vsudd::spawn(command)
    }

    /// Runs vsudd with these flags to its end.
    pub fn run(&self, flags: &[&str]) -> ExitStatus {
        self.command(flags).stderr(Stdio::null()).status().unwrap()
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = match &self.transport {
            Transport::Unix => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.arg("--serve").arg(self.directory.path());
                command
            }
            Transport::Vsock(program) => Command::new(program),
        };
        command.args(flags);
        command
    }

    /// Starts vsudd with one forward from a port to the socket `target`.
    pub fn forward(&self, more: &[&str]) -> (Vsudd, u32) {
        let port = self.port();
        let rule = format!("{port}:unix:{}", self.text("target"));
        (self.start(&[&["-inport", &rule], more].concat()), port)
    }

    /// Connects to a port.
    pub fn connect(&self, port: u32) -> Socket {
        self.try_connect(port).unwrap()
    }

    pub fn try_connect(&self, port: u32) -> std::io::Result<Socket> {
        let (domain, address) = self.address(port, false);
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_read_timeout(Some(LONG))?;
        socket.set_write_timeout(Some(LONG))?;
        socket.connect(&address)?;
        Ok(socket)
    }

    /// Listens on a port, as a host would; see [`accept`].
    pub fn host(&self, port: u32) -> Socket {
        let (domain, address) = self.address(port, true);
        let socket = Socket::new(domain, Type::STREAM, None).unwrap();
        socket.bind(&address).unwrap();
        socket.listen(64).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Serves the socket `target`: each connection in a thread of its own.
    pub fn serve(&self, serve: impl Fn(UnixStream) + Send + Sync + Clone + 'static) {
        let listener = UnixListener::bind(self.path("target")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let serve = serve.clone();
                thread::spawn(move || serve(limited(stream.unwrap())));
            }
        });
    }

    /// Serves the socket `target` for one connection.
    pub fn serve_one<T: Send + 'static>(
        &self,
        serve: impl FnOnce(UnixStream) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let listener = UnixListener::bind(self.path("target")).unwrap();
        thread::spawn(move || serve(limited(listener.accept().unwrap().0)))
    }
}

/// The next connection to a host.
pub fn accept(host: &Socket) -> Socket {
    let (socket, _) = until("a connection", || host.accept().ok());
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// A stream that fails instead of hanging.
pub fn limited(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// The running program.
pub struct Vsudd {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Vsudd {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.unwrap();
                if std::env::var_os("VSUDD_SHOW").is_some() {
                    eprintln!("    {line}");
                }
                lines.lock().unwrap().push(line);
            }
        });
        let this = Self { child, log };
        this.wait_for("confined:");
        this
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lines of its log with this text.
    pub fn lines(&self, text: &str) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Waits for a line of its log.
    pub fn wait_for(&self, text: &str) -> String {
        until(text, || self.lines(text).first().cloned())
    }

    /// How many descriptors it has.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Its private memory, in KiB: proc_pid_smaps(5).
    pub fn private_memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Processor time it has used, in clock ticks: proc_pid_stat(5).
    pub fn ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after = text.rsplit_once(')').unwrap().1;
        after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        until("its end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Vsudd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something.
pub fn until<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(start.elapsed() < LONG, "waited {LONG:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that are not the same anywhere: an xorshift generator's.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// Writes in pieces of changing length.
pub fn write_in_pieces(mut to: impl std::io::Write, bytes: &[u8], noise: &mut Noise) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = if noise.below(4) == 0 { 200_000 } else { 2000 };
        let piece = 1 + noise.below(most) as usize;
        let (now, later) = rest.split_at(piece.min(rest.len()));
        to.write_all(now).unwrap();
        rest = later;
    }
}

/// Everything up to the end of the stream.
pub fn read_all(mut from: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Everything up to the end or a reset.
pub fn read_what_comes(mut from: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match from.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

/// Waits until writing to it fails; the peer takes nothing more.
pub fn write_until_refused(mut to: impl std::io::Write) {
    let start = Instant::now();
    while start.elapsed() < LONG {
        match to.write_all(b"x") {
            Ok(()) => thread::sleep(Duration::from_millis(1)),
            Err(error) => {
                let refused = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
                assert!(refused, "{error}");
                return;
            }
        }
    }
    panic!("writing goes on although nobody reads");
}

/// One byte there and back.
pub fn round_trip(socket: &Socket) {
    let mut socket = socket;
    socket.write_all(b"?").unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"?");
}

/// Sends back what comes, until the end.
pub fn echo(stream: UnixStream) {
    let mut buffer = vec![0; 65536];
    let mut stream = &stream;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if stream.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}
