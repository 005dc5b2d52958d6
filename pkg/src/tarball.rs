// SPDX-License-Identifier: Apache-2.0
//! Trees from tar streams (image layers, a package's files) and back. What is
//! written depends on the tree and on nothing else.
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tar::{Archive, Builder, EntryType, Header};

use crate::tree::{Content, Kind, Node, Tree};

/// The prefix of a whiteout and the name of an opaque one
/// (OCI image specification, layer.md).
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Lays an uncompressed tar in memory over `tree`; contents are not copied.
pub fn apply(tree: &mut Tree, tar: &Bytes) -> Result<()> {
    apply_from(tree, Cursor::new(tar), |start, len| {
        let start = usize::try_from(start)?;
        Ok(Content::Memory(tar.slice(start..start + usize::try_from(len)?)))
    })
}

/// Lays an uncompressed tar, `len` bytes from `offset` of a file, over `tree`;
/// contents are read from that file when they are needed.
pub fn apply_file(tree: &mut Tree, path: &Path, offset: u64, len: u64) -> Result<()> {
    let file = File::open(path)?;
    let window = Window { file: io::BufReader::new(file), start: offset, at: 0, len };
    let path: Arc<Path> = path.into();
    apply_from(tree, window, |start, len| {
        Ok(Content::File { path: path.clone(), offset: offset + start, len })
    })
}

enum Change {
    Put(String, Node),
    Link(String, String),
}

/// Whiteouts hide what lower layers brought and nothing of their own layer,
/// whatever the order in the tar: they are carried out first.
fn apply_from<R: Read + Seek>(
    tree: &mut Tree,
    tar: R,
    content: impl Fn(u64, u64) -> Result<Content>,
) -> Result<()> {
    let mut changes = Vec::new();
    for entry in Archive::new(tar).entries_with_seek().context("cannot read tar")? {
        let mut entry = entry.context("cannot read tar")?;
        let path = text(&entry.path_bytes())?;
        let (parent, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            tree.clear(parent)?;
            continue;
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            tree.remove(&format!("{parent}/{hidden}"))?;
            continue;
        }
        let header = entry.header();
        let target = || match entry.link_name_bytes() {
            Some(name) => text(&name),
            None => bail!("{path}: a link without a target"),
        };
        let device = || -> Result<_> {
            Ok((header.device_major()?.unwrap_or_default(), header.device_minor()?.unwrap_or_default()))
        };
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Dir,
            EntryType::Regular | EntryType::Continuous => {
                Kind::File(content(entry.raw_file_position(), entry.size()).with_context(|| path.clone())?)
            }
            EntryType::GNUSparse => {
                let mut all = Vec::new();
                entry.read_to_end(&mut all)?;
                Kind::File(all.into())
            }
            EntryType::Symlink => Kind::Symlink(target()?),
            EntryType::Link => {
                changes.push(Change::Link(path.clone(), target()?));
                continue;
            }
            EntryType::Char => device().map(|(major, minor)| Kind::Char { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| Kind::Block { major, minor })?,
            EntryType::Fifo => Kind::Fifo,
            // Headers that describe the archive and no file.
            EntryType::XGlobalHeader => continue,
            other => bail!("{path}: unknown kind of tar entry {other:?}"),
        };
        let header = entry.header();
        let node = Node {
            mode: header.mode()? & 0o7777,
            uid: u32::try_from(header.uid()?)?,
            gid: u32::try_from(header.gid()?)?,
            mtime: header.mtime()?,
            kind,
        };
        changes.push(Change::Put(path, node));
    }
    for change in changes {
        match change {
            Change::Put(path, node) => tree.insert(&path, node)?,
            Change::Link(path, target) => tree.hard_link(&path, &target)?,
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => bail!("name {:?} is not UTF-8", String::from_utf8_lossy(bytes)),
    }
}

/// Writes `tree` as a tar, entries in byte order of their paths.
pub fn write(tree: &Tree, out: impl Write) -> Result<()> {
    let mut builder = Builder::new(out);
    let mut links: HashMap<*const Node, &str> = HashMap::new();
    for (path, node) in tree.iter() {
        append(&mut builder, &mut links, path, node).with_context(|| format!("cannot write {path}"))?;
    }
    builder.into_inner()?.flush()?;
    Ok(())
}

fn append<'a, W: Write>(
    builder: &mut Builder<W>,
    links: &mut HashMap<*const Node, &'a str>,
    path: &'a str,
    node: &Arc<Node>,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.uid.into());
    header.set_gid(node.gid.into());
    header.set_mtime(node.mtime);
    header.set_size(0);
    if !node.is_dir() {
        if let Some(first) = links.get(&Arc::as_ptr(node)) {
            header.set_entry_type(EntryType::Link);
            return Ok(builder.append_link(&mut header, path, first)?);
        }
        links.insert(Arc::as_ptr(node), path);
    }
    let mut device = |kind, (major, minor): (u32, u32)| -> Result<()> {
        header.set_entry_type(kind);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        Ok(builder.append_data(&mut header, path, io::empty())?)
    };
    match &node.kind {
        Kind::Char { major, minor } => device(EntryType::Char, (*major, *minor))?,
        Kind::Block { major, minor } => device(EntryType::Block, (*major, *minor))?,
        Kind::Fifo => device(EntryType::Fifo, (0, 0))?,
        Kind::Dir => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, format!("{path}/"), io::empty())?;
        }
        Kind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, path, target)?;
        }
        Kind::File(content) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(content.len());
            builder.append_data(&mut header, path, content.open()?)?;
        }
    }
    Ok(())
}

/// A range of a file as a file of its own.
struct Window {
    file: io::BufReader<File>,
    start: u64,
    at: u64,
    len: u64,
}

impl Read for Window {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == 0 {
            self.file.seek(SeekFrom::Start(self.start))?;
        }
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.read(&mut buf[..left])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Current(by) = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        self.at = self.at.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.seek_relative(by)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar from (name, content) pairs; a name that ends in / is a directory.
    fn tar(entries: &[(&str, &str)]) -> Bytes {
        let mut builder = Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(content.len() as u64);
            header.set_entry_type(if name.ends_with('/') {
                EntryType::Directory
            } else {
                EntryType::Regular
            });
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().into()
    }

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn whiteouts_hide_lower_layers_only() {
        let mut tree = Tree::new();
        apply(
            &mut tree,
            &tar(&[("a/", ""), ("a/1", "x"), ("a/2", "x"), ("b/", ""), ("b/old", "x"), ("c", "x")]),
        )
        .unwrap();
        apply(&mut tree, &tar(&[("a/.wh.1", ""), ("b/new", "x"), ("b/.wh..wh..opq", ""), (".wh.c", "")]))
            .unwrap();
        assert_eq!(paths(&tree), ["a", "a/2", "b", "b/new"]);
    }

    #[test]
    fn every_kind_survives_a_round_trip() {
        let long = format!("d/{}", "n".repeat(150));
        let mut tree = Tree::new();
        tree.dir("d", 0o1777).unwrap();
        tree.file(&long, 0o4755, "content").unwrap();
        tree.hard_link("hard", &long).unwrap();
        tree.symlink("soft", &long).unwrap();
        tree.insert(
            "c",
            Node { uid: 3, gid: 3_000_000, ..Node::new(0o600, Kind::Char { major: 5, minor: 1 }) },
        )
        .unwrap();
        tree.insert("p", Node::new(0o600, Kind::Fifo)).unwrap();
        let mut first = Vec::new();
        write(&tree, &mut first).unwrap();
        let mut again = Tree::new();
        apply(&mut again, &first.clone().into()).unwrap();
        assert!(Arc::ptr_eq(again.get("hard").unwrap(), again.get(&long).unwrap()));
        assert_eq!(again.get("c").unwrap().gid, 3_000_000);
        let mut second = Vec::new();
        write(&again, &mut second).unwrap();
        assert!(first == second, "a second pass wrote other bytes");

        // The same tar as a part of a file on disk.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(&path, [b"1234567".as_slice(), &first].concat()).unwrap();
        let mut on_disk = Tree::new();
        apply_file(&mut on_disk, &path, 7, first.len() as u64).unwrap();
        let mut third = Vec::new();
        write(&on_disk, &mut third).unwrap();
        assert!(first == third, "read from disk it became something else");
    }

    #[test]
    fn an_entry_outside_the_root_is_an_error() {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, io::empty()).unwrap();
        let error = apply(&mut Tree::new(), &builder.into_inner().unwrap().into()).unwrap_err();
        assert!(error.to_string().contains("../escape"), "{error}");
    }
}
