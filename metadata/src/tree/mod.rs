// SPDX-License-Identifier: Apache-2.0
//! What is to be written: files and directories, in memory and in order.
//!
//! Providers and user data both end as a [`Tree`]; [`write::Base`] carries it
//! out.

pub mod path;
pub mod write;

use path::TreePath;

/// Permission bits of a file nobody said anything about.
pub const FILE_MODE: u32 = 0o644;
/// Permission bits of a directory nobody said anything about.
pub const DIR_MODE: u32 = 0o755;

/// One thing of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory, with the missing ones above it.
    Dir {
        /// Where.
        path: TreePath,
        /// Permission bits, if it is made; an existing one keeps its own.
        mode: u32,
    },
    /// A file. The directory it is in must be there.
    File {
        /// Where.
        path: TreePath,
        /// Permission bits, if it is made; an existing one keeps its own.
        mode: u32,
        /// What is in it.
        bytes: Vec<u8>,
    },
}

impl Node {
    /// Where it goes.
    pub fn path(&self) -> &TreePath {
        match self {
            Self::Dir { path, .. } | Self::File { path, .. } => path,
        }
    }
}

/// Files and directories in the order they are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Adds a file of the base directory with the usual mode. `name` is one
    /// of our own, not a stranger's.
    pub fn file(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        if let Ok(path) = TreePath::default().join(name) {
            self.push(Node::File { path, mode: FILE_MODE, bytes: bytes.into() });
        }
    }

    /// Adds `ssh/authorized_keys`, which only its owner reads.
    pub fn authorized_keys(&mut self, bytes: impl Into<Vec<u8>>) {
        let base = TreePath::default();
        if let (Ok(dir), Ok(path)) = (base.join("ssh"), base.join("ssh/authorized_keys")) {
            self.push(Node::Dir { path: dir, mode: DIR_MODE });
            self.push(Node::File { path, mode: 0o600, bytes: bytes.into() });
        }
    }

    /// Adds one node.
    pub fn push(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// What is in it, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The bytes of the last file at `path`.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.nodes.iter().rev().find_map(|node| match node {
            Node::File { path: at, bytes, .. } if at.to_string() == path => Some(bytes.as_slice()),
            _ => None,
        })
    }
}
