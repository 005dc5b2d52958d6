// SPDX-License-Identifier: Apache-2.0
//! Files of the system that hold user data: `file=PATH` and seeds.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::providers::ProviderError;

/// The bytes of a file; `None` if there is none.
///
/// # Errors
/// [`ProviderError::File`], also for a file of more than `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, ProviderError> {
    let error = |source| ProviderError::File { path: path.to_owned(), source };
    // O_NONBLOCK: a pipe without a writer is not to be waited for.
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    if file.metadata().map_err(error)?.file_type().is_fifo() {
        return Err(error(io::Error::new(ErrorKind::InvalidInput, "it is a pipe")));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() > limit {
        return Err(error(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it has more than {limit} bytes"),
        )));
    }
    Ok(Some(bytes))
}
