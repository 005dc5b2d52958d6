// SPDX-License-Identifier: Apache-2.0
//! Where the output of containers goes, and how it is read.
//!
//! A container prints into named pipes. One process, the [`logger`], moves
//! what comes into files with a cap, or to an external logger; rc and
//! containerd may be killed meanwhile. docs/logging.md tells the whole story.

mod chain;
pub mod follow;
mod keeper;
pub mod logger;
pub mod query;
pub mod record;
pub mod settings;

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use init::cmdline::Cmdline;
use init::console::Console;

use crate::bundle::Stage;
use chain::Kept;
pub use keeper::{Logger, Outlets};
pub use record::Stream;

/// The name that rc's program is the logger by.
pub const NAME: &str = "rc.logger";

/// An external logger's socket, where there is one.
pub const EXTERNAL: &str = "/var/run/linuxkit-external-logging.sock";

/// In the folder of pipes: where rc asks the logger, and which process it is.
const SOCKET: &str = "socket";
const PID: &str = "pid";

const CONSOLE: &str = "/dev/console";

/// How many of a failed container's last lines are told with the failure.
const LAST_LINES: usize = 5;

/// The most that is shown of one file on the console.
const SHOWN: u64 = 64 * 1024;

/// The log of a container, or of a daemon: two files and the older ones
/// behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Its name with the logger.
    id: String,
    /// The file of its standard output.
    pub stdout: PathBuf,
    /// The file of its standard error.
    pub stderr: PathBuf,
    /// Its name with an external logger; standard output has `.out` behind it.
    pub external: Option<String>,
    /// Whether the files are written also where there is an external logger.
    keep_files: bool,
    /// Everything goes to the console instead.
    console: bool,
}

impl Logs {
    /// The log of a container: a service's files are under `/var/log`; those
    /// of a stage under `/run/log`, as `/var` may be mounted over meanwhile.
    /// With `linuxkit.runc_console=1` everything goes to the console.
    pub fn of(stage: Stage, name: &str, cmdline: &Cmdline) -> Self {
        let console = cmdline.flag("linuxkit.runc_console") == Some(true);
        // The output of a stage's container is shown when it has ended. An
        // external logger keeps what it wants for as long as it wants.
        let (id, external, folder) = match folder(stage) {
            None => (format!("service.{name}"), name.to_owned(), "/var/log".to_owned()),
            Some(folder) => {
                let name = format!("{folder}.{name}");
                (name.clone(), name, format!("/run/log/{folder}"))
            }
        };
        Self {
            id,
            stdout: format!("{folder}/{external}.out.log").into(),
            stderr: format!("{folder}/{external}.log").into(),
            external: Some(external),
            keep_files: stage != Stage::Services,
            console,
        }
    }

    /// The log of a daemon of ours, which never goes to an external logger.
    pub fn of_daemon(name: &str, stdout: &Path, stderr: &Path) -> Self {
        Self {
            id: format!("daemon.{name}"),
            stdout: stdout.to_path_buf(),
            stderr: stderr.to_path_buf(),
            external: None,
            keep_files: true,
            console: false,
        }
    }

    /// The file of a stream.
    pub fn file(&self, stream: Stream) -> &Path {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// Where the files end now: what comes after that is told from what was
    /// there before.
    pub fn mark(&self) -> Marks {
        let mark = |path: &Path| Kept::open(path).ok();
        let time = Some(SystemTime::now());
        Marks { stdout: mark(&self.stdout), stderr: mark(&self.stderr), time }
    }

    /// Whether nothing of it is kept: it goes to the console.
    pub fn is_console(&self) -> bool {
        self.console
    }

    /// Shows what has been written since the marks, each line with the
    /// container's name before it.
    pub fn show(&self, marks: &Marks, name: &str, console: &Console) {
        for stream in Stream::ALL {
            let (text, left_out) = self.since(stream, marks);
            if left_out > 0 {
                let path = self.file(stream).display();
                let text = format!("{name}: ({left_out} bytes before this are in {path}, if kept)\r\n");
                console.raw(text.as_bytes());
            }
            for line in text.lines() {
                console.raw(format!("{name}: {line}\r\n").as_bytes());
            }
        }
    }

    /// The end of what was written since the marks, for a line that tells of a
    /// failure, and where all of it is: standard error if there is any.
    pub fn ending(&self, marks: &Marks) -> String {
        if self.console {
            return String::new();
        }
        for stream in [Stream::Stderr, Stream::Stdout] {
            let text = self.since(stream, marks).0;
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
            if !last.is_empty() {
                let path = self.file(stream).display();
                return format!("; last output: {:?}; log: {path}", last.join(" | "));
            }
        }
        match self.external.as_ref().filter(|_| !self.keep_files && Path::new(EXTERNAL).exists()) {
            // The external logger has it, and may take its time to answer.
            Some(name) => format!("; log: service logs {name}"),
            None => format!("; no output; log: {}", self.stderr.display()),
        }
    }

    /// The text since the marks, as much as is shown, and how much was left
    /// out before that, as far as the files tell.
    fn since(&self, stream: Stream, marks: &Marks) -> (String, u64) {
        let mark = match stream {
            Stream::Stdout => &marks.stdout,
            Stream::Stderr => &marks.stderr,
        };
        let kept = chain::open(self.file(stream));
        // A marked file that is not kept any more was the oldest: all is newer.
        let marked = mark.as_ref().and_then(|mark| {
            let at = kept.iter().position(|file| file.id == mark.id)?;
            Some((at, mark.length))
        });
        let (first, begin) = marked.unwrap_or((0, 0));
        let mut pieces: Vec<(&Kept, u64)> = kept.iter().skip(first).map(|file| (file, 0)).collect();
        if let Some(piece) = pieces.first_mut() {
            piece.1 = begin.min(piece.0.length);
        }
        let all: u64 = pieces.iter().map(|(file, from)| file.length - from).sum();
        let mut skip = all.saturating_sub(SHOWN);
        let mut bytes = Vec::new();
        for (file, from) in pieces {
            let here = file.length - from;
            let skipped = skip.min(here);
            skip -= skipped;
            let mut reader = &file.file;
            if reader.seek(SeekFrom::Start(from + skipped)).is_ok() {
                // What cannot be read is not shown.
                let _ = reader.take(here - skipped).read_to_end(&mut bytes);
            }
        }
        (String::from_utf8_lossy(&bytes).into_owned(), all.saturating_sub(SHOWN))
    }
}

/// Opens what a container's or a daemon's output goes to. A named pipe is
/// opened at both ends, as fifo(7) allows: whoever prints then has a reader,
/// whatever happens to the one there is.
///
/// # Errors
/// Those of open(2).
pub fn open_output(path: &Path) -> io::Result<fs::File> {
    if fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo()) {
        fs::OpenOptions::new().read(true).write(true).open(path)
    } else {
        fs::OpenOptions::new().create(true).append(true).open(path)
    }
}

/// How long the files were before a container started. The files are kept
/// open, so that they can be told from later ones.
#[derive(Debug, Default)]
pub struct Marks {
    stdout: Option<Kept>,
    stderr: Option<Kept>,
    time: Option<SystemTime>,
}

/// The folder of a stage's logs, under `/run/log` and `/var/log`.
fn folder(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Onboot => Some("onboot"),
        Stage::Onshutdown => Some("shutdown"),
        Stage::Services => None,
    }
}

/// Makes a stage's logs reachable under `/var/log` too.
///
/// # Errors
/// Those of symlink(2), a link that is there already excepted.
pub fn link_into_var(stage: Stage) -> io::Result<()> {
    let Some(folder) = folder(stage) else { return Ok(()) };
    fs::create_dir_all("/var/log")?;
    match symlink(format!("/run/log/{folder}"), format!("/var/log/{folder}")) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_contract() {
        let plain = Cmdline::default();
        let logs = Logs::of(Stage::Services, "getty", &plain);
        assert_eq!(logs.stderr, Path::new("/var/log/getty.log"));
        assert_eq!(logs.stdout, Path::new("/var/log/getty.out.log"));
        assert_eq!(logs.external.as_deref(), Some("getty"));
        let logs = Logs::of(Stage::Onboot, "000-sysctl", &plain);
        assert_eq!(logs.stderr, Path::new("/run/log/onboot/onboot.000-sysctl.log"));
        assert_eq!(logs.external.as_deref(), Some("onboot.000-sysctl"));
        let logs = Logs::of(Stage::Onshutdown, "000-x", &plain);
        assert_eq!(logs.stdout, Path::new("/run/log/shutdown/shutdown.000-x.out.log"));
        assert!(Logs::of(Stage::Onboot, "000-x", &Cmdline::parse("linuxkit.runc_console=1")).console);
    }

    fn log(folder: &Path) -> Logs {
        Logs::of_daemon("x", &folder.join("x.out.log"), &folder.join("x.log"))
    }

    #[test]
    fn only_what_is_new_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let logs = log(folder.path());
        fs::write(&logs.stdout, "old\n").unwrap();
        let marks = logs.mark();
        fs::write(&logs.stdout, "old\nnew\nlast\n").unwrap();
        let path = |path: &Path| format!("log: {}", path.display());
        assert_eq!(logs.ending(&marks), format!("; last output: \"new | last\"; {}", path(&logs.stdout)));
        fs::write(&logs.stderr, "1\n2\n3\n4\n5\nbad\n").unwrap();
        let told = format!("; last output: \"2 | 3 | 4 | 5 | bad\"; {}", path(&logs.stderr));
        assert_eq!(logs.ending(&marks), told);
        assert_eq!(logs.ending(&logs.mark()), format!("; no output; {}", path(&logs.stderr)));
        fs::write(&logs.stderr, "bad\n").unwrap();
        let shown = tempfile::NamedTempFile::new().unwrap();
        logs.show(&marks, "x", &Console::to_file(shown.reopen().unwrap()));
        assert_eq!(fs::read_to_string(shown.path()).unwrap(), "x: new\r\nx: last\r\nx: bad\r\n");
    }

    #[test]
    fn what_was_rotated_since_is_shown_too() {
        let folder = tempfile::tempdir().unwrap();
        let logs = log(folder.path());
        fs::write(&logs.stdout, "old\n").unwrap();
        let marks = logs.mark();
        fs::write(&logs.stdout, "old\none\n").unwrap();
        fs::rename(&logs.stdout, folder.path().join("x.out.log.1")).unwrap();
        fs::write(&logs.stdout, "two\n").unwrap();
        assert!(logs.ending(&marks).starts_with("; last output: \"one | two\""));
        fs::rename(folder.path().join("x.out.log.1"), folder.path().join("x.out.log.2")).unwrap();
        fs::write(folder.path().join("x.out.log.1"), "x".repeat(SHOWN as usize)).unwrap();
        let (text, left_out) = logs.since(Stream::Stdout, &marks);
        assert!(text.ends_with("xtwo\n") && text.len() as u64 == SHOWN);
        assert_eq!(left_out, 8);
        fs::remove_file(folder.path().join("x.out.log.2")).unwrap();
        assert_eq!(logs.since(Stream::Stdout, &marks).1, 4, "the marked file is gone");
    }
}
