// SPDX-License-Identifier: Apache-2.0
//! The tags of packages: what `linuxkit pkg show-tag` prints for them.
//!
//! A package is known by what it is made from: the hash git has for its folder,
//! and, as a `build.yml` can name more sources, the SHA-1 of that hash and theirs
//! in one row. Ours name one, the repository, whose hash is the commit's tree.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha1::{Digest, Sha1};

/// What is checked out.
#[derive(Clone, Debug)]
pub enum Revision {
    /// A commit of the repository at this path.
    Git(PathBuf),
    /// No repository: sources from an archive. Every package has this tag.
    Fixed(String),
}

impl Revision {
    /// The repository that `here` is in; without one, our version, and a line
    /// that says so.
    pub fn of(here: &Path) -> Self {
        match git(here, &["rev-parse", "--show-toplevel"]) {
            Ok(top) => Self::Git(top.trim().into()),
            Err(error) => {
                let version = env!("CARGO_PKG_VERSION");
                eprintln!("packages are tagged {version}: no commit to name them after: {error:#}");
                Self::Fixed(version.into())
            }
        }
    }

    /// The tag of the package in the folder `pkg/NAME`.
    ///
    /// What is not committed makes it `HASH-dirty-XXXXXXX`, after the
    /// difference: no two states share a tag. (LinuxKit looks for changes in the
    /// package's own folder only.)
    pub fn tag(&self, name: &str) -> Result<String> {
        let top = match self {
            Self::Fixed(tag) => return Ok(tag.clone()),
            Self::Git(top) => top,
        };
        let folder = format!("pkg/{name}");
        let entry = git(top, &["ls-tree", "--full-tree", "HEAD", "--", &folder])?;
        let hash = entry.split_whitespace().nth(2).unwrap_or_default();
        let commit = git(top, &["show", "--format=%T", "-s", "HEAD"])?;
        // A package that is not committed yet has no hash, and is not clean.
        let mut tag = sha1(&format!("{hash}{}", commit.trim()));
        let changes = git(top, &["status", "--porcelain"])?;
        if !changes.is_empty() {
            let difference = git(top, &["diff", "HEAD"])?;
            let content = sha1(&format!("{changes}{difference}"));
            tag = format!("{tag}-dirty-{}", content.get(..7).unwrap_or_default());
        }
        Ok(tag)
    }
}

fn sha1(text: &str) -> String {
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git(folder: &Path, words: &[&str]) -> Result<String> {
    let shown = || format!("git -C {} {}", folder.display(), words.join(" "));
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(words)
        .output()
        .with_context(|| format!("cannot run {}", shown()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "{}: {}: {said}", shown(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with one package in it.
    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("pkg/thing")).unwrap();
        std::fs::write(dir.path().join("pkg/thing/build.yml"), "image: thing\n").unwrap();
        shell(
            dir.path(),
            "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm one",
        );
        dir
    }

    fn shell(folder: &Path, script: &str) -> String {
        let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// LinuxKit's rule, in other words.
    const RULE: &str =
        "printf %s%s $(git rev-parse HEAD:pkg/thing) $(git rev-parse 'HEAD^{tree}') | sha1sum | cut -c -40";

    #[test]
    fn the_tag_is_the_hash_of_the_package_and_its_sources() {
        let dir = repository();
        let revision = Revision::of(&dir.path().join("pkg"));
        let clean = revision.tag("thing").unwrap();
        assert_eq!(clean, shell(dir.path(), RULE));
        // What is not committed, a new file too, has another tag.
        std::fs::write(dir.path().join("new"), "").unwrap();
        let new = revision.tag("thing").unwrap();
        assert!(new.starts_with(&format!("{clean}-dirty-")) && new.len() == clean.len() + 14, "{new}");
        std::fs::write(dir.path().join("pkg/thing/build.yml"), "image: other\n").unwrap();
        assert_ne!(revision.tag("thing").unwrap(), new);
    }

    #[test]
    fn sources_from_an_archive_have_the_versions_tag() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Revision::of(dir.path()).tag("thing").unwrap(), env!("CARGO_PKG_VERSION"));
    }
}
