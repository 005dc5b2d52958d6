// SPDX-License-Identifier: Apache-2.0
//! A command that is run in the container and tells by its exit status.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use init::sys::process;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use super::Target;
use crate::engine::Exec;

/// How much of what it says last is kept.
const SAID: usize = 512;

/// Runs it, for `limit` at most.
pub(super) async fn run(target: &Target, words: &[String], limit: Duration) -> Result<(), String> {
    let pid_file = target.folder.join(format!("{}.check.pid", target.id.name));
    let _ = fs::remove_file(&pid_file);
    let exec = Exec { args: words, terminal: false, pid_file: Some(&pid_file) };
    let mut command = target.engine.exec(&target.id, exec).map_err(|error| error.to_string())?;
    let name = words.first().map_or("", String::as_str);
    let failed = |error: io::Error| format!("cannot run {name}: {error}");
    let (output, writer) = io::pipe().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut output = Receiver::from_owned_fd(output.into()).map_err(failed)?;
    let child = target.reaper.spawn(&mut command).map_err(failed)?;
    // The ends that are written to are the command's alone now.
    drop(command);
    let pid = child.pid;
    let mut said = Vec::new();
    let ended = timeout(limit, async {
        let mut end = std::pin::pin!(child.wait());
        let mut piece = [0; 4096];
        loop {
            tokio::select! {
                // A process it leaves behind may hold its output open.
                exit = &mut end => break exit,
                read = output.read(&mut piece) => match read {
                    Ok(count @ 1..) => keep(&mut said, piece.get(..count).unwrap_or_default()),
                    _ => break end.await,
                },
            }
        }
    });
    let exit = ended.await;
    // What it said at its end may come after it.
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = output.try_read(&mut piece) {
        keep(&mut said, piece.get(..count).unwrap_or_default());
    }
    let result = match exit {
        Ok(exit) if exit.success() => Ok(()),
        Ok(exit) => {
            let text = String::from_utf8_lossy(&said);
            let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(if line.is_empty() { format!("{name}: {exit}") } else { format!("{name}: {exit}: {line}") })
        }
        Err(_) => {
            end(pid, &pid_file);
            Err(format!("{name}: no end within {:.1}s: killed", limit.as_secs_f32()))
        }
    };
    let _ = fs::remove_file(&pid_file);
    result
}

fn keep(said: &mut Vec<u8>, piece: &[u8]) {
    // What it says is shown to people, whose terminals are not its own.
    said.extend(
        piece.iter().map(|byte| if byte.is_ascii_control() && *byte != b'\n' { b' ' } else { *byte }),
    );
    let more = said.len().saturating_sub(SAID);
    said.drain(..more);
}

/// The runtime's program does not take with it what it has started.
fn end(runtime: i32, pid_file: &Path) {
    let started = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok());
    for pid in started.into_iter().chain([runtime]) {
        // Both may fail only because it has just ended.
        let _ = process::signal(pid, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_kept() {
        let mut said = Vec::new();
        keep(&mut said, &[b'x'; 2 * SAID]);
        keep(&mut said, b"\x1b[31mthe\tend\n");
        assert_eq!(said.len(), SAID);
        assert!(said.ends_with(b"x [31mthe end\n"));
    }
}
