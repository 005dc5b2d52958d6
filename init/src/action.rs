// SPDX-License-Identifier: Apache-2.0
//! What a boot does to the system, as data: plans are lists of [`Action`]s,
//! and a [`Kernel`] carries one out.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::mount::Mount;

/// A device node's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Character device: major, minor.
    Char(u64, u64),
    /// Block device: major, minor.
    Block(u64, u64),
    /// Named pipe.
    Fifo,
}

/// One change to the system. Each is idempotent where the kernel lets it be:
/// what is there already, in the shape asked for, is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A directory and its parents, with this mode for the last one when it is made.
    MakeDir {
        /// Which.
        path: PathBuf,
        /// Permission bits of a directory that is made; an existing one keeps its own.
        mode: u32,
    },
    /// A symbolic link; an existing file of any kind at `path` is left alone.
    Symlink {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
    /// A device node or fifo, if nothing is at `path`.
    MakeNode {
        /// Which.
        path: PathBuf,
        /// What kind, with its numbers.
        node: Node,
        /// Permission bits.
        mode: u32,
    },
    /// An empty file if nothing is at `path`.
    Touch {
        /// Which.
        path: PathBuf,
    },
    /// Text written over what is at `path`, by a single write(2): the way of
    /// the kernel's own files.
    Write {
        /// Which.
        path: PathBuf,
        /// What.
        text: String,
    },
    /// A mount(2) call.
    Mount(Mount),
    /// A umount2(2) call.
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Take it out of sight now, with all that is mounted below it, and
        /// let go of it when nobody uses it any more (`MNT_DETACH`).
        lazy: bool,
    },
    /// An empty directory taken away.
    RemoveDir(PathBuf),
    /// The working directory.
    ChangeDir(PathBuf),
    /// The root directory of this process, and of the children it will have.
    ChangeRoot(PathBuf),
    /// The kernel's host name.
    SetHostname(String),
    /// A soft and hard resource limit; `None` is "unlimited".
    SetLimit {
        /// Which.
        limit: Limit,
        /// How much.
        value: Option<u64>,
    },
}

/// The resource limits a boot sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Open files of a process.
    OpenFiles,
    /// Processes of a user.
    Processes,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir { path, mode } => write!(f, "mkdir -m {mode:04o} {}", path.display()),
            Self::Symlink { path, target } => {
                write!(f, "ln -s {} {}", target.display(), path.display())
            }
            Self::MakeNode { path, node, mode } => {
                write!(f, "mknod -m {mode:04o} {} ", path.display())?;
                match node {
                    Node::Char(major, minor) => write!(f, "c {major} {minor}"),
                    Node::Block(major, minor) => write!(f, "b {major} {minor}"),
                    Node::Fifo => f.write_str("p"),
                }
            }
            Self::Touch { path } => write!(f, "touch {}", path.display()),
            Self::Write { path, text } => write!(f, "write {:?} to {}", text, path.display()),
            Self::Mount(mount) => mount.fmt(f),
            Self::Unmount { path, lazy } => {
                write!(f, "umount {}{}", if *lazy { "-l " } else { "" }, path.display())
            }
            Self::RemoveDir(path) => write!(f, "rmdir {}", path.display()),
            Self::ChangeDir(path) => write!(f, "cd {}", path.display()),
            Self::ChangeRoot(path) => write!(f, "chroot {}", path.display()),
            Self::SetHostname(name) => write!(f, "hostname {name}"),
            Self::SetLimit { limit, value } => {
                let name = match limit {
                    Limit::OpenFiles => "nofile",
                    Limit::Processes => "nproc",
                };
                match value {
                    Some(value) => write!(f, "limit {name} {value}"),
                    None => write!(f, "limit {name} unlimited"),
                }
            }
        }
    }
}

/// Who carries actions out: [`crate::sys::Linux`] for real, [`Recorder`] in tests.
pub trait Kernel {
    /// Carries one action out.
    ///
    /// # Errors
    /// The kernel's own; the caller knows the action and says which it was.
    fn apply(&self, action: &Action) -> io::Result<()>;
}

/// A kernel that only writes down what it is asked for.
#[derive(Debug, Default)]
pub struct Recorder {
    actions: RefCell<Vec<Action>>,
    refusals: Vec<(String, i32)>,
}

impl Recorder {
    /// Refuses every action whose text begins so, with this errno.
    #[must_use]
    pub fn refusing(mut self, text: &str, errno: i32) -> Self {
        self.refusals.push((text.to_owned(), errno));
        self
    }

    /// What was asked for and not refused, one line an action.
    pub fn lines(&self) -> Vec<String> {
        self.actions.borrow().iter().map(ToString::to_string).collect()
    }
}

impl Kernel for Recorder {
    fn apply(&self, action: &Action) -> io::Result<()> {
        let text = action.to_string();
        if let Some((_, errno)) = self.refusals.iter().find(|(start, _)| text.starts_with(start)) {
            return Err(io::Error::from_raw_os_error(*errno));
        }
        self.actions.borrow_mut().push(action.clone());
        Ok(())
    }
}
