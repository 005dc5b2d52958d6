// SPDX-License-Identifier: Apache-2.0
//! `logwrite COMMAND`: runs a command and hands its output to memlogd; what it
//! prints is seen here too. The logs' names are LinuxKit's, `NAME.stdout` and
//! `NAME.stderr`: not those that services have.

use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use crate::arguments::Wrap;

/// Why the command was not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// memlogd did not take its output.
    #[error("cannot hand a log to {0}: {1}")]
    Log(String, #[source] io::Error),
    /// The program.
    #[error("cannot run {0}: {1}")]
    Run(String, #[source] io::Error),
}

/// Runs the command; its exit status is this program's.
///
/// # Errors
/// It could not be run.
pub fn run(options: &Wrap) -> Result<ExitCode, Error> {
    let Some((program, arguments)) = options.command.split_first() else { return Ok(ExitCode::SUCCESS) };
    let outlet = |name: &str| {
        hand_over(&options.socket, name)
            .map_err(|error| Error::Log(options.socket.display().to_string(), error))
    };
    let (stdout, stderr) =
        (outlet(&format!("{}.stdout", options.name))?, outlet(&format!("{}.stderr", options.name))?);
    let failed = |error| Error::Run(program.to_string_lossy().into_owned(), error);
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let copies = [
        child.stdout.take().map(|pipe| copy(OwnedFd::from(pipe), stdout, io::stdout())),
        child.stderr.take().map(|pipe| copy(OwnedFd::from(pipe), stderr, io::stderr())),
    ];
    for copy in copies.into_iter().flatten() {
        let _ = copy.join();
    }
    let status = child.wait().map_err(failed)?;
    let code = status.code().unwrap_or(128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Copies until the command has closed its end. Whoever takes no more is left
/// out; the command goes on.
fn copy(from: OwnedFd, log: File, mut shown: impl io::Write + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut from, mut log) = (File::from(from), Some(log));
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            log = log.take().filter(|mut log| log.write_all(bytes).is_ok());
            let _ = shown.write_all(bytes).and_then(|()| shown.flush());
        }
    })
}

/// Gives memlogd the reading end of a new pipe; returns the other.
fn hand_over(socket: &Path, name: &str) -> io::Result<File> {
    let (reader, writer) = io::pipe()?;
    let sender = UnixDatagram::unbound()?;
    let address = UnixAddr::new(socket)?;
    let descriptors = [reader.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg(
        sender.as_raw_fd(),
        &[IoSlice::new(name.as_bytes())],
        &control,
        MsgFlags::empty(),
        Some(&address),
    )?;
    Ok(File::from(OwnedFd::from(writer)))
}
