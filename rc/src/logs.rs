// SPDX-License-Identifier: Apache-2.0
//! Where the output of containers goes, and how it is shown.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use init::cmdline::Cmdline;
use init::console::Console;

use crate::bundle::Stage;

/// The most that is shown of one file on the console.
const SHOWN: u64 = 64 * 1024;

/// The two files of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Its standard output.
    pub stdout: PathBuf,
    /// Its standard error.
    pub stderr: PathBuf,
}

impl Logs {
    /// The files of a container: a service's under `/var/log`; those of a
    /// stage under `/run/log`, as `/var` may be mounted over meanwhile. With
    /// `linuxkit.runc_console=1` everything goes to the console.
    pub fn of(stage: Stage, name: &str, cmdline: &Cmdline) -> Self {
        if cmdline.flag("linuxkit.runc_console") == Some(true) {
            let console = PathBuf::from("/dev/console");
            return Self { stdout: console.clone(), stderr: console };
        }
        let base = match folder(stage) {
            None => format!("/var/log/{name}"),
            Some(folder) => format!("/run/log/{folder}/{folder}.{name}"),
        };
        Self { stdout: format!("{base}.out.log").into(), stderr: format!("{base}.log").into() }
    }

    /// Makes the files, and their folder; says how long they are already.
    ///
    /// # Errors
    /// Those of open(2), with the path.
    pub fn make(&self) -> Result<Marks, (PathBuf, io::Error)> {
        let make = |path: &Path| {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            file.metadata().map(|data| data.len())
        };
        let marked = |path: &PathBuf| make(path).map_err(|error| (path.clone(), error));
        Ok(Marks { stdout: marked(&self.stdout)?, stderr: marked(&self.stderr)? })
    }

    /// Where a container's output is: its files, and the places in them where
    /// it begins; the whole files where that is not known.
    pub fn starts(&self, marks: Option<Marks>) -> Vec<(PathBuf, u64)> {
        let marks = marks.unwrap_or(Marks { stdout: 0, stderr: 0 });
        vec![(self.stdout.clone(), marks.stdout), (self.stderr.clone(), marks.stderr)]
    }

    /// Shows what has been written since the marks, each line with the
    /// container's name before it.
    pub fn show(&self, marks: Marks, name: &str, console: &Console) {
        for (path, mark) in [(&self.stdout, marks.stdout), (&self.stderr, marks.stderr)] {
            let (text, left_out) = match since(path, mark) {
                Ok(read) => read,
                Err(_) => continue,
            };
            if left_out > 0 {
                console.raw(
                    format!("{name}: ({left_out} bytes before this are in {})\r\n", path.display())
                        .as_bytes(),
                );
            }
            for line in text.lines() {
                console.raw(format!("{name}: {line}\r\n").as_bytes());
            }
        }
    }

    /// The last lines written since the marks, standard error's if there are any.
    pub fn last_lines(&self, marks: Marks, count: usize) -> Vec<String> {
        let files = [(&self.stderr, marks.stderr), (&self.stdout, marks.stdout)];
        let texts = files.into_iter().filter_map(|(path, mark)| since(path, mark).ok());
        let mut lines = texts.map(|(text, _)| text.lines().map(str::to_owned).collect::<Vec<_>>());
        let mut lines = lines.find(|lines| !lines.is_empty()).unwrap_or_default();
        lines.split_off(lines.len().saturating_sub(count))
    }
}

/// How long the files were before a container started.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    stdout: u64,
    stderr: u64,
}

/// The text of a file from a place on, as much as is shown, and how much of
/// it was left out before that. Devices have none.
fn since(path: &Path, mark: u64) -> io::Result<(String, u64)> {
    let mut file = fs::File::open(path)?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Ok((String::new(), 0));
    }
    let from = mark.max(data.len().saturating_sub(SHOWN));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(SHOWN).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), from - mark))
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
        let logs = Logs::of(Stage::Onboot, "000-sysctl", &plain);
        assert_eq!(logs.stderr, Path::new("/run/log/onboot/onboot.000-sysctl.log"));
        let logs = Logs::of(Stage::Onshutdown, "000-x", &plain);
        assert_eq!(logs.stdout, Path::new("/run/log/shutdown/shutdown.000-x.out.log"));
        let logs = Logs::of(Stage::Onboot, "000-x", &Cmdline::parse("linuxkit.runc_console=1"));
        assert_eq!(logs.stdout, Path::new("/dev/console"));
    }

    #[test]
    fn only_what_is_new_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs { stdout: dir.path().join("a/x.out.log"), stderr: dir.path().join("a/x.log") };
        logs.make().unwrap();
        fs::write(&logs.stdout, "old\n").unwrap();
        let marks = logs.make().unwrap();
        fs::write(&logs.stdout, "old\nnew\nlast\n").unwrap();
        assert_eq!(logs.last_lines(marks, 1), ["last"]);
        fs::write(&logs.stderr, "bad\n").unwrap();
        assert_eq!(logs.last_lines(marks, 5), ["bad"]);
        let shown = tempfile::NamedTempFile::new().unwrap();
        logs.show(marks, "x", &Console::to_file(shown.reopen().unwrap()));
        assert_eq!(fs::read_to_string(shown.path()).unwrap(), "x: new\r\nx: last\r\nx: bad\r\n");
    }
}
