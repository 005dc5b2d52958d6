// SPDX-License-Identifier: Apache-2.0
//! Terminals: opening one without becoming its session's leader, writing to it
//! without ever being held up by it, and giving it to a program for a person.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{ControlFlags, InputFlags, LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};

/// Opens a device for writing: not the controlling terminal, non-blocking,
/// closed on exec.
///
/// # Errors
/// open(2)'s: ENXIO or ENODEV for a console that has no hardware.
pub fn open_for_writing(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)
}

/// Whether a terminal has been hung up, by vhangup(2) or because its hardware
/// is gone: nothing can be written to this file any more.
pub fn hung_up(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().filter_map(PollFd::revents).any(|events| events.intersects(gone))
}

/// Writes all of `bytes`, waiting for room until `patience` is over; what has
/// not gone out by then is dropped and its length returned.
pub fn write_within(mut file: &File, mut bytes: &[u8], patience: Duration) -> usize {
    let start = Instant::now();
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => break,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = patience.saturating_sub(start.elapsed());
                if left.is_zero() {
                    break;
                }
                let millis = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1);
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::from(millis)).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    bytes.len()
}

/// Opens a terminal for a person: for reading and writing, without waiting for
/// a modem's carrier, and with line editing, echo and Ctrl-C switched on,
/// whatever a program before has left switched off.
///
/// # Errors
/// open(2)'s, and those of tcgetattr(3): EIO for a serial port without
/// hardware, ENOTTY for what is no terminal.
pub fn open_for_person(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)?;
    let mut modes = tcgetattr(&file)?;
    modes.input_flags.insert(InputFlags::ICRNL | InputFlags::IXON);
    modes.input_flags.remove(InputFlags::IGNCR | InputFlags::INLCR);
    modes.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
    modes.local_flags.insert(
        LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN | LocalFlags::ECHO | LocalFlags::ECHOE,
    );
    modes.control_flags.insert(ControlFlags::CREAD | ControlFlags::CLOCAL);
    tcsetattr(&file, SetArg::TCSANOW, &modes)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file)
}

/// Has `command` run as the leader of a session of its own that has `terminal`
/// as its controlling terminal, for its three standard streams and for job
/// control. A session that has the terminal already loses it.
///
/// # Errors
/// dup(2)'s.
pub fn give(command: &mut Command, terminal: &File) -> io::Result<()> {
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal.try_clone()?);
    let take = || {
        // SAFETY: two system calls, which take numbers and touch no memory of
        // ours; both are allowed between fork(2) and execve(2). One that fails
        // leaves a shell without job control, which says so and is of use still.
        unsafe {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 1);
        }
        Ok(())
    };
    // SAFETY: `take` neither allocates nor locks.
    unsafe { command.pre_exec(take) };
    Ok(())
}
