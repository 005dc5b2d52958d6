// SPDX-License-Identifier: Apache-2.0
//! What the logger is told of a log, as files: a named pipe for each stream
//! and a record beside them. A logger that is started again finds all there is.
//!
//! ```text
//! /run/lkinit/logs/service.web.out     pipe: standard output
//! /run/lkinit/logs/service.web.err     pipe: standard error
//! /run/lkinit/logs/service.web.log     the record
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::settings::Limits;

/// Where pipes and records are.
pub const FOLDER: &str = "/run/lkinit/logs";

/// What a record's name ends with.
const ENDING: &str = ".log";

/// One of a container's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The word in the pipe's name.
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "out",
            Self::Stderr => "err",
        }
    }
}

/// Where a log's streams go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file of standard output.
    pub stdout: PathBuf,
    /// The file of standard error.
    pub stderr: PathBuf,
    /// The limits of each.
    pub limits: Limits,
    /// Its name with an external logger, if it may go to one.
    pub external: Option<String>,
    /// Whether the files are written even so.
    pub keep_files: bool,
}

impl Record {
    /// The file of a stream.
    pub fn file(&self, stream: Stream) -> &Path {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// A stream's name with an external logger: CONTRACT, the files' names
    /// without their folder and ending.
    pub fn external(&self, stream: Stream) -> Option<String> {
        let name = self.external.as_ref()?;
        Some(match stream {
            Stream::Stdout => format!("{name}.out"),
            Stream::Stderr => name.clone(),
        })
    }

    /// Reads the record of `id`.
    ///
    /// # Errors
    /// Those of reading it; InvalidData for one that nobody here wrote.
    pub fn read(folder: &Path, id: &str) -> io::Result<Self> {
        let text = fs::read_to_string(path(folder, id))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Writes the record of `id` in one step.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn write(&self, folder: &Path, id: &str) -> io::Result<()> {
        // The logger looks at what is moved in under a record's name.
        let new = folder.join(format!("{id}.new"));
        fs::write(&new, self.text())?;
        fs::rename(&new, path(folder, id))
    }

    fn text(&self) -> String {
        let Self { stdout, stderr, limits, external, keep_files } = self;
        let (stdout, stderr) = (stdout.display(), stderr.display());
        let Limits { bytes, files } = limits;
        let external = external.as_deref().unwrap_or_default();
        format!("{stdout}\n{stderr}\n{bytes}\n{files}\n{external}\n{keep_files}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        Some(Self {
            stdout: lines.next()?.into(),
            stderr: lines.next()?.into(),
            limits: Limits { bytes: lines.next()?.parse().ok()?, files: lines.next()?.parse().ok()? },
            external: Some(lines.next()?.to_owned()).filter(|name| !name.is_empty()),
            keep_files: lines.next()?.parse().ok()?,
        })
    }
}

/// Where a stream goes while an external logger that it went to is away. Not
/// its usual file: whoever writes what that logger kept may use the same name.
pub(super) fn fallback(file: &Path) -> PathBuf {
    let name = file.as_os_str().to_string_lossy();
    format!("{}.fallback.log", name.strip_suffix(".log").unwrap_or(&name)).into()
}

/// The record's file.
fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}{ENDING}"))
}

/// Whose record a file is.
pub(super) fn id_of(file_name: &str) -> Option<&str> {
    file_name.strip_suffix(ENDING)
}

/// The pipe of a stream.
pub fn pipe(folder: &Path, id: &str, stream: Stream) -> PathBuf {
    folder.join(format!("{id}.{}", stream.word()))
}

/// Opens a stream's pipe, and makes it where it is not there.
///
/// Both ends are opened as one (fifo(7)): nobody waits for another to come,
/// nobody who writes is ever without a reader, and what waits in it stays for
/// as long as anybody has it open.
///
/// # Errors
/// Those of mkfifo(3) and open(2).
pub fn open_pipe(folder: &Path, id: &str, stream: Stream) -> io::Result<fs::File> {
    let path = pipe(folder, id, stream);
    match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    fs::OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)
}

/// Removes a log's record and pipes.
pub(super) fn remove(folder: &Path, id: &str) {
    let _ = fs::remove_file(path(folder, id));
    for stream in Stream::ALL {
        let _ = fs::remove_file(pipe(folder, id, stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record {
            stdout: "/var/log/a b.out.log".into(),
            stderr: "/var/log/a b.log".into(),
            limits: Limits { bytes: 7, files: 3 },
            external: None,
            keep_files: true,
        };
        for external in [None, Some("a b".to_owned())] {
            record.external = external;
            record.write(folder.path(), "service.a b").unwrap();
            assert_eq!(Record::read(folder.path(), "service.a b").unwrap(), record);
        }
        assert_eq!(record.external(Stream::Stdout).as_deref(), Some("a b.out"));
        fs::write(folder.path().join("x.log"), "/a\n").unwrap();
        let error = Record::read(folder.path(), "x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_written_to_a_pipe_outlives_its_writer() {
        use std::io::{Read as _, Write as _};
        let folder = tempfile::tempdir().unwrap();
        let held = open_pipe(folder.path(), "x", Stream::Stdout).unwrap();
        let mut writer = open_pipe(folder.path(), "x", Stream::Stdout).unwrap();
        writer.write_all(b"last words").unwrap();
        drop(writer);
        let mut text = [0; 20];
        let count = (&held).read(&mut text).unwrap();
        assert_eq!(&text[..count], b"last words");
    }
}
