// SPDX-License-Identifier: Apache-2.0
//! Extended attributes of a file itself, symbolic links included: xattr(7).

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;

/// The names of the attributes of `path`; none on a filesystem without them.
///
/// # Errors
/// llistxattr(2)'s.
pub fn list(path: &Path) -> io::Result<Vec<CString>> {
    let path = c_path(path)?;
    let names = grow(|buffer| {
        // SAFETY: the path is a C string, and the buffer is as long as it is said to be.
        unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    });
    match names {
        Err(Errno::ENOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
        Ok(names) => Ok(names
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
            .map(CStr::to_owned)
            .collect()),
    }
}

/// The value of one attribute.
///
/// # Errors
/// lgetxattr(2)'s.
pub fn get(path: &Path, name: &CStr) -> io::Result<Vec<u8>> {
    let path = c_path(path)?;
    Ok(grow(|buffer| {
        // SAFETY: path and name are C strings, and the buffer is as long as it is said to be.
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?)
}

/// Sets one attribute.
///
/// # Errors
/// lsetxattr(2)'s.
pub fn set(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: path and name are C strings, and the value is as long as it is said to be.
    Errno::result(unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })?;
    Ok(())
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Calls with an ever larger buffer until the answer fits.
fn grow(mut call: impl FnMut(&mut [u8]) -> isize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match Errno::result(call(&mut buffer)) {
            Ok(length) => {
                buffer.truncate(length.unsigned_abs());
                return Ok(buffer);
            }
            // 64 KiB is the largest of both lists and values (XATTR_SIZE_MAX, XATTR_LIST_MAX).
            Err(Errno::ERANGE) if buffer.len() < 64 * 1024 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}
