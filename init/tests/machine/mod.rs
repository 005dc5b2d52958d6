// SPDX-License-Identifier: Apache-2.0
//! A machine made of namespaces: PID 1 is the real binary in a root of its
//! own, with shell scripts where rc would be. Its console is a named pipe.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian's busybox-static is.
const BUSYBOX: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];

/// A root directory with a shell and PID 1 in it.
pub(crate) struct Root {
    folder: tempfile::TempDir,
    environment: HashMap<&'static str, &'static str>,
}

impl Root {
    /// An rc.init and an rc.shutdown with these scripts.
    pub(crate) fn new(rc: &str, shutdown: &str) -> Self {
        let root = Self::bare();
        root.script("bin/rc.init", rc);
        root.script("bin/rc.shutdown", shutdown);
        root
    }

    /// Neither, but everything else.
    pub(crate) fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Self { folder, environment: HashMap::new() };
        for name in ["bin", "sbin", "dev", "proc", "run", "tmp"] {
            fs::create_dir(root.path(name)).unwrap();
        }
        let busybox = BUSYBOX.iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("no busybox: install Debian's busybox-static");
        fs::copy(busybox, root.path("bin/busybox")).unwrap();
        let applets = Command::new(busybox).arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(applets).unwrap().lines().filter(|name| *name != "busybox") {
            symlink("busybox", root.path("bin").join(applet)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_init"), root.path("sbin/init")).unwrap();
        symlink("init", root.path("sbin/usermode-helper")).unwrap();
        symlink("sbin/init", root.path("init")).unwrap();
        fs::write(root.path("dev/null"), "").unwrap();
        mkfifo(&root.path("dev/console"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        root
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// One more variable in PID 1's environment, which has PATH otherwise.
    pub(crate) fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.insert(name, value);
        self
    }

    /// Starts `/sbin/init` as PID 1.
    pub(crate) fn boot(self) -> Machine {
        self.run("/sbin/init", &[])
    }

    /// Starts a program as PID 1. `through` is a command that runs its last
    /// words as a command, with something changed.
    pub(crate) fn run(self, program: &str, through: &[&str]) -> Machine {
        // Opened for both, so that it never is without a reader or a writer.
        let console = fs::OpenOptions::new().read(true).write(true).open(self.path("dev/console")).unwrap();
        let mut command = Command::new("unshare");
        if !Uid::effective().is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .arg(format!("--mount-proc={}", self.path("proc").display()))
            .args(through)
            .arg("/usr/sbin/chroot")
            .args([self.folder.path(), Path::new(program)])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&self.environment)
            .stdin(Stdio::null());
        let child = command.spawn().expect("unshare(1) of util-linux");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Machine { root: self, child, lines, transcript: Vec::new() }
    }
}

/// A machine that runs. It is ended when it goes out of scope.
pub(crate) struct Machine {
    pub(crate) root: Root,
    child: Child,
    lines: Receiver<String>,
    transcript: Vec<String>,
}

impl Machine {
    /// Waits for a console line with these words, and gives it.
    #[track_caller]
    pub(crate) fn expect(&mut self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.transcript.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {words:?} in {PATIENCE:?}; the console had {:#?}", self.transcript)
                }
            }
        }
    }

    /// What has been on the console up to the last line that was expected.
    pub(crate) fn transcript(&self) -> &[String] {
        &self.transcript
    }

    /// Waits for the end of the machine. Gives the signal that reboot(2) ends
    /// PID 1 of a namespace with (INT for poweroff, HUP for reboot), or the
    /// exit status where it ended by itself.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Result<i32, i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().map_or_else(|| Ok(status.signal().unwrap()), Err);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("still up after {PATIENCE:?}; the console had {:#?}", self.transcript)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // --kill-child takes PID 1 along, and that everything else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
