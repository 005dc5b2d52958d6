// SPDX-License-Identifier: Apache-2.0
//! How a program starts that must start whatever is missing.

/// Makes `fn() -> i32` the program's entry, in place of Rust's own.
///
/// Rust's runtime opens `/dev/null` for a standard stream that is closed and
/// aborts when it cannot. The kernel starts its first program with all three
/// closed where `/dev/console` is missing, on a root whose `/dev` may well be
/// empty, and its usermode helpers always. So the C library's `main` it is;
/// [`fill_stdio`] then sees to the streams. For a binary with `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(_count: core::ffi::c_int, _words: *const *const core::ffi::c_char) -> i32 {
            $run()
        }
    };
}

/// Opens something for each standard stream that is closed, so that no file
/// opened later takes its number: `/dev/null`, or else the root directory,
/// which is always there and takes no bytes.
pub fn fill_stdio() {
    for number in 0..=2 {
        // SAFETY: F_GETFD asks whether a descriptor is open; it changes nothing.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
            continue;
        }
        // The lowest free number is this one, so open(2) gives just that.
        for (path, flags) in [(c"/dev/null", libc::O_RDWR), (c"/", libc::O_RDONLY)] {
            // SAFETY: the path is a C string; the descriptor stays open for good.
            if unsafe { libc::open(path.as_ptr(), flags) } >= 0 {
                break;
            }
        }
    }
}
