// SPDX-License-Identifier: Apache-2.0
//! What is said to whoever has called, who may have gone before it is over.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::exit;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The exit status of a program that nobody reads any more: as a shell counts
/// SIGPIPE.
const UNREAD: i32 = 141;

/// Text on standard output. Whoever reads it may have seen enough.
pub(super) fn show(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        exit(UNREAD);
    }
}

/// A line on standard error. That nobody reads it is no reason to end
/// otherwise than by the exit status.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Waits until there is something to read. Ends the program when nobody is
/// left who reads what it prints: as in `service logs -f web | grep -m 1 up`.
///
/// # Errors
/// Those of poll(2).
pub(super) fn wait_for(fd: BorrowedFd<'_>) -> io::Result<()> {
    let out = io::stdout();
    // Errors are told whatever is asked for.
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN), PollFd::new(out.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::NONE)?;
    let [_, out] = &fds;
    if out.revents().is_some_and(|events| events.contains(PollFlags::POLLERR)) {
        exit(UNREAD);
    }
    Ok(())
}
