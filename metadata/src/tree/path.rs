// SPDX-License-Identifier: Apache-2.0
//! Where a file of the tree goes: a path that cannot leave the base.

use std::fmt;
use std::path::Path;

/// The longest name the kernel takes for one file (`NAME_MAX` of `<linux/limits.h>`).
const NAME_MAX: usize = 255;
/// The longest path it takes (`PATH_MAX` there).
const PATH_MAX: usize = 4096;

/// A path beneath the base, as a list of names. No name is empty, `.` or
/// `..`, holds `/` or NUL, or is longer than the kernel takes. An empty list
/// is the base itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TreePath {
    names: Vec<String>,
}

/// Why a name cannot be a place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `..` that climbs above the base.
    #[error("it leads out of the tree")]
    Escapes,
    /// A NUL byte, which no path of the kernel can hold.
    #[error("it holds a NUL byte")]
    Nul,
    /// A part that is longer than [`NAME_MAX`] bytes.
    #[error("a part of it is longer than {NAME_MAX} bytes")]
    TooLong,
    /// Longer than [`PATH_MAX`] bytes altogether.
    #[error("it is longer than {PATH_MAX} bytes")]
    PathTooLong,
}

impl TreePath {
    /// The place that `text` names as seen from here. As in a path of a
    /// shell, `/` separates names and `.` and `..` mean this and the upper
    /// directory; unlike there nothing is looked up: `..` undoes the name
    /// before it whatever that is on disk.
    ///
    /// # Errors
    /// [`PathError`]. A `..` above the base is refused even where the rest of
    /// the path would come back.
    pub fn join(&self, text: &str) -> Result<Self, PathError> {
        if text.len() > PATH_MAX {
            return Err(PathError::PathTooLong);
        }
        let mut names = self.names.clone();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop().ok_or(PathError::Escapes)?),
                name if name.contains('\0') => return Err(PathError::Nul),
                name if name.len() > NAME_MAX => return Err(PathError::TooLong),
                name => names.push(name.to_owned()),
            }
        }
        Ok(Self { names })
    }

    /// The directory it is in and its own name; `None` for the base.
    pub fn split(&self) -> Option<(&[String], &str)> {
        self.names.split_last().map(|(name, parent)| (parent, name.as_str()))
    }

    /// The names, outermost first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The path as seen from outside, for messages.
    pub fn beneath<'a>(&'a self, base: &'a Path) -> impl fmt::Display + 'a {
        Beneath { base, path: self }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join("/"))
    }
}

struct Beneath<'a> {
    base: &'a Path,
    path: &'a TreePath,
}

/// Names come from strangers: what could move a terminal's cursor is escaped.
impl fmt::Display for Beneath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base.display())?;
        for name in &self.path.names {
            f.write_str("/")?;
            for c in name.chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> Result<String, PathError> {
        TreePath::default().join(text).map(|path| path.to_string())
    }

    #[test]
    fn names_are_cleaned_by_their_text() {
        assert_eq!(clean("./c").unwrap(), "c");
        assert_eq!(clean("a/../b").unwrap(), "b");
        assert_eq!(clean("a//b/.").unwrap(), "a/b");
        assert_eq!(clean("/etc/passwd").unwrap(), "etc/passwd");
        assert_eq!(clean("").unwrap(), "");
        assert_eq!(clean("a/..").unwrap(), "");
        let inner = TreePath::default().join("x/y").unwrap();
        assert_eq!(inner.join("../z").unwrap().to_string(), "x/z");
    }

    #[test]
    fn nothing_leaves_the_base() {
        for text in ["..", "../x", "a/../../x", "../config/x", "/.."] {
            assert_eq!(clean(text), Err(PathError::Escapes), "{text}");
        }
        assert_eq!(TreePath::default().join("x").unwrap().join("../../y"), Err(PathError::Escapes));
    }

    #[test]
    fn names_the_kernel_cannot_hold_are_refused() {
        assert_eq!(clean("a\0b"), Err(PathError::Nul));
        assert_eq!(clean(&"n".repeat(256)), Err(PathError::TooLong));
        assert!(clean(&"n".repeat(255)).is_ok());
        assert_eq!(clean(&"n/".repeat(2049)), Err(PathError::PathTooLong));
        assert!(clean(&"n/".repeat(2048)).is_ok());
    }

    #[test]
    fn messages_cannot_move_the_cursor() {
        let path = TreePath::default().join("a\x1b[2J").unwrap();
        assert_eq!(path.beneath(Path::new("/run/config")).to_string(), "/run/config/a\\u{1b}[2J");
    }
}
