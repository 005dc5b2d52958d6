// SPDX-License-Identifier: Apache-2.0
//! The same files given to three programs: ours, procps' `sysctl --system`
//! and systemd's `systemd-sysctl`. What they leave in a tree of settings is
//! compared key by key; every difference is listed here with its reason.
//!
//! The other two know no tree but `/proc/sys`. They run in a user and mount
//! namespace in which a copy of the test's tree covers it, and the test's
//! directories cover the system's.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says loudly what is not tried here: libtest keeps what `eprintln!` says of
/// a test that passes to itself.
macro_rules! left_out {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stderr(), "LEFT OUT: {}", format_args!($($text)*));
    }};
}

const PROCPS: &str = "/usr/sbin/sysctl";
const SYSTEMD: &str = "/usr/lib/systemd/systemd-sysctl";

/// Every key that is there. One character is in each before: systemd writes
/// over what is in a file without cutting it off, and does not write at all
/// what it finds there.
const KEYS: &[&str] = &[
    "fs/empty",
    "fs/quiet",
    "kernel/core_pattern",
    "kernel/domainname",
    "kernel/excluded",
    "kernel/masked",
    "kernel/order",
    "kernel/plain",
    "kernel/replaced",
    "kernel/slashes",
    "kernel/spaces",
    "kernel/twice",
    "net/conf/all/filter",
    "net/conf/default/filter",
    "net/conf/eth0/filter",
    "net/conf/eth0.100/filter",
    "net/conf/eth0.200/filter",
    "net/conf/hub0/filter",
    "net/conf/lo/filter",
    "net/late/a",
    "net/late/b",
    "net/two/a",
    "net/two/b",
];

const FILES: &[(&str, &str)] = &[
    (
        "usr/10-vendor.conf",
        "# vendor\n; vendor\n\nkernel.plain=1\nkernel/slashes = 1\n  kernel.spaces  =  a b   c  \nkernel.twice = 1\n\
         kernel.order = vendor\nkernel.core_pattern = |/bin/handler x=%p y=%e\nnot.there.at.all = 1\n-not.there.either = 1\n",
    ),
    ("usr/20-replaced.conf", "kernel.replaced = usr\n"),
    ("run/20-replaced.conf", "kernel.replaced = run\n"),
    ("etc/20-replaced.conf", "kernel.replaced = etc\n"),
    ("usr/25-masked.conf", "kernel.masked = 1\n"),
    (
        "etc/30-patterns.conf",
        "net.conf.default.filter = 2\nnet.conf.*.filter = 2\n-net.conf.all.filter\nnet.conf.hub0.filter = 1\n\
         net.conf.eth0/100.filter = 3\nnet/conf/eth0.200/filter = 4\n",
    ),
    // A later pattern against an earlier one, and against a line before it.
    (
        "etc/31-late.conf",
        "net.late.a = named\nnet.late.* = pattern\nnet.two.* = first\nnet.two.[b] = second\n",
    ),
    (
        "run/40-run.conf",
        "kernel.twice = 2\nkernel.twice = 3\n-fs.quiet = 1\nfs.empty =\nkernel.domainname=example.com\n",
    ),
    ("etc/50-order.conf", "kernel.order = etc\nkernel.excluded = 1\n-kernel.excluded\n"),
    ("run/60-order.conf", "kernel.order = run\n"),
    ("etc/ignored.conf.bak", "kernel.plain = 9\n"),
];

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self::with(FILES.iter().map(|(file, text)| (*file, (*text).to_owned())));
        symlink("/dev/null", scene.path("etc/25-masked.conf")).unwrap();
        scene
    }

    fn with(files: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        ["etc", "run", "usr"].into_iter().for_each(|dir| fs::create_dir_all(scene.path(dir)).unwrap());
        files.into_iter().for_each(|(file, text)| scene.write(file, &text));
        scene
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn tree(&self, name: &str) -> PathBuf {
        KEYS.iter().for_each(|key| self.write(&format!("{name}/{key}"), "0"));
        self.path(name)
    }

    fn ours(&self) -> BTreeMap<&'static str, String> {
        let tree = self.tree("ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sysctl"));
        for directory in ["etc", "run", "usr"] {
            command.arg("-configDir").arg(self.path(directory));
        }
        assert!(command.arg("-sysctlDir").arg(&tree).stderr(Stdio::null()).status().unwrap().success());
        values(&tree)
    }

    /// The files, for a message.
    fn text(&self) -> String {
        let mut text = String::new();
        for dir in ["etc", "run", "usr"] {
            let mut files: Vec<_> =
                fs::read_dir(self.path(dir)).unwrap().map(|f| f.unwrap().path()).collect();
            files.sort();
            for file in files {
                let lines = fs::read_to_string(&file).unwrap_or_default();
                text += &format!("--- {dir}/{}\n{lines}", file.file_name().unwrap().display());
            }
        }
        text
    }

    /// What another program makes of it; `None` where it cannot be run.
    fn theirs(&self, program: &[&str]) -> Option<BTreeMap<&'static str, String>> {
        if !Path::new(program[0]).exists() {
            left_out!("comparing with {}: it is not installed", program[0]);
            return None;
        }
        let tree = self.tree("theirs");
        // /run is covered last: the temporary directory may be there. The
        // marker tells a program that failed from one that was not run.
        let script = "set -e; root=$0
            mount --bind $root/theirs /proc/sys
            mkdir -p $root/local/sysctl.d $root/newrun
            mount --bind $root/local /usr/local/lib
            mount --bind $root/etc /etc/sysctl.d
            mount --bind $root/usr /usr/lib/sysctl.d
            if [ -e /etc/sysctl.conf ]; then mount --bind /dev/null /etc/sysctl.conf; fi
            mkdir $root/newrun/sysctl.d; cp -a $root/run/. $root/newrun/sysctl.d/
            mount --bind $root/newrun /run
            echo ready; \"$@\" >&2 || true";
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(self.0.path())
            .args(program)
            .output()
            .unwrap();
        if output.stdout != b"ready\n" {
            left_out!("comparing with {}: {}", program[0], String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(values(&tree))
    }
}

fn values(tree: &Path) -> BTreeMap<&'static str, String> {
    KEYS.iter().map(|key| (*key, fs::read_to_string(tree.join(key)).unwrap())).collect()
}

/// Ours and theirs must differ in exactly these keys: key, ours, theirs.
fn compare(program: &[&str], differences: &[(&str, &str, &str)]) {
    let scene = Scene::new();
    let ours = scene.ours();
    let Some(theirs) = scene.theirs(program) else { return };
    let found: Vec<(&str, &str, &str)> = KEYS
        .iter()
        .filter(|key| ours[**key] != theirs[**key])
        .map(|key| (*key, ours[key].as_str(), theirs[key].as_str()))
        .collect();
    assert_eq!(found, differences);
    // The comparison means something only if they all did most of the work.
    assert!(theirs.values().filter(|value| *value != "0").count() > KEYS.len() / 2);
}

/// Numbers that are the same in every run: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Files that nobody thought of: keys in both spellings, patterns, exclusions,
/// quiet lines, comments, over three directories and few enough names that they
/// meet each other.
fn random_scene(random: &mut Random) -> Scene {
    const NAMES: &[&str] = &[
        "etc/10-a.conf",
        "run/10-a.conf",
        "usr/10-a.conf",
        "usr/20-b.conf",
        "etc/20-b.conf",
        "run/30-c.conf",
        "usr/30-c.conf",
    ];
    const KEYS: &[&str] = &[
        "net.conf.all.filter",
        "net/conf/default/filter",
        "net.conf.eth0.filter",
        "net.conf.eth0/100.filter",
        "net/conf/eth0.200/filter",
        "net.conf.lo.filter",
        "kernel.plain",
        "kernel/twice",
        "fs.quiet",
        "not.there",
    ];
    const PATTERNS: &[&str] =
        &["net.conf.*.filter", "net.conf.eth?.filter", "net/conf/eth0.*/filter", "net.two.*", "kernel.*ice"];
    const EXCLUDED: &[&str] = &["net.two.a", "net.late.a", "net.conf.hub0.filter"];
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for _ in 0..random.below(4) + 2 {
        let mut text = String::new();
        for _ in 0..random.below(5) + 1 {
            let value = random.below(90) + 10;
            let (space, dash) = (random.one(&["", " ", "  "]), random.one(&["", "", "-"]));
            match random.below(10) {
                0 => text += "# kernel.plain = 1\n;kernel.twice = 1\n\n",
                1 | 2 => text += &format!("-{}\n", random.one(EXCLUDED)),
                3 | 4 => text += &format!("{dash}{}{space}={space}{value}\n", random.one(PATTERNS)),
                _ => text += &format!("{dash}{}{space}={space}{value}\n", random.one(KEYS)),
            }
        }
        files.insert(random.one(NAMES), text);
    }
    Scene::with(files)
}

/// What only differs between the programs on purpose is not in these files: a
/// key that is set by name is nowhere excluded.
fn compare_random(program: &[&str]) {
    let mut random = Random(20_26);
    let mut set = 0;
    for round in 0..60 {
        let scene = random_scene(&mut random);
        let ours = scene.ours();
        let Some(theirs) = scene.theirs(program) else { return };
        let differences: Vec<_> =
            KEYS.iter().filter(|key| ours[**key].trim() != theirs[**key].trim()).collect();
        assert!(
            differences.is_empty(),
            "round {round}: {differences:?}\nours {ours:?}\ntheirs {theirs:?}\n{}",
            scene.text()
        );
        set += ours.values().filter(|value| *value != "0").count();
    }
    // The comparison means something only if lines set keys.
    assert!(set > 60 * 3, "{set} keys were set in 60 rounds");
}

#[test]
fn random_files_as_procps_does() {
    compare_random(&[PROCPS, "--system"]);
}

#[test]
fn random_files_as_systemd_does() {
    compare_random(&[SYSTEMD]);
}

#[test]
fn as_procps_does() {
    // `KEY = VALUE` and then `-KEY`: for procps the second line only keeps
    // patterns off, for systemd and for us it is the last word on the key.
    compare(&[PROCPS, "--system"], &[("kernel/excluded", "0", "1\n")]);
}

#[test]
fn as_systemd_does() {
    compare(&[SYSTEMD], &[]);
}
