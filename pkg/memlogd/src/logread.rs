// SPDX-License-Identifier: Apache-2.0
//! `logread`: prints what memlogd has, and what comes.

use std::io::{self, ErrorKind, Write as _};

use crate::arguments::Read;
use crate::client::{self, Error};

/// Prints until the answer ends, or nobody reads any more.
///
/// # Errors
/// Those of asking and printing.
pub fn run(options: &Read) -> Result<(), Error> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = client::ask(&options.socket, options.mode, |told, last| {
        let written = out.write_all(told.line().as_bytes());
        let written = if last { written.and_then(|()| out.flush()) } else { written };
        written.map_err(|source| Error::Output { what: "cannot print".to_owned(), source })
    });
    match printed.and_then(|()| {
        out.flush().map_err(|source| Error::Output { what: "cannot print".to_owned(), source })
    }) {
        // As in `logread | head`.
        Err(Error::Output { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
