// SPDX-License-Identifier: Apache-2.0
//! Swap areas: swapon(2).

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Starts to swap on a file or device that has a swap header.
///
/// # Errors
/// swapon(2)'s: EINVAL for a file with holes or without a header, EBUSY for one
/// that is in use, EPERM without CAP_SYS_ADMIN.
pub fn on(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a NUL and lives through the call.
    if unsafe { libc::swapon(path.as_ptr(), 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
