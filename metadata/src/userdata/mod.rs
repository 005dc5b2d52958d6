// SPDX-License-Identifier: Apache-2.0
//! User data in LinuxKit's own form: a JSON object that is a file tree.
//!
//! ```json
//! { "hello": { "content": "world", "perm": "0600" },
//!   "dir": { "entries": { "inner": { "content": "" } } } }
//! ```
//! An entry is a file (`content`) or a directory (`entries`), never both.
//! User data that is anything else stays as it is in the file `userdata`, for
//! whoever understands it.

mod json;

use crate::tree::path::{PathError, TreePath};
use crate::tree::{DIR_MODE, FILE_MODE, Node};
use json::{Entries, Entry};

pub use json::NotATree;

/// Most files and directories one document may ask for.
const MAX_NODES: usize = 4096;

/// Why one entry is not made. Its neighbours are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is no place in the tree.
    #[error("{name:?} is refused: {source}")]
    Name {
        /// The key of the document.
        name: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// Neither `content` nor `entries`, or both.
    #[error("{path} is invalid: an entry has either content or entries")]
    Shape {
        /// Which.
        path: String,
    },
    /// `perm` is not an octal number.
    #[error("{path} is refused: perm {perm:?} is not an octal number")]
    Perm {
        /// Which.
        path: String,
        /// What stands there.
        perm: String,
    },
    /// A document of more than [`MAX_NODES`] files and directories.
    #[error("{path} and what follows is refused: more than {MAX_NODES} files and directories")]
    TooMany {
        /// The first one too many.
        path: String,
    },
}

/// What a document asks for: in its own order, what can be made and what is
/// refused. `base` is for messages.
///
/// # Errors
/// [`NotATree`]: nothing is to be made of this user data.
pub fn parse(userdata: &[u8], base: &std::path::Path) -> Result<Vec<Result<Node, Refusal>>, NotATree> {
    let entries = json::parse(userdata)?;
    let mut plan = Plan { base, steps: Vec::new() };
    plan.directory(&TreePath::default(), entries);
    Ok(plan.steps)
}

struct Plan<'a> {
    base: &'a std::path::Path,
    steps: Vec<Result<Node, Refusal>>,
}

impl Plan<'_> {
    fn directory(&mut self, at: &TreePath, entries: Entries) {
        for (name, entry) in entries {
            if self.steps.len() >= MAX_NODES {
                if self.steps.len() == MAX_NODES {
                    let path = at.join(&name).unwrap_or_default();
                    self.steps.push(Err(Refusal::TooMany { path: self.shown(&path) }));
                }
                return;
            }
            match at.join(&name) {
                Ok(path) => self.entry(path, entry),
                Err(source) => self.steps.push(Err(Refusal::Name { name, source })),
            }
        }
    }

    fn entry(&mut self, path: TreePath, entry: Entry) {
        let shown = self.shown(&path);
        let mode = |default| match entry.perm.as_deref() {
            None | Some("") => Ok(default),
            Some(perm) => {
                octal(perm).ok_or_else(|| Refusal::Perm { path: shown.clone(), perm: perm.to_owned() })
            }
        };
        match (entry.content, entry.entries) {
            (Some(content), None) => {
                let is_base = path.split().is_none();
                self.steps.push(mode(FILE_MODE).and_then(|mode| {
                    if is_base {
                        return Err(Refusal::Shape { path: shown });
                    }
                    Ok(Node::File { path, mode, bytes: content.into_bytes() })
                }));
            }
            (None, Some(entries)) => match mode(DIR_MODE) {
                Ok(mode) => {
                    self.steps.push(Ok(Node::Dir { path: path.clone(), mode }));
                    self.directory(&path, entries);
                }
                Err(refusal) => self.steps.push(Err(refusal)),
            },
            _ => self.steps.push(Err(Refusal::Shape { path: shown })),
        }
    }

    fn shown(&self, path: &TreePath) -> String {
        path.beneath(self.base).to_string()
    }
}

/// An octal number of at most 32 bits without sign or blanks; only the
/// permission bits of it count, so no file becomes set-uid.
fn octal(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    u32::from_str_radix(text, 8).ok().map(|mode| mode & 0o777)
}

#[cfg(test)]
mod tests;
