// SPDX-License-Identifier: Apache-2.0
//! The answering side: a task in the supervisor's event loop.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use init::warning;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::follow::follow;
use super::{Answer, Request};
use crate::boot::Boot;
use crate::process::Stat;

/// The longest request.
const LONGEST: u64 = 64 * 1024;

/// Makes the socket and answers on it until the supervisor ends.
///
/// # Errors
/// Those of making the socket.
pub fn serve(path: &Path, boot: Rc<Boot>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // The folder is root's alone, so nobody connects in between.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let desk = Rc::new(Desk { boot });
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(desk.clone().converse(stream));
                }
                Err(error) => {
                    // Out of descriptors, most likely: others give some back.
                    warning!(desk.boot.system.console, "control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

struct Desk {
    boot: Rc<Boot>,
}

/// Waits until the other side is gone. One that has only said all that it has
/// to say still listens.
async fn gone(reader: &mut BufReader<OwnedReadHalf>, writer: &OwnedWriteHalf) {
    let over = reader.fill_buf().await.map_or(true, <[u8]>::is_empty);
    if !over || !writer.ready(Interest::WRITABLE).await.is_ok_and(|ready| ready.is_write_closed()) {
        std::future::pending::<()>().await;
    }
}

impl Desk {
    async fn converse(self: Rc<Self>, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        loop {
            let mut line = String::new();
            let mut limited = tokio::io::AsyncReadExt::take(&mut reader, LONGEST);
            match limited.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let (answer, last) = match serde_json::from_str(&line) {
                Ok(Request::Follow) => return follow(self.boot.journal.listen(), reader, writer).await,
                // Whoever waits for one service may give up waiting.
                Ok(request @ (Request::Start { .. } | Request::Stop { .. } | Request::Restart { .. })) => {
                    tokio::select! {
                        // It is asked for first, whoever is there to be told.
                        biased;
                        answer = self.answer(&request) => (answer, false),
                        () = gone(&mut reader, &writer) => return,
                    }
                }
                Ok(request) => (self.answer(&request).await, request == Request::Shutdown),
                Err(error) => (Answer::Failed { reason: format!("cannot read the request: {error}") }, false),
            };
            let Ok(mut text) = serde_json::to_string(&answer) else { return };
            text.push('\n');
            let sent = writer.write_all(text.as_bytes()).await;
            if last {
                self.boot.finished.notify_one();
            }
            if sent.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: &Request) -> Answer {
        let services = &self.boot.services;
        let result = match request {
            Request::Start { name } => services.start(name).await,
            Request::Stop { name } => services.stop(name).await,
            Request::Restart { name } => services.restart(name).await,
            Request::StartAll => {
                services.start_all().await;
                Ok(())
            }
            Request::Shutdown => {
                self.boot.shut_down().await;
                Ok(())
            }
            Request::Status => {
                return Answer::Services { services: services.status(), containerd: self.containerd().await };
            }
            Request::Follow => Err("it comes by itself already".to_owned()),
        };
        match result {
            Ok(()) => Answer::Done,
            Err(reason) => Answer::Failed { reason },
        }
    }

    /// How containerd is doing. It is not waited for for long: it may hang.
    async fn containerd(&self) -> Option<String> {
        let daemon = self.boot.system.daemon.as_ref()?;
        let told = daemon.describe().await;
        let pid = daemon.pid().unwrap_or_default();
        let stopped = Stat::read(pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'));
        Some(if stopped { format!("{told}: process {pid} is stopped") } else { told })
    }
}
