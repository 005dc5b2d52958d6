// SPDX-License-Identifier: Apache-2.0
//! The answering side: a task in the supervisor's event loop.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;

use init::warning;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::{Answer, Request};
use crate::boot::Boot;

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
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(converse(stream, boot.clone()));
                }
                Err(error) => {
                    // Out of descriptors, most likely: others give some back.
                    warning!(boot.system.console, "control socket: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn converse(stream: UnixStream, boot: Rc<Boot>) {
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
            Ok(request) => (answer(&boot, &request).await, request == Request::Shutdown),
            Err(error) => (Answer::Failed { reason: format!("cannot read the request: {error}") }, false),
        };
        let Ok(mut text) = serde_json::to_string(&answer) else { return };
        text.push('\n');
        let sent = writer.write_all(text.as_bytes()).await;
        if last {
            boot.finished.notify_one();
        }
        if sent.is_err() {
            return;
        }
    }
}

async fn answer(boot: &Rc<Boot>, request: &Request) -> Answer {
    let services = &boot.services;
    let result = match request {
        Request::Start { name } => services.start(name).await,
        Request::Stop { name } => services.stop(name).await,
        Request::Restart { name } => services.restart(name).await,
        Request::StartAll => {
            services.start_all().await;
            Ok(())
        }
        Request::Shutdown => {
            boot.shut_down().await;
            Ok(())
        }
        Request::Status => {
            let health = match &boot.system.daemon {
                Some(daemon) => Some(daemon.describe().await),
                None => None,
            };
            return Answer::Services { services: services.status(), containerd: health };
        }
    };
    match result {
        Ok(()) => Answer::Done,
        Err(reason) => Answer::Failed { reason },
    }
}
