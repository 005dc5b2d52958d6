// SPDX-License-Identifier: Apache-2.0
//! `/init`: leaves the kernel's first root, then becomes `/sbin/init`.
//!
//! The kernel unpacks an initrd into rootfs, a ramfs or tmpfs that is the root
//! of all mounts. pivot_root(2) cannot put away a root that is mounted on
//! nothing, and every container runtime wants to. A bind mount of the root,
//! moved over the root, holds the very same files and is mounted on something.
//! Where the kernel refuses that, the files move into a tmpfs one by one.
//!
//! On any other root there is nothing to do.

pub mod copy;

use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::action::{Action, Kernel};
use crate::cmdline::Cmdline;
use crate::console::Level;
use crate::log::Log;
use crate::mount::Mount;
use crate::sys::{Linux, fault, in_memory, process};

/// Where the new root is put together. It is gone, or out of sight, afterwards.
const WORK: &str = "/.lkinit-root";

/// What comes after `/init`.
const NEXT: &CStr = c"/sbin/init";

/// How the root is left: `lkinit.root=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By a move, and by copying if that fails.
    Either,
    /// `move`: by a move or not at all.
    Move,
    /// `copy`: by copying.
    Copy,
}

/// A step that failed: what was tried, and why it did not work.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {source}")]
struct Error {
    action: String,
    source: io::Error,
}

/// Does what the first program does. Returns only where it cannot go on.
pub fn run(words: &[CString]) -> i32 {
    let mut log = Log::default();
    fault::report();
    if in_memory(Path::new("/")).unwrap_or(false) {
        make_devices();
        leave(&mut log);
    }
    let words: Vec<&CStr> =
        std::iter::once(NEXT).chain(words.iter().skip(1).map(CString::as_c_str)).collect();
    let error = process::exec(NEXT, &words);
    log.line(Level::Error, format_args!("cannot run {}: {error}; trying /bin/sh", text(NEXT)));
    let error = shell();
    log.line(Level::Error, format_args!("cannot run /bin/sh: {error}; nothing left to run"));
    1
}

/// The two devices that messages need, where the initrd does not bring them.
/// rc mounts a devtmpfs over them.
fn make_devices() {
    use crate::action::Node;
    let node = |path: &str, node| Action::MakeNode { path: path.into(), node, mode: 0o600 };
    let dev = Action::MakeDir { path: "/dev".into(), mode: 0o755 };
    for action in [dev, node("/dev/console", Node::Char(5, 1)), node("/dev/kmsg", Node::Char(1, 11))] {
        // A device that cannot be made is missed by messages alone.
        let _ = Linux.apply(&action);
    }
}

/// Leaves the first root in the way asked for. What fails is said, and the
/// boot goes on where it is.
fn leave(log: &mut Log) {
    let way = way(log);
    if way != Way::Copy {
        match carry_out(&Linux, &by_move()) {
            Ok(()) => return,
            Err(error) => log.line(Level::Warning, format_args!("switching the root: {error}")),
        }
        // Whichever step it was: nothing may be mounted there any more.
        while nix::mount::umount2(WORK, nix::mount::MntFlags::MNT_DETACH).is_ok() {}
    }
    if way != Way::Move {
        match by_copying(log) {
            Ok(()) => log.line(Level::Info, format_args!("the root was copied into a tmpfs")),
            Err(error) => log.line(Level::Error, format_args!("copying the root: {error}")),
        }
    }
}

/// What the kernel's command line says. The kernel keeps words with a dot from
/// its first program, so it takes a `/proc`, for a moment: rc must not find one
/// (it would take this for a container).
fn way(log: &mut Log) -> Way {
    let proc = Mount::new("proc", WORK, "nosuid,nodev,noexec");
    let make = Action::MakeDir { path: WORK.into(), mode: 0o755 };
    if let Err(error) = carry_out(&Linux, &[make, Action::Mount(proc)]) {
        log.line(Level::Warning, format_args!("reading the command line: {error}"));
        return Way::Either;
    }
    let line = Cmdline::read(&Path::new(WORK).join("cmdline")).unwrap_or_default();
    let _ = Linux.apply(&Action::Unmount { path: WORK.into(), lazy: false });
    match line.get("lkinit.root") {
        None => Way::Either,
        Some("move") => Way::Move,
        Some("copy") => Way::Copy,
        Some(other) => {
            log.line(Level::Warning, format_args!("lkinit.root={other}: neither move nor copy; ignored"));
            Way::Either
        }
    }
}

/// The root bound to a directory in itself, and that mount moved over it.
fn by_move() -> Vec<Action> {
    let mut bind = Mount::bind("/", WORK);
    bind.flags |= MsFlags::MS_REC;
    let mut actions = vec![Action::MakeDir { path: WORK.into(), mode: 0o755 }, Action::Mount(bind)];
    actions.extend(enter());
    actions.push(Action::RemoveDir(WORK.into()));
    actions
}

/// What is mounted at [`WORK`] becomes the root.
fn enter() -> [Action; 3] {
    [Action::ChangeDir(WORK.into()), Action::Mount(Mount::relocate(".", "/")), Action::ChangeRoot(".".into())]
}

/// The files, moved into a tmpfs one by one, and that made the root.
fn by_copying(log: &mut Log) -> Result<(), Error> {
    // As large as it was before. The root is mounted read-only soon, so nothing fills it.
    let tmpfs = Mount::new("tmpfs", WORK, "size=100%,nr_inodes=0,mode=755");
    let make = Action::MakeDir { path: WORK.into(), mode: 0o755 };
    carry_out(&Linux, &[make, Action::Mount(tmpfs)])?;
    let moved = copy::relocate(Path::new("/"), Path::new(WORK), &mut |error| {
        log.line(Level::Error, format_args!("copying the root: {error}"));
    });
    for path in moved.mounts {
        let target = Path::new(WORK).join(path.strip_prefix("/").unwrap_or(&path));
        if let Err(error) = carry_out(&Linux, &[Action::Mount(Mount::relocate(path, target))]) {
            log.line(Level::Error, format_args!("copying the root: {error}"));
        }
    }
    let entered = carry_out(&Linux, &enter());
    if entered.is_err() {
        // The files are there by now, so there it goes on, even where
        // containers will not work.
        carry_out(&Linux, &[Action::ChangeRoot(WORK.into()), Action::ChangeDir(PathBuf::from("/"))])?;
    }
    entered
}

/// Carries actions out up to the first that fails.
fn carry_out(kernel: &impl Kernel, actions: &[Action]) -> Result<(), Error> {
    for action in actions {
        kernel.apply(action).map_err(|source| Error { action: action.to_string(), source })?;
    }
    Ok(())
}

/// Becomes a shell on the console, so that a person can see what is wrong.
fn shell() -> io::Error {
    if let Ok(console) = open(c"/dev/console", OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty()) {
        let _ = dup2_stdin(&console).and(dup2_stdout(&console)).and(dup2_stderr(&console));
    }
    process::exec(c"/bin/sh", &[c"/bin/sh"])
}

fn text(path: &CStr) -> &str {
    path.to_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Recorder;

    #[test]
    fn the_move_copies_nothing_and_leaves_no_directory() {
        let kernel = Recorder::default();
        carry_out(&kernel, &by_move()).unwrap();
        let expected = [
            "mkdir -m 0755 /.lkinit-root",
            "mount -o rbind / /.lkinit-root",
            "cd /.lkinit-root",
            "mount -o move . /",
            "chroot .",
            "rmdir /.lkinit-root",
        ];
        assert_eq!(kernel.lines(), expected);
    }

    #[test]
    fn a_refusal_names_the_step_and_ends_the_plan() {
        let kernel = Recorder::default().refusing("mount -o move", libc::EINVAL);
        let error = carry_out(&kernel, &by_move()).unwrap_err();
        assert!(error.to_string().starts_with("mount -o move . /: Invalid argument"), "{error}");
        assert_eq!(kernel.lines().len(), 3);
    }
}
