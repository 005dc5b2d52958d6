// SPDX-License-Identifier: Apache-2.0
//! Telling somebody what happens, who may read it slowly or not at all.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::Answer;
use crate::journal::Change;

/// How long a reader may take nothing at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends changes until the other side is gone, or too far behind: then it is
/// told so, and that is the end. Nobody else waits for it: what it has not
/// read is in the channel, which holds so much and no more.
pub(super) async fn follow(
    mut changes: Receiver<Change>,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
) {
    if !send(&mut writer, &Answer::Done).await {
        return;
    }
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            // There is nothing more to ask for: it is gone.
            _ = reader.read_u8() => return,
        };
        let (answer, last) = match change {
            Ok(change) => (Answer::Changed { change }, false),
            Err(RecvError::Lagged(missed)) => (Answer::TooSlow { missed }, true),
            Err(RecvError::Closed) => return,
        };
        if !send(&mut writer, &answer).await || last {
            return;
        }
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> bool {
    let Ok(mut text) = serde_json::to_string(answer) else { return false };
    text.push('\n');
    matches!(timeout(PATIENCE, writer.write_all(text.as_bytes())).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, BufReader, duplex};
    use tokio::sync::broadcast::Sender;

    use super::*;

    fn change(n: u32) -> Change {
        Change {
            time: f64::from(n),
            service: "web".to_owned(),
            from: "starting".to_owned(),
            to: "running".to_owned(),
            why: String::new(),
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn a_slow_reader_is_told_and_left_behind() {
        run(async {
            let sender = Sender::new(4);
            let (ours, theirs) = duplex(256);
            let (reader, writer) = tokio::io::split(ours);
            let task = tokio::task::spawn_local(follow(sender.subscribe(), reader, writer));
            // Nobody reads: whoever sends does not notice.
            for n in 0..100 {
                sender.send(change(n)).unwrap();
                tokio::task::yield_now().await;
            }
            let mut lines = BufReader::new(theirs).lines();
            let mut told = Vec::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                told.push(serde_json::from_str::<Answer>(&line).unwrap());
            }
            assert_eq!(told.first(), Some(&Answer::Done));
            let Some(Answer::TooSlow { missed }) = told.last() else { panic!("{told:?}") };
            assert_eq!(told.len() as u64 - 2 + missed + 4, 100, "{told:?}");
            task.await.unwrap();
        });
    }

    #[test]
    fn a_reader_that_goes_is_forgotten_at_once() {
        run(async {
            let sender = Sender::new(4);
            let (ours, theirs) = duplex(256);
            let (reader, writer) = tokio::io::split(ours);
            let task = tokio::task::spawn_local(follow(sender.subscribe(), reader, writer));
            tokio::task::yield_now().await;
            assert_eq!(sender.receiver_count(), 1);
            drop(theirs);
            task.await.unwrap();
            assert_eq!(sender.receiver_count(), 0);
        });
    }
}
