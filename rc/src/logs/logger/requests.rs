// SPDX-License-Identifier: Apache-2.0
//! What rc asks the logger for: `sync ID` or `end ID` on a line, answered with
//! `done` when all that had been printed by then is where it belongs.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// The longest request.
const LONGEST: usize = 512;

/// A request that has come in whole.
pub(super) struct Request {
    /// Which log.
    pub(super) id: String,
}

struct Caller {
    socket: UnixStream,
    text: Vec<u8>,
    /// The log to forget when it is answered.
    ends: Option<String>,
    /// How far each stream has to be; `None` while there is no request.
    wanted: Option<Vec<(u64, u64)>>,
}

/// Those who ask.
#[derive(Default)]
pub(super) struct Requests {
    callers: BTreeMap<u64, Caller>,
}

impl Requests {
    /// Somebody has connected.
    pub(super) fn add(&mut self, number: u64, socket: UnixStream) {
        self.callers.insert(number, Caller { socket, text: Vec::new(), ends: None, wanted: None });
    }

    /// A caller has said something, or has gone.
    pub(super) fn hear(&mut self, number: u64) -> Option<Request> {
        let caller = self.callers.get_mut(&number)?;
        let mut buffer = [0; LONGEST];
        let count = match caller.socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => 0,
        };
        caller.text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if count == 0 || caller.text.len() > LONGEST || caller.wanted.is_some() {
            self.callers.remove(&number);
            return None;
        }
        let line = caller.text.strip_suffix(b"\n")?;
        let line = String::from_utf8_lossy(line).into_owned();
        match line.split_once(' ') {
            Some((verb @ ("sync" | "end"), id)) => {
                caller.wanted = Some(Vec::new());
                caller.ends = (verb == "end").then(|| id.to_owned());
                Some(Request { id: id.to_owned() })
            }
            _ => {
                self.callers.remove(&number);
                None
            }
        }
    }

    /// A caller waits until a stream has come so far.
    pub(super) fn wait_for(&mut self, number: u64, stream: u64, wanted: u64) {
        if let Some(list) = self.callers.get_mut(&number).and_then(|caller| caller.wanted.as_mut()) {
            list.push((stream, wanted));
        }
    }

    /// The logs that end with requests whose streams are far enough; `far`
    /// says how far one is, `None` when it is no more.
    pub(super) fn ending(&self, far: &impl Fn(u64) -> Option<u64>) -> Vec<String> {
        let ready = self.callers.values().filter(|caller| caller.is_ready(far));
        ready.filter_map(|caller| caller.ends.clone()).collect()
    }

    /// Answers those requests.
    pub(super) fn answer(&mut self, far: &impl Fn(u64) -> Option<u64>) {
        self.callers.retain(|_, caller| {
            let ready = caller.is_ready(far);
            if ready {
                // Whoever does not wait for the answer does not need it.
                let _ = caller.socket.write_all(b"done\n");
            }
            !ready
        });
    }
}

impl Caller {
    fn is_ready(&self, far: &impl Fn(u64) -> Option<u64>) -> bool {
        let there = |(stream, wanted): &(u64, u64)| far(*stream).is_none_or(|taken| taken >= *wanted);
        self.wanted.as_ref().is_some_and(|list| list.iter().all(there))
    }
}
