// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::tree::FILE_MODE;

fn path(text: &str) -> TreePath {
    TreePath::default().join(text).unwrap()
}

fn file(name: &str, mode: u32, bytes: &str) -> Node {
    Node::File { path: path(name), mode, bytes: bytes.into() }
}

fn dir(name: &str, mode: u32) -> Node {
    Node::Dir { path: path(name), mode }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn base() -> (tempfile::TempDir, Base) {
    let temporary = tempfile::tempdir().unwrap();
    let base = Base::open(&temporary.path().join("deep/config")).unwrap();
    (temporary, base)
}

#[test]
fn modes_are_exact_whatever_the_umask() {
    let (_guard, base) = base();
    assert_eq!(mode(base.path()), 0o755);
    base.write(&file("open", 0o666, "a")).unwrap();
    base.write(&file("closed", 0, "")).unwrap();
    base.write(&dir("d/e", 0o777)).unwrap();
    assert_eq!(mode(&base.path().join("open")), 0o666);
    assert_eq!(mode(&base.path().join("closed")), 0);
    assert_eq!(mode(&base.path().join("d")), 0o777);
    assert_eq!(mode(&base.path().join("d/e")), 0o777);
}

#[test]
fn an_existing_file_is_replaced_and_keeps_its_mode() {
    let (_guard, base) = base();
    let at = base.path().join("x");
    fs::write(&at, "old and longer").unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&at).unwrap().ino();
    base.write(&file("x", 0o777, "new")).unwrap();
    assert_eq!(fs::read(&at).unwrap(), b"new");
    assert_eq!(mode(&at), 0o640);
    assert_ne!(fs::metadata(&at).unwrap().ino(), before, "written in place instead of renamed");
    base.write(&dir("d", 0o700)).unwrap();
    base.write(&dir("d", 0o755)).unwrap();
    assert_eq!(mode(&base.path().join("d")), 0o700);
}

#[test]
fn no_link_is_followed() {
    let (guard, base) = base();
    let outside = guard.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "theirs").unwrap();
    symlink(&outside, base.path().join("dir")).unwrap();
    symlink(outside.join("f"), base.path().join("file")).unwrap();

    assert!(base.write(&file("dir/f", FILE_MODE, "ours")).is_err());
    assert!(base.write(&dir("dir", DIR_MODE)).is_err());
    assert!(base.write(&dir("dir/sub", DIR_MODE)).is_err());
    // A link where a file is to be is replaced, not written through.
    base.write(&file("file", FILE_MODE, "ours")).unwrap();
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"theirs");
    assert!(fs::symlink_metadata(base.path().join("file")).unwrap().is_file());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn directories_and_files_do_not_replace_each_other() {
    let (_guard, base) = base();
    base.write(&dir("d", DIR_MODE)).unwrap();
    base.write(&file("f", FILE_MODE, "")).unwrap();
    assert!(base.write(&file("d", FILE_MODE, "")).is_err());
    assert!(base.write(&dir("f", DIR_MODE)).is_err());
    assert!(base.write(&file("f/x", FILE_MODE, "")).is_err());
    let error = base.write(&file("none/x", FILE_MODE, "")).unwrap_err().to_string();
    assert!(error.ends_with("none/x: cannot open the directory it is in: ENOENT: No such file or directory"));
    let left: Vec<_> = fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "something was left behind: {left:?}");
}

#[test]
fn the_walk_opens_what_openat2_opens() {
    let (guard, base) = base();
    base.write(&dir("a/b", DIR_MODE)).unwrap();
    symlink(guard.path(), base.path().join("a/link")).unwrap();
    let names = |text: &str| path(text).names().to_vec();
    let id = |fd: OwnedFd| File::from(fd).metadata().unwrap().ino();
    assert_eq!(id(walk(&base.dir, &names("a/b")).unwrap()), id(base.open_dir(&names("a/b")).unwrap()));
    assert!(walk(&base.dir, &names("a/link")).is_err());
    assert!(base.open_dir(&names("a/link")).is_err());
    assert!(walk(&base.dir, &names("a/link/deep")).is_err());
    assert_eq!(base.open_dir(&names("a/link/deep")).unwrap_err(), Errno::ELOOP);
}

#[test]
fn a_file_is_read_back_up_to_a_limit() {
    let (_guard, base) = base();
    base.write(&file("hostname", FILE_MODE, "name\n")).unwrap();
    assert_eq!(base.read("hostname", 100).unwrap().unwrap(), b"name\n");
    assert_eq!(base.read("hostname", 2).unwrap().unwrap(), b"na");
    assert_eq!(base.read("absent", 100).unwrap(), None);
}
