// SPDX-License-Identifier: Apache-2.0
//! The section `files`.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::bundle::{Ids, numeric};
use crate::tree::{Content, Kind, Node, Tree};
use crate::yaml::{FileEntry, Source};

/// Adds every entry, in order. Missing directories above one get its owner, and
/// its mode with search permission for whoever may read or write.
pub(super) fn add(tree: &mut Tree, source: &Source, ids: &Ids) -> Result<()> {
    for (index, entry) in source.config.files.iter().enumerate() {
        add_one(tree, entry, source, ids).with_context(|| format!("files[{index}] {}", entry.path))?;
    }
    Ok(())
}

fn add_one(tree: &mut Tree, entry: &FileEntry, source: &Source, ids: &Ids) -> Result<()> {
    ensure!(!entry.path.trim_matches('/').is_empty(), "no path");
    let mode = match (entry.mode.as_str(), entry.directory) {
        ("", true) => 0o700,
        ("", false) => 0o600,
        (mode, _) => u32::from_str_radix(mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .with_context(|| format!("mode {mode:?} is not an octal number up to 7777"))?,
    };
    let Some(kind) = kind(entry, source)? else { return Ok(()) };
    let uid = numeric(entry.uid.as_ref(), ids).context("uid")?;
    let gid = numeric(entry.gid.as_ref(), ids).context("gid")?;
    let node = |mode, kind| Node { uid, gid, ..Node::new(mode, kind) };
    let search = [0o700, 0o070, 0o007].into_iter().filter(|class| mode & class != 0);
    let dir_mode = search.fold(mode & 0o777, |mode, class| mode | (class & 0o111));
    let path = entry.path.trim_matches('/');
    for parent in path.match_indices('/').map(|(end, _)| &path[..end]) {
        if tree.lookup(parent).is_none() {
            tree.insert(parent, node(dir_mode, Kind::Dir))?;
        }
    }
    tree.insert(path, node(mode, kind))
}

/// What the entry makes; None when it is optional and its source is not there.
fn kind(entry: &FileEntry, source: &Source) -> Result<Option<Kind>> {
    let given = [
        ("directory", entry.directory),
        ("symlink", !entry.symlink.is_empty()),
        ("contents", entry.contents.is_some()),
        ("source", !entry.source.is_empty()),
        ("metadata", !entry.metadata.is_empty()),
    ];
    let given: Vec<_> = given.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
    Ok(Some(match given[..] {
        ["directory"] => Kind::Dir,
        ["symlink"] => Kind::Symlink(entry.symlink.clone()),
        ["contents"] => Kind::File(entry.contents.clone().unwrap_or_default().into()),
        ["metadata"] => Kind::File(source.metadata(&entry.metadata)?.into()),
        ["source"] => {
            let path = expand_home(&entry.source);
            if entry.optional && std::fs::File::open(&path).is_err() {
                return Ok(None);
            }
            // Read now: the file may change before the image is written.
            Kind::File(Content::Memory(Content::from_path(&path)?.read()?))
        }
        [] => bail!("none of directory, symlink, contents, source, metadata is given"),
        _ => bail!("{} are given, only one can be", given.join(" and ")),
    }))
}

fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}
