// SPDX-License-Identifier: Apache-2.0
//! Which configuration files count, and in which order: sysctl.d(5).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The directories, the one that counts most first.
pub const DIRECTORIES: [&str; 4] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

/// The number of the device `/dev/null` (Documentation/admin-guide/devices.txt):
/// 1 and 3.
const NULL: u64 = 0x103;

/// What the directories hold.
#[derive(Debug, Default)]
pub struct Found {
    /// The files to read, in this order: by name, wherever they are.
    pub files: Vec<PathBuf>,
    /// Files that do not count because of another of their name.
    pub replaced: Vec<Replaced>,
    /// What could not be read, or is not read.
    pub failures: Vec<Failure>,
}

/// A file that another of its name replaces.
#[derive(Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The file that does not count.
    pub file: PathBuf,
    /// The one in a directory that counts more.
    pub by: PathBuf,
    /// That one is a link to `/dev/null`: it only switches the other off.
    pub masked: bool,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, by, masked } = self;
        let how = if *masked { "switched off" } else { "replaced" };
        write!(f, "{}: {how} by {}", file.display(), by.display())
    }
}

/// A directory or file that does not count.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// None of the directories exists.
    #[error("no configuration: none of these directories exists: {}", list(.0))]
    NoDirectory(Vec<PathBuf>),
    /// A directory that exists cannot be listed.
    #[error("cannot list {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// A file cannot be read.
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// Neither a file nor a link to one.
    #[error("{}: not read: no regular file", .0.display())]
    Kind(PathBuf),
    /// A name without `.conf`.
    #[error("{}: not read: its name does not end in .conf", .0.display())]
    Name(PathBuf),
}

impl Failure {
    /// Whether the program must report failure, as LinuxKit's does when its
    /// directory or one of its files cannot be read.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::NoDirectory(_) | Self::Directory(..) | Self::File(..))
    }
}

/// Looks through the directories, the one that counts most first. Of several
/// files with one name the first found counts; a link to `/dev/null` counts as
/// an empty file.
pub fn find(directories: &[PathBuf]) -> Found {
    let mut found = Found::default();
    let mut exists = false;
    let mut chosen: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for (rank, directory) in directories.iter().enumerate() {
        let names = match list_names(directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                found.failures.push(Failure::Directory(directory.clone(), error));
                exists = true;
                continue;
            }
        };
        exists = true;
        for name in names {
            let file = directory.join(&name);
            if !counts(&name, rank) {
                found.failures.push(Failure::Name(file));
            } else if let Some(by) = chosen.get(&name) {
                found.replaced.push(Replaced { file, by: by.clone(), masked: is_mask(by) });
            } else {
                chosen.insert(name, file);
            }
        }
    }
    if !exists {
        found.failures.push(Failure::NoDirectory(directories.to_vec()));
    }
    for file in chosen.into_values().filter(|file| !is_mask(file)) {
        match fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() => found.files.push(file),
            // A fifo would keep the boot waiting for ever.
            Ok(_) => found.failures.push(Failure::Kind(file)),
            Err(error) => found.failures.push(Failure::File(file, error)),
        }
    }
    found
}

fn list_names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}

/// A name ends in `.conf`. LinuxKit takes any name: in the first directory,
/// the one it knows, one without any suffix counts too, so that settings of an
/// existing image do not get lost. `README.txt` and `a.conf~` do not.
fn counts(name: &OsStr, rank: usize) -> bool {
    let name = name.as_bytes();
    match name.iter().rposition(|byte| *byte == b'.') {
        None => rank == 0,
        Some(0) => false,
        Some(dot) => name.get(dot..) == Some(b".conf"),
    }
}

/// Whether it is a link to `/dev/null`, by whatever way: `../../dev/null` too.
fn is_mask(file: &Path) -> bool {
    let Ok(target) = fs::read_link(file) else { return false };
    target == Path::new("/dev/null") || fs::metadata(file).is_ok_and(|end| end.rdev() == NULL)
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[&str]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for file in files {
                let path = tree.path(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            tree
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn find(&self, directories: &[&str]) -> (Vec<String>, Vec<String>) {
            let directories: Vec<_> = directories.iter().map(|path| self.path(path)).collect();
            let found = find(&directories);
            let text = |text: String| text.replace(&format!("{}/", self.0.path().display()), "");
            let files = found.files.iter().map(|file| text(file.display().to_string()));
            let notes = found.replaced.iter().map(|replaced| text(replaced.to_string()));
            let failures = found.failures.iter().map(|failure| text(failure.to_string()));
            (files.collect(), notes.chain(failures).collect())
        }
    }

    #[test]
    fn names_order_the_files_and_directories_replace_them() {
        let tree =
            Tree::new(&["etc/50-b.conf", "run/50-b.conf", "usr/50-b.conf", "usr/10-a.conf", "run/99.conf"]);
        let (files, notes) = tree.find(&["etc", "run", "local", "usr"]);
        assert_eq!(files, ["usr/10-a.conf", "etc/50-b.conf", "run/99.conf"]);
        assert_eq!(
            notes,
            ["run/50-b.conf: replaced by etc/50-b.conf", "usr/50-b.conf: replaced by etc/50-b.conf"]
        );
    }

    #[test]
    fn a_link_to_dev_null_masks() {
        let tree = Tree::new(&["usr/10-a.conf", "usr/20-b.conf", "etc/30.conf"]);
        symlink("/dev/null", tree.path("etc/10-a.conf")).unwrap();
        // A link that masks nothing is no error, and one to a file is that file.
        symlink("/dev/null", tree.path("etc/11-none.conf")).unwrap();
        symlink("../usr/20-b.conf", tree.path("etc/40-link.conf")).unwrap();
        // As `ln -sr` makes it.
        fs::write(tree.path("usr/15-c.conf"), "").unwrap();
        symlink("../".repeat(40) + "dev/null", tree.path("etc/15-c.conf")).unwrap();
        let (files, notes) = tree.find(&["etc", "usr"]);
        assert_eq!(files, ["usr/20-b.conf", "etc/30.conf", "etc/40-link.conf"]);
        assert_eq!(
            notes,
            ["usr/10-a.conf: switched off by etc/10-a.conf", "usr/15-c.conf: switched off by etc/15-c.conf"]
        );
    }

    #[test]
    fn other_names_are_not_read_and_said_so() {
        let tree = Tree::new(&["etc/plain", "etc/a.conf~", "etc/.conf", "etc/README.sysctl", "usr/README"]);
        let (files, notes) = tree.find(&["etc", "usr"]);
        assert_eq!(files, ["etc/plain"]);
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(notes.iter().all(|note| note.ends_with("not read: its name does not end in .conf")));
    }

    #[test]
    fn what_is_not_there_or_no_file_is_said() {
        let tree = Tree::new(&["file"]);
        fs::create_dir_all(tree.path("etc/directory.conf")).unwrap();
        symlink("nowhere", tree.path("etc/dangling.conf")).unwrap();
        let (files, notes) = tree.find(&["etc"]);
        assert!(files.is_empty());
        assert_eq!(notes, ["cannot read etc/dangling.conf", "etc/directory.conf: not read: no regular file"]);
        assert_eq!(tree.find(&["a", "b"]).1.len(), 1);
        assert!(tree.find(&["a", "b"]).1[0].starts_with("no configuration"));
        assert_eq!(tree.find(&["file"]).1, ["cannot list file"]);
    }
}
