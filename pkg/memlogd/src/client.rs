// SPDX-License-Identifier: Apache-2.0
//! Asking memlogd, ours or LinuxKit's.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::arguments::Mode;
use crate::entry::Told;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error("cannot ask {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the answer broke off: {0}")]
    Broken(#[source] io::Error),
    /// Whoever the lines were for.
    #[error("{what}: {source}")]
    Output {
        /// What was tried, and on what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Asks, and gives each line of the answer to `take` until it ends. A line of
/// the answer that is no JSON is left out.
///
/// # Errors
/// Those of asking and reading, and of `take`.
pub fn ask(
    path: &Path,
    mode: Mode,
    mut take: impl FnMut(&Told, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    let connect = |source| Error::Connect { path: path.to_path_buf(), source };
    let mut socket = UnixStream::connect(path).map_err(connect)?;
    socket.write_all(&[mode as u8]).map_err(connect)?;
    let mut reader = BufReader::with_capacity(64 * 1024, socket);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(Error::Broken)? == 0 {
            return Ok(());
        }
        if let Ok(told) = serde_json::from_slice(&line) {
            // Whether a wait may follow: what has been taken should be seen.
            take(&told, reader.buffer().is_empty())?;
        }
    }
}
