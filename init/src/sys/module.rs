// SPDX-License-Identifier: Apache-2.0
//! Kernel modules: finit_module(2), init_module(2), delete_module(2).

use std::ffi::CStr;
use std::fs::File;
use std::io;

use nix::kmod::{DeleteModuleFlags, ModuleInitFlags};

/// `MODULE_INIT_COMPRESSED_FILE` of `<linux/module.h>`, Linux 5.17: the kernel
/// unpacks the file itself. It knows one algorithm, `/sys/module/compression`.
const COMPRESSED_FILE: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);

/// The running kernel's release, the name of its folder under `/lib/modules`.
///
/// # Errors
/// uname(2)'s.
pub fn kernel_release() -> io::Result<String> {
    Ok(nix::sys::utsname::uname()?.release().to_string_lossy().into_owned())
}

/// Loads the module in a file. Returns when its init function has returned,
/// and when the asynchronous probes that function began are over.
///
/// # Errors
/// finit_module(2)'s: EEXIST if it is loaded, ENOEXEC for another kernel's
/// module, ENOENT for an unknown symbol, EOPNOTSUPP for a `compressed` file
/// that this kernel cannot unpack, and whatever the init function returns.
pub fn insert_file(file: &File, options: &CStr, compressed: bool) -> io::Result<()> {
    let flags = if compressed { COMPRESSED_FILE } else { ModuleInitFlags::empty() };
    Ok(nix::kmod::finit_module(file, options, flags)?)
}

/// Loads the module in memory, otherwise as [`insert_file`].
///
/// # Errors
/// init_module(2)'s, as above.
pub fn insert_image(image: &[u8], options: &CStr) -> io::Result<()> {
    Ok(nix::kmod::init_module(image, options)?)
}

/// Unloads a module, without waiting for its users to leave.
///
/// # Errors
/// delete_module(2)'s: EWOULDBLOCK if it is in use, ENOENT if it is not
/// loaded.
pub fn remove(name: &CStr) -> io::Result<()> {
    Ok(nix::kmod::delete_module(name, DeleteModuleFlags::O_NONBLOCK)?)
}
