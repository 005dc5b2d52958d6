// SPDX-License-Identifier: Apache-2.0
//! A file tree in memory: what layers are made from and root filesystems are
//! assembled in. File contents stay where they are (in memory or in a range of
//! a file on disk) until a writer asks for them, so a tree of a hundred
//! megabytes costs a few.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

/// How many symbolic links one path may go through, as in the kernel
/// (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// The bytes of a regular file.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Memory(Bytes),
    /// `len` bytes from `offset` of a file on disk, opened when needed.
    File {
        /// The file on disk.
        path: Arc<Path>,
        /// Where the content starts in it, in bytes.
        offset: u64,
        /// How many bytes it has.
        len: u64,
    },
}

impl Content {
    /// The whole of a file on disk.
    pub fn from_path(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(meta.is_file(), "cannot use {}: not a regular file", path.display());
        Ok(Self::File { path: path.into(), offset: 0, len: meta.len() })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A reader over exactly `len` bytes.
    pub fn open(&self) -> Result<Box<dyn Read + '_>> {
        match self {
            Self::Memory(bytes) => Ok(Box::new(bytes.as_ref())),
            Self::File { path, offset, len } => {
                let open = || -> io::Result<_> {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(*offset))?;
                    Ok(file.take(*len))
                };
                Ok(Box::new(open().with_context(|| format!("cannot read {}", path.display()))?))
            }
        }
    }

    /// Writes all bytes to `out`; a file that has become shorter is an error.
    pub fn copy_to(&self, out: &mut dyn Write) -> Result<()> {
        if let Self::Memory(bytes) = self {
            return Ok(out.write_all(bytes)?);
        }
        let copied = io::copy(&mut io::BufReader::with_capacity(256 << 10, self.open()?), out)?;
        ensure!(copied == self.len(), "{self:?} ended after {copied} bytes");
        Ok(())
    }

    /// All bytes in memory.
    pub fn read(&self) -> Result<Bytes> {
        if let Self::Memory(bytes) = self {
            return Ok(bytes.clone());
        }
        let mut all = Vec::with_capacity(usize::try_from(self.len())?);
        self.copy_to(&mut all)?;
        Ok(all.into())
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Memory(bytes.into())
    }
}

/// What a node is, with what only that kind has.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target as written.
    Symlink(String),
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// An inode. Two names that share one `Arc<Node>` are hard links.
#[derive(Clone, Debug)]
pub struct Node {
    /// Permission bits, set-id and sticky bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification, seconds since 1970.
    pub mtime: u64,
    /// What it is.
    pub kind: Kind,
}

impl Node {
    /// A node of root's, dated 1970: what reproducible images are made of.
    pub fn new(mode: u32, kind: Kind) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: 0, kind }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }
}

/// A file tree. Paths are relative to its root, without a leading slash; a
/// leading slash given by a caller is taken off. Iteration is in byte order of
/// the paths, so a directory always comes before what is in it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Arc<Node>>,
}

impl Tree {
    /// An empty tree: a root directory and nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `node` at `path`. Missing parents are made (0755, root); parents
    /// that are symbolic links are followed inside the tree and never out of
    /// it. What was there is replaced, except that a directory put on a
    /// directory keeps what is in it.
    pub fn insert(&mut self, path: &str, node: impl Into<Arc<Node>>) -> Result<()> {
        let node = node.into();
        let Some(path) = self.place(path)? else {
            ensure!(node.is_dir(), "the root of a tree cannot be anything but a directory");
            return Ok(());
        };
        if !node.is_dir() {
            self.remove_below(&path);
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// A directory of root's.
    pub fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        self.insert(path, Node::new(mode, Kind::Dir))
    }

    /// A regular file of root's.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Content>) -> Result<()> {
        self.insert(path, Node::new(mode, Kind::File(content.into())))
    }

    /// A symbolic link; `target` is stored as it is.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.insert(path, Node::new(0o777, Kind::Symlink(target.into())))
    }

    /// A second name, `path`, for what is at `target`.
    pub fn hard_link(&mut self, path: &str, target: &str) -> Result<()> {
        let found = self.place(target)?.and_then(|t| self.nodes.get(&t).cloned());
        let Some(node) = found.filter(|n| !n.is_dir()) else {
            bail!("cannot link {path}: {target} is not a file of this tree");
        };
        self.insert(path, node)
    }

    /// Takes away `path` and all below it; nothing there is no error.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        if let Some(path) = self.place(path)? {
            self.remove_below(&path);
            self.nodes.remove(&path);
        }
        Ok(())
    }

    /// Takes away all that is in the directory `path` and leaves it empty.
    pub fn clear(&mut self, path: &str) -> Result<()> {
        match self.place(path)? {
            Some(path) => self.remove_below(&path),
            None => self.nodes.clear(),
        }
        Ok(())
    }

    /// The node at `path`, links not followed.
    pub fn get(&self, path: &str) -> Option<&Arc<Node>> {
        self.nodes.get(path.trim_matches('/'))
    }

    /// The node `path` leads to, all symbolic links followed inside the tree.
    pub fn lookup(&self, path: &str) -> Option<&Arc<Node>> {
        self.get(&self.resolve(path).ok()?)
    }

    /// Every path and its node, parents first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Node>)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Puts all of `other` below the directory `prefix`, as unpacking it there
    /// would.
    pub fn graft(&mut self, prefix: &str, other: &Tree) -> Result<()> {
        let prefix = prefix.trim_matches('/');
        other.iter().try_for_each(|(path, node)| self.insert(&format!("{prefix}/{path}"), node.clone()))
    }

    fn remove_below(&mut self, path: &str) {
        // '0' is the byte after '/': this range is what starts with "path/".
        let below: Vec<_> =
            self.nodes.range(format!("{path}/")..format!("{path}0")).map(|(p, _)| p.clone()).collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// Where `path` lies once its parents' links are followed, with the
    /// parents made; None is the root.
    fn place(&mut self, path: &str) -> Result<Option<String>> {
        let mut parts: Vec<_> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        ensure!(!parts.contains(&".."), "{path}: a path in an image may not contain ..");
        let Some(name) = parts.pop() else {
            return Ok(None);
        };
        // The usual case by far: the parent is there and is a directory.
        let parent = parts.join("/");
        let parent = match self.nodes.get(&parent) {
            Some(node) if node.is_dir() => parent,
            _ => self.resolve(&parent)?,
        };
        ensure!(self.nodes.get(&parent).is_none_or(|n| n.is_dir()), "{path}: {parent} is not a directory");
        self.make_dirs(&parent);
        Ok(Some(join(&parent, name)))
    }

    fn make_dirs(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        for parent in ends.map(|end| &path[..end]).filter(|p| !p.is_empty()) {
            if !self.nodes.contains_key(parent) {
                self.nodes.insert(parent.into(), Node::new(0o755, Kind::Dir).into());
            }
        }
    }

    /// Follows every link of `path`; `..` in a link's target stops at the
    /// root. What does not exist is taken as a directory to be made.
    fn resolve(&self, path: &str) -> Result<String> {
        let mut todo: Vec<String> = path.split('/').rev().map(Into::into).collect();
        let (mut at, mut links) = (String::new(), 0);
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            match self.nodes.get(&next).map(|n| &n.kind) {
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    ensure!(links <= MAX_SYMLINKS, "{path}: too many symbolic links");
                    if target.starts_with('/') {
                        at.clear();
                    }
                    todo.extend(target.split('/').rev().map(Into::into));
                }
                None | Some(Kind::Dir) => at = next,
                Some(_) if todo.iter().all(|p| p.is_empty() || p == ".") => at = next,
                Some(_) => bail!("{path}: {next} is not a directory"),
            }
        }
        Ok(at)
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.into() } else { format!("{parent}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn parents_are_made_and_come_first() {
        let mut tree = Tree::new();
        tree.file("/a/b/c", 0o644, "x").unwrap();
        tree.file("a.txt", 0o644, "x").unwrap();
        assert_eq!(paths(&tree), ["a", "a.txt", "a/b", "a/b/c"]);
        assert_eq!(tree.get("a/b").unwrap().mode, 0o755);
    }

    #[test]
    fn links_of_parents_are_followed_inside_the_tree() {
        let mut tree = Tree::new();
        tree.symlink("bin", "usr/bin").unwrap();
        tree.symlink("out", "../../../etc").unwrap();
        tree.file("bin/x", 0o755, "x").unwrap();
        tree.file("out/passwd", 0o644, "x").unwrap();
        assert_eq!(paths(&tree), ["bin", "etc", "etc/passwd", "out", "usr", "usr/bin", "usr/bin/x"]);
        assert!(tree.lookup("/bin/x").is_some());
        tree.symlink("loop", "loop").unwrap();
        assert!(tree.file("loop/x", 0o644, "").unwrap_err().to_string().contains("too many"));
    }

    #[test]
    fn bad_paths_are_refused() {
        let mut tree = Tree::new();
        assert!(tree.file("a/../../b", 0o644, "").is_err());
        tree.file("f", 0o644, "").unwrap();
        assert!(tree.file("f/x", 0o644, "").unwrap_err().to_string().contains("f is not a directory"));
        assert!(tree.symlink("/", "x").is_err());
        assert!(tree.hard_link("g", "nothing").is_err());
    }

    #[test]
    fn a_file_replaces_a_directory_and_a_directory_keeps_its_files() {
        let mut tree = Tree::new();
        tree.file("d/x", 0o644, "").unwrap();
        tree.file("d0", 0o644, "").unwrap();
        tree.dir("d", 0o700).unwrap();
        assert_eq!(paths(&tree), ["d", "d/x", "d0"]);
        assert_eq!(tree.get("d").unwrap().mode, 0o700);
        tree.symlink("d", "elsewhere").unwrap();
        assert_eq!(paths(&tree), ["d", "d0"]);
    }

    #[test]
    fn a_hard_link_outlives_the_name_it_was_made_from() {
        let mut tree = Tree::new();
        tree.file("a", 0o644, "old").unwrap();
        tree.hard_link("b", "a").unwrap();
        assert!(Arc::ptr_eq(tree.get("a").unwrap(), tree.get("b").unwrap()));
        tree.file("a", 0o644, "new").unwrap();
        let Kind::File(content) = &tree.get("b").unwrap().kind else { panic!() };
        assert_eq!(content.read().unwrap().as_ref(), b"old");
    }
}
