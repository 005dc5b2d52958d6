// SPDX-License-Identifier: Apache-2.0
//! The program itself: its status, its output, and what it can no longer do.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use init::inject::Held;
use nix::libc;

/// Says loudly what is not tried here: libtest keeps what `eprintln!` says of
/// a test that passes to itself.
macro_rules! left_out {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stderr(), "LEFT OUT: {}", format_args!($($text)*));
    }};
}

/// A configuration directory and a tree of settings.
struct Setting {
    root: tempfile::TempDir,
}

impl Setting {
    fn new(keys: &[&str], files: &[(&str, &str)]) -> Self {
        let setting = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(setting.path("tree")).unwrap();
        fs::create_dir_all(setting.path("etc")).unwrap();
        for key in keys {
            setting.write(&format!("tree/{key}"), "0");
        }
        for (file, text) in files {
            setting.write(file, text);
        }
        setting
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn value(&self, key: &str) -> String {
        fs::read_to_string(self.path("tree").join(key)).unwrap().trim_end().to_owned()
    }

    fn command(&self, directories: &[&str], more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sysctl"));
        for directory in directories {
            command.arg("-configDir").arg(self.path(directory));
        }
        command.arg("-sysctlDir").arg(self.path("tree")).args(more);
        command
    }

    fn run(&self, more: &[&str]) -> (i32, String, String) {
        self.text(&self.command(&["etc", "usr"], more).output().unwrap())
    }

    fn text(&self, output: &Output) -> (i32, String, String) {
        let root = format!("{}/", self.root.path().display());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(&root, "");
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap()
}

#[test]
fn a_warning_is_one_line_that_ends() {
    let long = "x".repeat(100_000);
    let lines = format!("none.a = {long}\n{long}\nkernel.\x1b]2Jb = 1\nkernel.a = 1\n");
    let setting = Setting::new(&["kernel/a"], &[("etc/a.conf", &lines)]);
    let (status, _, stderr) = setting.run(&[]);
    assert_eq!((status, setting.value("kernel/a").as_str()), (0, "1"), "{stderr}");
    let warnings: Vec<&str> = stderr.lines().collect();
    assert_eq!(warnings.len(), 3, "{stderr}");
    assert!(warnings.iter().all(|line| line.len() < 1200 && !line.contains('\x1b')), "{stderr}");
    let reason = "No such file or directory (os error 2)";
    assert_eq!(warnings.iter().filter(|line| line.ends_with(reason)).count(), 2, "{stderr}");
}

#[test]
fn lines_that_fail_are_warnings_and_the_rest_is_applied() {
    let setting = Setting::new(
        &["kernel/a", "kernel/b"],
        &[("etc/a.conf", "kernel.a=1\nkernel.no=1\noops\nkernel.b=2")],
    );
    let (status, out, err) = setting.run(&[]);
    assert_eq!((status, out.as_str()), (0, ""));
    assert_eq!(
        err,
        "sysctl: warning: etc/a.conf:3: ignored: neither KEY = VALUE nor -KEY: \"oops\"\n\
         sysctl: warning: etc/a.conf:2: kernel.no: not set to \"1\": No such file or directory (os error 2)\n"
    );
    assert_eq!((setting.value("kernel/a"), setting.value("kernel/b")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn dry_run_and_explain_name_the_line_that_won_and_set_nothing() {
    let setting = Setting::new(
        &["kernel/a", "net/conf/all/f", "net/conf/lo/f"],
        &[
            ("usr/10.conf", "kernel.a = 1\nnet.conf.*.f = 1"),
            ("etc/20.conf", "kernel.a = 2\n-net.conf.all.f"),
            ("usr/30.conf", "kernel.a = 3"),
            ("etc/30.conf", ""),
        ],
    );
    let (status, out, err) = setting.run(&["--dry-run"]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "usr/10.conf:2: net.conf.lo.f = 1\netc/20.conf:1: kernel.a = 2\netc/20.conf:2: net.conf.all.f is left alone\n"
    );
    let (status, out, err) = setting.run(&["-explain"]);
    assert_eq!((status, err.as_str()), (0, ""));
    let (confinement, plan) = out.split_once("\n\n").unwrap();
    assert!(confinement.contains("\nconfined: capabilities none; seccomp allows"), "{confinement}");
    assert_eq!(
        plan,
        "usr/10.conf:2: net.conf.lo.f = 1\n\
         etc/20.conf:1: kernel.a = 2\n    not usr/10.conf:1: = 1\n\
         etc/20.conf:2: net.conf.all.f is left alone\n    not usr/10.conf:2: = 1 by net.conf.*.f\n\
         usr/30.conf: replaced by etc/30.conf\n"
    );
    for key in ["kernel/a", "net/conf/all/f", "net/conf/lo/f"] {
        assert_eq!(setting.value(key), "0");
    }
}

#[test]
fn the_exit_status_is_linuxkits() {
    let setting = Setting::new(&["kernel/a"], &[("etc/a.conf", "kernel.a = 1")]);
    let status = |command: &mut Command| setting.text(&command.output().unwrap());
    let (code, _, err) = status(&mut setting.command(&["none"], &[]));
    assert_eq!(
        (code, err.as_str()),
        (1, "sysctl: error: no configuration: none of these directories exists: none\n")
    );
    let (code, _, err) = status(&mut setting.command(&["etc"], &["-w"]));
    assert_eq!(code, 2);
    assert!(err.starts_with("sysctl: error: invalid option '-w'\nusage: sysctl"), "{err}");
    // A file that cannot be read is an error; the others are applied.
    symlink("nowhere", setting.path("etc/0.conf")).unwrap();
    let (code, _, err) = status(&mut setting.command(&["etc"], &[]));
    assert_eq!(code, 1);
    assert_eq!(err, "sysctl: error: cannot read etc/0.conf: No such file or directory (os error 2)\n");
    assert_eq!(setting.value("kernel/a"), "1");
}

/// The tree is the only thing it can write to, and a link does not lead out.
#[test]
fn nothing_outside_the_tree_can_be_written() {
    let setting =
        Setting::new(&["kernel/a"], &[("etc/a.conf", "kernel.out = 1\nkernel.a = 1"), ("outside", "0")]);
    symlink(setting.path("outside"), setting.path("tree/kernel/out")).unwrap();
    let (_, explained, _) = setting.run(&["--explain"]);
    if !explained.contains("; Landlock ") || explained.contains("Landlock not switched on") {
        left_out!("writing outside the tree: this kernel has no Landlock");
        return;
    }
    let (status, _, err) = setting.run(&[]);
    assert_eq!(status, 0);
    assert_eq!(
        err,
        "sysctl: warning: etc/a.conf:1: kernel.out: not set to \"1\": Permission denied (os error 13)\n"
    );
    assert_eq!(fs::read_to_string(setting.path("outside")).unwrap(), "0");
    assert_eq!(setting.value("kernel/a"), "1");
}

/// Forbidden system calls, done by the running program itself.
#[test]
fn the_running_program_is_confined() {
    let setting = Setting::new(&["kernel/a"], &[("etc/a.conf", "kernel.a = 1")]);
    let mut held = Held::after_seccomp(&setting.command(&["etc"], &[])).unwrap();
    let status = held.status().unwrap();
    assert_eq!(status_line(&status, "Seccomp"), "2");
    assert_eq!(status_line(&status, "NoNewPrivs"), "1");
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status_line(&status, set), "0000000000000000");
    }
    // CAP_SETUID, CAP_DAC_OVERRIDE, CAP_SYS_BOOT: some of what it never needs.
    let effective = u64::from_str_radix(status_line(&status, "CapEff"), 16).unwrap();
    assert_eq!(effective & (1 << 7 | 1 << 1 | 1 << 22), 0);

    for (name, number) in [
        ("execve", libc::SYS_execve),
        ("fork", libc::SYS_fork),
        ("clone", libc::SYS_clone),
        ("socket", libc::SYS_socket),
        ("mount", libc::SYS_mount),
        ("ptrace", libc::SYS_ptrace),
        ("kill", libc::SYS_kill),
        ("init_module", libc::SYS_init_module),
        ("bpf", libc::SYS_bpf),
        ("reboot", libc::SYS_reboot),
        ("sethostname", libc::SYS_sethostname),
        ("unlink", libc::SYS_unlink),
        ("unshare", libc::SYS_unshare),
        ("ioctl", libc::SYS_ioctl),
        ("chroot", libc::SYS_chroot),
    ] {
        assert_eq!(held.call(number, [0; 6]).unwrap(), -i64::from(libc::EPERM), "{name}");
    }
    // So that the refusals above mean something: an allowed call is answered.
    assert!(held.call(libc::SYS_getpid, [0; 6]).unwrap() > 1);
    assert!(held.finish().unwrap().success());
    assert_eq!(setting.value("kernel/a"), "1", "it went on and did its work");
}

/// The kernel's own tree, in a network namespace of its own.
#[test]
fn real_settings_are_set() {
    let setting = Setting::new(
        &[],
        &[(
            "etc/a.conf",
            "net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\nnet.ipv4.ip_forward = x\nnet.ipv4.conf.lo.forwarding = 1\nnet.ipv4.ping_group_range=0 0\n",
        )],
    );
    let script = r#""$0" -configDir "$1"; cd /proc/sys/net/ipv4; cat conf/all/rp_filter conf/lo/rp_filter conf/lo/forwarding ping_group_range"#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script, env!("CARGO_BIN_EXE_sysctl")])
        .arg(setting.path("etc"))
        .output()
        .unwrap();
    let (status, out, err) = setting.text(&output);
    if err.starts_with("unshare:") {
        left_out!("setting real keys: no network namespace here: {err}");
        return;
    }
    assert_eq!(status, 0, "{err}");
    assert_eq!(
        err,
        "sysctl: warning: etc/a.conf:3: net.ipv4.ip_forward: not set to \"x\": Invalid argument (os error 22)\n"
    );
    assert_eq!(out, "0\n2\n1\n0\t0\n");
}

/// The file of our package: every line of it can be read.
#[test]
fn the_packaged_file_is_read_without_a_warning() {
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pkg/sysctl/00-lkinit.conf");
    let setting = Setting::new(&[], &[("etc/00-lkinit.conf", &fs::read_to_string(packaged).unwrap())]);
    let (status, out, err) = setting.run(&["--dry-run"]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains(": kernel.unprivileged_bpf_disabled = 1\n"), "{out}");
}
