// SPDX-License-Identifier: Apache-2.0
//! The program itself, run from outside in a machine of the test's making:
//! its own sysfs, kernel command line and devices.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::server::Server;

/// A machine: what the program is shown of one, and where it writes.
pub struct Machine {
    dir: tempfile::TempDir,
}

/// How a run went.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub time: Duration,
}

/// What a run cost, whatever else the machine did: the most memory it had at
/// once, and processor time.
#[derive(Debug)]
pub struct Cost {
    pub mebibytes: f64,
    pub seconds: f64,
}

impl Machine {
    /// A machine about which nothing is known.
    pub fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(machine.path("sys/class/block")).unwrap();
        fs::create_dir_all(machine.path("dev")).unwrap();
        fs::write(machine.path("cmdline"), "console=ttyS0 quiet\n").unwrap();
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("config")
    }

    /// Gives it SMBIOS fields.
    pub fn dmi(self, fields: &[(&str, &str)]) -> Self {
        let dir = self.path("sys/class/dmi/id");
        fs::create_dir_all(&dir).unwrap();
        for (name, value) in fields {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
        self
    }

    pub fn cmdline(self, text: &str) -> Self {
        fs::write(self.path("cmdline"), format!("{text}\n")).unwrap();
        self
    }

    /// Puts a disk in: the file is the device.
    pub fn disk(self, name: &str, image: &Path) -> Self {
        fs::create_dir_all(self.path("sys/class/block").join(name)).unwrap();
        fs::copy(image, self.path("dev").join(name)).unwrap();
        self
    }

    /// The command line that shows the program this machine and no other. It
    /// may change nothing but the base directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_for_all();
        command.args(["--no-hostname", "--no-network"]).args(arguments);
        command
    }

    /// The same where it may change the network and the host name.
    pub fn command_for_all(&self) -> Command {
        let mut command = Command::new(program());
        command.env_clear();
        for (option, name) in [
            ("--config-dir", "config"),
            ("--sysfs", "sys"),
            ("--cmdline", "cmdline"),
            ("--dev", "dev"),
            ("--leases", "leases"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        run(self.command(arguments))
    }

    /// The same, with what it cost, by GNU time: a child of this process would
    /// have this one's memory counted to it.
    pub fn run_measured(&self, arguments: &[&str]) -> (Run, Cost) {
        let own = self.command(arguments);
        let peak = self.path("peak");
        let mut command = Command::new("/usr/bin/time");
        command.args(["-q", "-f", "%M %U %S", "-o"]).arg(&peak).arg(own.get_program()).args(own.get_args());
        command.env_clear();
        assert!(Path::new("/usr/bin/time").exists(), "/usr/bin/time is missing (package time)");
        let run = run(command);
        let text = fs::read_to_string(peak).unwrap();
        let words: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (run, Cost { mebibytes: words[0] / 1024.0, seconds: words[1] + words[2] })
    }

    /// What is in the base directory: files with contents, directories with
    /// `None`, by path.
    pub fn tree(&self) -> BTreeMap<String, Option<String>> {
        let mut tree = BTreeMap::new();
        walk(&self.config(), "", &mut tree);
        tree
    }

    /// The files alone.
    pub fn files(&self) -> BTreeMap<String, String> {
        self.tree().into_iter().filter_map(|(name, text)| text.map(|text| (name, text))).collect()
    }

    /// The text of a file of the base directory.
    pub fn file(&self, name: &str) -> Option<String> {
        fs::read(self.config().join(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The permission bits of something in the base directory.
    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.config().join(name)).unwrap().permissions().mode() & 0o7777
    }
}

fn walk(dir: &Path, prefix: &str, tree: &mut BTreeMap<String, Option<String>>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{name}/"), tree);
            tree.insert(name, None);
        } else {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            tree.insert(name, Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

/// The program, or the one that the variable names: that of the images, say.
pub fn program() -> PathBuf {
    std::env::var_os("METADATA_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_metadata").into()).into()
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Run {
    command.stdout(Stdio::piped());
    run_as_it_is(command)
}

/// The same with its output where it goes already.
pub fn run_as_it_is(mut command: Command) -> Run {
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run {
        status: status.code().unwrap_or(-1),
        stdout: text(stdout),
        stderr: text(stderr),
        time: start.elapsed(),
    }
}

/// The argument that gives a provider another address.
pub fn url(name: &str, server: &Server) -> String {
    format!("--metadata-url={name}={}", server.base())
}

/// The same for everybody who is asked on a guess: where others answer in the
/// tests' place nobody is.
pub fn urls(server: &Server) -> Vec<String> {
    ["azure", "gcp", "hetzner", "digitalocean", "vultr", "scaleway", "openstack", "equinixmetal", "aws"]
        .iter()
        .map(|name| url(name, server))
        .collect()
}

/// Pairs as they come from [`Machine::files`].
pub fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}
