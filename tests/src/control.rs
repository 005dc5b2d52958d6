// SPDX-License-Identifier: Apache-2.0
//! Commands inside a booted machine, with their exit status and output.
//!
//! The machine's second serial port is a socket here. Inside, a script that
//! [`SCRIPT_PATH`] starts as one of the first of `/etc/init.d` reads requests
//! from it: it needs the image's busybox and nothing of what is being tested,
//! not even containers. A request is a line of number, time limit and command,
//! the answer what the command printed and a line with its status; commands
//! and output are base64, so nothing in them can be taken for the frame.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::vm::PATIENCE;

/// Where the image has the script, so that it is started before every other.
pub const SCRIPT_PATH: &str = "etc/init.d/000-control";

/// The script.
pub const SCRIPT: &str = include_str!("control.sh");

/// The serial port's input buffer holds 4096 bytes and has no flow control.
const LONGEST: usize = 3000;

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 143 when it took too long.
    pub status: i32,
    /// What it printed, on both streams.
    pub text: String,
}

/// The channel to one machine.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    next: u32,
    ready: bool,
}

impl Control {
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader, next: 1, ready: false })
    }

    /// Waits for the script before the next command: it is started again with
    /// the machine.
    pub(crate) fn restarted(&mut self) {
        self.ready = false;
    }

    /// Runs `command` with the machine's `/bin/sh`, for at most `limit`.
    pub(crate) fn run(&mut self, command: &str, limit: Duration) -> Result<Output> {
        let id = self.next;
        self.next += 1;
        // What is sent before the script listens would be lost.
        let patience = Instant::now() + PATIENCE;
        while !self.ready {
            self.ready = self.line(patience)?.trim_end() == "ready";
        }
        let request = format!("{id} {} {}\n", limit.as_secs().max(1), BASE64_STANDARD.encode(command));
        ensure!(request.len() <= LONGEST, "the command is too long for the serial port");
        // The machine keeps the limit; here is a little more, for its answer.
        let deadline = Instant::now() + limit + Duration::from_secs(20);
        self.stream.write_all(request.as_bytes()).context("writing to the control channel")?;
        let mut encoded = String::new();
        loop {
            let line = self.line(deadline)?;
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("end"), Some(of), Some(status)) if of == id.to_string() => {
                    let text = String::from_utf8_lossy(&BASE64_STANDARD.decode(&encoded)?).into_owned();
                    return Ok(Output { status: status.parse()?, text });
                }
                // What is left of a command that was given up on.
                (Some("begin" | "end"), _, _) => encoded.clear(),
                _ => encoded.push_str(line.trim()),
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String> {
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no answer on the control channel: is {SCRIPT_PATH} in the image?");
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.reader.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    return Ok(String::from_utf8_lossy(&line).into_owned());
                }
                Ok(_) => bail!("the machine ended while a command ran in it"),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e).context("reading from the control channel"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_the_rest_of_an_older_one() {
        let (ours, mut machine) = UnixStream::pair().unwrap();
        let mut control = Control::new(ours).unwrap();
        machine.write_all(b"ready\nend 0 143\nbegin 1\nb2s\n=\nend 1 3\n").unwrap();
        let output = control.run("true", Duration::from_secs(1)).unwrap();
        assert_eq!(output, Output { status: 3, text: "ok".into() });
        let mut request = String::new();
        BufReader::new(machine).read_line(&mut request).unwrap();
        assert_eq!(request, "1 1 dHJ1ZQ==\n");
    }

    #[test]
    fn a_machine_that_ends_is_told_from_one_that_is_silent() {
        let (ours, machine) = UnixStream::pair().unwrap();
        let mut control = Control::new(ours).unwrap();
        drop(machine);
        let error = control.run("true", Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("the machine ended"), "{error}");
    }
}
