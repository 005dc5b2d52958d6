// SPDX-License-Identifier: Apache-2.0
//! Trees as cpio archives in the newc format, for an initial ramdisk
//! (kernel, Documentation/driver-api/early-userspace/buffer-format.rst).
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::tree::{Kind, Node, Tree};

/// File type bits of a mode (inode(7)).
const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Entries, and their contents, start at multiples of this many bytes.
const ALIGN: u64 = 4;

/// The names of one inode: its number, how many there are, how many are
/// written.
struct Names {
    inode: u32,
    total: u32,
    written: u32,
}

/// Writes `tree` as one archive, parents before what is in them. Of hard links
/// the last carries the content, as cpio(1) expects.
pub fn write(tree: &Tree, out: &mut dyn Write) -> Result<()> {
    let mut names: HashMap<*const Node, Names> = HashMap::new();
    for (inode, (_, node)) in (1..).zip(tree.iter()) {
        names.entry(Arc::as_ptr(node)).or_insert(Names { inode, total: 0, written: 0 }).total += 1;
    }
    for (path, node) in tree.iter() {
        let Some(names) = names.get_mut(&Arc::as_ptr(node)) else { continue };
        names.written += 1;
        entry(out, path, node, names).with_context(|| format!("cannot write {path}"))?;
    }
    header(out, "TRAILER!!!", &Fields { links: 1, ..Fields::default() })
}

#[derive(Default)]
struct Fields {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime: u32,
    size: u32,
    device: (u32, u32),
}

fn entry(out: &mut dyn Write, path: &str, node: &Node, names: &Names) -> Result<()> {
    let (kind, device) = match node.kind {
        Kind::Dir => (S_IFDIR, (0, 0)),
        Kind::File(_) => (S_IFREG, (0, 0)),
        Kind::Symlink(_) => (S_IFLNK, (0, 0)),
        Kind::Char { major, minor } => (S_IFCHR, (major, minor)),
        Kind::Block { major, minor } => (S_IFBLK, (major, minor)),
        Kind::Fifo => (S_IFIFO, (0, 0)),
    };
    let size = match &node.kind {
        Kind::File(content) if names.written == names.total => content.len(),
        Kind::Symlink(target) => target.len() as u64,
        _ => 0,
    };
    let fields = Fields {
        inode: names.inode,
        mode: kind | node.mode,
        uid: node.uid,
        gid: node.gid,
        links: if node.is_dir() { 2 } else { names.total },
        mtime: u32::try_from(node.mtime).unwrap_or(u32::MAX),
        size: u32::try_from(size).context("4 GiB or more do not fit into this format")?,
        device,
    };
    header(out, path, &fields)?;
    match &node.kind {
        Kind::File(content) if size > 0 => content.copy_to(out)?,
        Kind::Symlink(target) => out.write_all(target.as_bytes())?,
        _ => {}
    }
    pad(out, size)
}

fn header(out: &mut dyn Write, name: &str, f: &Fields) -> Result<()> {
    let Fields { inode, mode, uid, gid, links, mtime, size, device: (major, minor) } = f;
    let name_size = name.len() + 1;
    let header = format!(
        "070701{inode:08X}{mode:08X}{uid:08X}{gid:08X}{links:08X}{mtime:08X}{size:08X}\
         {:08X}{:08X}{major:08X}{minor:08X}{name_size:08X}{:08X}{name}\0",
        0, 0, 0
    );
    out.write_all(header.as_bytes())?;
    pad(out, header.len() as u64)
}

fn pad(out: &mut dyn Write, len: u64) -> Result<()> {
    let missing = len.next_multiple_of(ALIGN) - len;
    Ok(out.write_all(&[0; ALIGN as usize][..missing as usize])?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_lists_what_was_written() {
        let mut tree = Tree::new();
        tree.dir("d", 0o1777).unwrap();
        tree.file("d/a", 0o4755, "hello").unwrap();
        tree.hard_link("b", "d/a").unwrap();
        tree.symlink("s", "/d/a").unwrap();
        let device = Kind::Char { major: 5, minor: 1 };
        tree.insert("dev/console", Node { uid: 7, gid: 8, ..Node::new(0o600, device) }).unwrap();
        let mut archive = Vec::new();
        write(&tree, &mut archive).unwrap();

        let mut cpio = Command::new("cpio")
            .args(["-itv", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        let list = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<Vec<_>> = list.lines().map(|l| l.split_whitespace().collect()).collect();
        let column = |i: usize| lines.iter().map(|l| l[i]).collect::<Vec<_>>();
        assert_eq!(
            column(0),
            ["-rwsr-xr-x", "drwxrwxrwt", "-rwsr-xr-x", "drwxr-xr-x", "crw-------", "lrwxrwxrwx"]
        );
        assert_eq!(column(1), ["2", "2", "2", "2", "1", "1"]);
        assert_eq!(lines[4][2..6], ["7", "8", "5,", "1"]);
        assert!(lines[5].ends_with(&["s", "->", "/d/a"]));
    }

    #[test]
    fn hard_links_unpack_to_one_file() {
        let mut tree = Tree::new();
        tree.file("z", 0o644, "hello").unwrap();
        tree.hard_link("a", "z").unwrap();
        tree.file("empty", 0o644, "").unwrap();
        tree.hard_link("empty2", "empty").unwrap();
        let mut archive = Vec::new();
        write(&tree, &mut archive).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("cpio")
            .args(["-id", "--quiet"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(cpio.wait().unwrap().success());
        let inode = |name: &str| {
            let meta = std::fs::metadata(dir.path().join(name)).unwrap();
            std::os::unix::fs::MetadataExt::ino(&meta)
        };
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "hello");
        assert_eq!(inode("a"), inode("z"));
        assert_eq!(inode("empty"), inode("empty2"));
    }
}
