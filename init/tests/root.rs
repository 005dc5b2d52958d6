// SPDX-License-Identifier: Apache-2.0
//! `/init`: moving a tree of files, and switching the root of a namespace.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod machine;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use init::root::copy::{Moved, relocate};
use init::sys::xattr;
use machine::Root;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, geteuid, mkfifo};

/// What must be the same of a file before and after: all that a program can ask for.
#[derive(Debug, PartialEq, Eq)]
struct Looks {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    links: u64,
    /// The first name of a file with several.
    first_name: PathBuf,
    attributes: BTreeMap<CString, Vec<u8>>,
    /// Length and hash.
    content: (usize, u64),
}

fn digest(bytes: &[u8]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    (bytes.len(), hasher.finish())
}

fn looks(top: &Path) -> BTreeMap<PathBuf, Looks> {
    let mut all = BTreeMap::new();
    let mut names = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = left.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let data = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(top).unwrap().to_owned();
        let content = match data.file_type() {
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        let attributes = xattr::list(&path).unwrap();
        let attributes = attributes.into_iter().map(|key| (key.clone(), xattr::get(&path, &key).unwrap()));
        let special = data.file_type().is_char_device() || data.file_type().is_block_device();
        all.insert(
            name.clone(),
            Looks {
                mode: data.mode(),
                owner: (data.uid(), data.gid()),
                device: if special { data.rdev() } else { 0 },
                links: if data.is_dir() { 0 } else { data.nlink() },
                first_name: names.entry(data.ino()).or_insert(name).clone(),
                attributes: attributes.collect(),
                content: digest(&content),
            },
        );
    }
    all
}

/// A tree with one of everything. What only root may make is there for root only.
fn make_tree(top: &Path) {
    let path = |name: &str| top.join(name);
    for name in ["bin", "deep/er/still", "empty", "private"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    fs::write(path("bin/program"), vec![7; 3 << 20]).unwrap();
    fs::write(path("bin/set-id"), "x").unwrap();
    fs::write(path("deep/er/still/file"), "deep").unwrap();
    fs::write(path("nothing"), "").unwrap();
    fs::write(path("new\nline and \u{fc}"), "name").unwrap();
    for name in ["deep/program", "bin/program-too"] {
        fs::hard_link(path("bin/program"), path(name)).unwrap();
    }
    symlink("bin/program", path("link")).unwrap();
    symlink("/nowhere", path("dangling")).unwrap();
    fs::hard_link(path("dangling"), path("deep/dangling-too")).unwrap();
    mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(path("socket")).unwrap());
    xattr::set(&path("nothing"), c"user.note", b"kept\0whole").unwrap();
    xattr::set(&path("empty"), c"user.long", &[b'x'; 1000]).unwrap();
    if geteuid().is_root() {
        let owner = |name, user, group| {
            std::os::unix::fs::lchown(path(name), Some(user), Some(group)).unwrap();
        };
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(&path("null"), SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
        mknod(&path("disk"), SFlag::S_IFBLK, mode, makedev(259, 300_000)).unwrap();
        owner("bin/set-id", 1000, 2000);
        owner("dangling", 17, 18);
        owner("private", 1000, 1000);
        // cap_net_raw+ep, as setcap(8) writes it (version 2, capabilities(7)).
        let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        owner("bin/program", 1, 2);
        xattr::set(&path("bin/program"), c"security.capability", &capability).unwrap();
        xattr::set(&path("dangling"), c"trusted.on-a-link", b"yes").unwrap();
    } else {
        eprintln!("LEFT OUT: device nodes, owners and capabilities: only root can make them");
    }
    let mode = |name, bits| fs::set_permissions(path(name), fs::Permissions::from_mode(bits)).unwrap();
    mode("bin/set-id", 0o6755);
    mode("empty", 0o1777);
    mode("private", 0o2700);
    mode("nothing", 0o000);
    mode("pipe", 0o622);
}

/// Gives every file times of its own, to the nanosecond; files before their directories.
fn stamp(top: &Path, names: &[&PathBuf]) {
    for (at, name) in names.iter().enumerate().rev() {
        let at = i64::try_from(at).unwrap();
        let accessed = TimeSpec::new(1_000_000_000 + at, 123_456_789);
        let modified = TimeSpec::new(at * 86_400, 999_999_999);
        let flag = UtimensatFlags::NoFollowSymlink;
        utimensat(AT_FDCWD, &top.join(name), &accessed, &modified, flag).unwrap();
    }
}

/// The times of files, looked at without using them.
fn times(top: &Path, names: &[&PathBuf]) -> Vec<[(i64, i64); 2]> {
    let of = |name: &&PathBuf| top.join(name).symlink_metadata().unwrap();
    let times = |data: fs::Metadata| [(data.atime(), data.atime_nsec()), (data.mtime(), data.mtime_nsec())];
    names.iter().map(of).map(times).collect()
}

/// Moves with no failure allowed.
fn relocate_all(from: &Path, to: &Path) -> Moved {
    relocate(from, to, &mut |error| panic!("{error}"))
}

#[test]
fn everything_comes_along_and_nothing_stays_behind() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make_tree(from.path());
    let before = looks(from.path());
    let names: Vec<&PathBuf> = before.keys().collect();
    stamp(from.path(), &names);
    let times_before = times(from.path(), &names);
    let moved = relocate_all(from.path(), to.path());
    // Before anything else looks at the files.
    let times_after = times(to.path(), &names);
    for (name, (before, after)) in names.iter().zip(times_before.iter().zip(&times_after)) {
        assert_eq!(before, after, "{}", name.display());
    }
    let entries = u64::try_from(before.len()).unwrap() - 1;
    assert_eq!(moved, Moved { entries, mounts: Vec::new() });
    assert_eq!(fs::read_dir(from.path()).unwrap().count(), 0);
    let after = looks(to.path());
    assert_eq!(after.keys().collect::<Vec<_>>(), names);
    for (name, looks) in &before {
        assert_eq!(looks, &after[name], "{}", name.display());
    }
    if geteuid().is_root() {
        let program = &after[Path::new("bin/program")];
        assert!(program.attributes.contains_key(c"security.capability"));
        assert_eq!((program.links, program.owner), (3, (1, 2)));
        assert_eq!(after[Path::new("disk")].device, makedev(259, 300_000));
    }
    assert_eq!(after[Path::new("bin/set-id")].mode & 0o7777, 0o6755);
}

#[test]
fn one_file_that_cannot_be_moved_stays_and_keeps_no_other() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a", "b", "d/c"] {
        fs::create_dir_all(from.path().join(name).parent().unwrap()).unwrap();
        fs::write(from.path().join(name), name).unwrap();
    }
    // Something is in the way already.
    fs::write(to.path().join("b"), "other").unwrap();
    let mut failures = Vec::new();
    let moved = relocate(from.path(), to.path(), &mut |error| failures.push(error.to_string()));
    assert_eq!(moved.entries, 4);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].ends_with("/b: copying it: File exists (os error 17)"), "{failures:?}");
    assert_eq!(fs::read_to_string(from.path().join("b")).unwrap(), "b");
    assert_eq!(fs::read_to_string(to.path().join("b")).unwrap(), "other");
    assert_eq!(fs::read_to_string(to.path().join("d/c")).unwrap(), "d/c");
    assert!(!from.path().join("d").exists() && !from.path().join("a").exists());
}

/// What a `/sbin/init` in a shell finds after `/init` has run.
const LOOK: &str = "exec >/dev/console 2>&1
    echo words $0 $*; echo pid $$; ls -d /.lkinit-root
    test -e /proc/self && echo proc is there
    mount -t proc proc /proc
    echo root on $(cut -d' ' -f4,5,9 /proc/self/mountinfo | head -1)
    mkdir /new; mount -t tmpfs new /new; mkdir /new/old
    unshare -m sh -c 'pivot_root /new /new/old && test -d /old/sbin && echo pivoted'
    echo end; sleep 1000";

/// On a tmpfs, `/init` moves the root: no file is copied, `/proc` is gone
/// again, the arguments arrive, and pivot_root(2) works.
#[test]
fn a_root_in_memory_is_moved() {
    let root = Root::bare();
    fs::remove_file(root.path("sbin/init")).unwrap();
    fs::remove_file(root.path("init")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_init"), root.path("init")).unwrap();
    root.script("sbin/init", LOOK);
    // The root again, in a tmpfs: in the namespace only. Its /dev/console is
    // still the pipe: a named pipe is one by its inode.
    let inside = format!(
        "mount -t tmpfs tmpfs {0}/tmp && cp -a {0}/bin {0}/sbin {0}/init {0}/tmp/ && cd {0}/tmp && mkdir dev proc &&
         touch dev/console && mount --bind {0}/dev/console dev/console && exec chroot . /init one two",
        root.path("").display().to_string().trim_end_matches('/')
    );
    let mut machine = root.run("unused", &["sh", "-c", &inside]);
    machine.expect("words /sbin/init one two");
    machine.expect("pid 1");
    machine.expect("ls: /.lkinit-root: No such file or directory");
    machine.expect("root on / / tmpfs");
    machine.expect("pivoted");
    machine.expect("end");
    let lines = machine.transcript();
    assert!(!lines.iter().any(|line| line.contains("proc is there")), "{lines:#?}");
}

/// On a root that is not in memory, `/init` only goes on.
#[test]
fn any_other_root_is_left_alone() {
    let root = Root::bare();
    if init::sys::in_memory(&root.path("")).unwrap() {
        return eprintln!("LEFT OUT: the temporary directory is in memory: set TMPDIR to a disk");
    }
    fs::remove_file(root.path("sbin/init")).unwrap();
    fs::remove_file(root.path("init")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_init"), root.path("init")).unwrap();
    root.script("sbin/init", "echo found: $(ls -A / | tr '\\n' ' ') >/dev/console; sleep 1000");
    let mut machine = root.run("/init", &[]);
    assert_eq!(machine.expect("found:").trim_end(), "found: bin dev init proc run sbin tmp");
}

#[test]
fn without_sbin_init_there_is_a_shell_and_a_word() {
    let root = Root::bare();
    fs::remove_file(root.path("sbin/init")).unwrap();
    fs::remove_file(root.path("init")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_init"), root.path("init")).unwrap();
    fs::remove_file(root.path("bin/sh")).unwrap();
    root.script("bin/sh-too", "echo shell $$; sleep 1000");
    fs::write(root.path("bin/sh"), "#!/bin/busybox sh\necho shell $$; sleep 1000\n").unwrap();
    fs::set_permissions(root.path("bin/sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut machine = root.run("/init", &[]);
    machine.expect("cannot run /sbin/init: No such file or directory (os error 2); trying /bin/sh");
    machine.expect("shell 1");

    let root = Root::bare();
    for name in ["sbin/init", "init", "bin/sh"] {
        fs::remove_file(root.path(name)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_init"), root.path("init")).unwrap();
    let mut machine = root.run("/init", &[]);
    machine.expect("cannot run /bin/sh: No such file or directory (os error 2); nothing left to run");
    assert_eq!(machine.end(), Err(1));
}

/// Ids that exist nowhere are as good as any.
#[test]
fn owners_are_numbers() {
    if !geteuid().is_root() {
        return eprintln!("LEFT OUT: only root can give files away");
    }
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("file");
    fs::write(&file, "").unwrap();
    nix::unistd::chown(&file, Some(Uid::from_raw(4_000_000_000)), Some(Gid::from_raw(3_999_999_999)))
        .unwrap();
    relocate_all(from.path(), to.path());
    let data = fs::metadata(to.path().join("file")).unwrap();
    assert_eq!((data.uid(), data.gid()), (4_000_000_000, 3_999_999_999));
}
