// SPDX-License-Identifier: Apache-2.0
//! `logwrite`: writes what memlogd has, and what comes, to one file a log:
//! `DIR/NAME.log`, and `DIR/NAME.log.0` and so on when that is full. Names of
//! files and form of lines are LinuxKit's: images look for them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::arguments::{Mode, Write};
use crate::client::{self, Error};

/// Between the making of a socket and listening on it: there is no event for that.
const MOMENT: Duration = Duration::from_millis(50);

/// The most files that are open at once.
const OPEN: usize = 64;

/// Writes until it is killed. When memlogd ends, or is not there yet, it is
/// waited for.
///
/// # Errors
/// A file cannot be written.
pub fn run(options: &Write) -> Result<(), Error> {
    let mut files = Files { options, open: BTreeMap::new() };
    loop {
        // The watch comes before what it is to see.
        let comes = watch(&options.socket).map_err(|source| {
            let what = format!("cannot watch for {}", options.socket.display());
            Error::Output { what, source }
        })?;
        let asked = client::ask(&options.socket, Mode::DumpAndFollow, |told, _| {
            files.write(&told.source, told.file_line().as_bytes())
        });
        match asked {
            Err(error @ Error::Output { .. }) => return Err(error),
            Err(error) => eprintln!("logwrite: {error}; waiting for it"),
            Ok(()) => eprintln!("logwrite: memlogd has ended; waiting for it"),
        }
        wait_for(&options.socket, &comes);
    }
}

/// Watches the folder of a socket.
fn watch(socket: &Path) -> io::Result<Inotify> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let folder = socket.parent().unwrap_or(Path::new("."));
    watch.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
    Ok(watch)
}

fn wait_for(socket: &Path, watch: &Inotify) {
    while UnixStream::connect(socket).is_err() {
        let Ok(events) = watch.read_events() else { return };
        // A socket is made a moment before somebody listens on it.
        if events.iter().any(|event| event.name.as_deref() == socket.file_name()) {
            sleep(MOMENT);
        }
    }
}

struct Files<'a> {
    options: &'a Write,
    open: BTreeMap<String, (File, u64)>,
}

impl Files<'_> {
    fn write(&mut self, source: &str, line: &[u8]) -> Result<(), Error> {
        let path = self.path(source);
        self.append(source, &path, line).map_err(|source| {
            let what = format!("cannot write {}", path.display());
            Error::Output { what, source }
        })
    }

    /// A log's name may be anything; a file's may not.
    fn path(&self, source: &str) -> PathBuf {
        let name = source.replace(['/', '\0'], "_");
        let name = if name.starts_with('.') { format!("_{name}") } else { name };
        self.options.folder.join(format!("{name}.log"))
    }

    fn append(&mut self, source: &str, path: &Path, line: &[u8]) -> io::Result<()> {
        if self.open.len() >= OPEN && !self.open.contains_key(source) {
            self.open.clear();
        }
        let (file, length) = match self.open.remove(source) {
            Some(open) => open,
            None => open(path)?,
        };
        let (mut file, length) = if length > 0 && length + line.len() as u64 > self.options.max_size {
            rotate(path, self.options.max_files)?;
            open(path)?
        } else {
            (file, length)
        };
        file.write_all(line)?;
        self.open.insert(source.to_owned(), (file, length + line.len() as u64));
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Names every file one higher; the oldest goes.
fn rotate(path: &Path, count: u32) -> io::Result<()> {
    let older = |index: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{index}"));
        PathBuf::from(name)
    };
    let missing_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    for index in (1..count).rev() {
        missing_is_fine(fs::rename(older(index - 1), older(index)))?;
    }
    missing_is_fine(if count == 0 { fs::remove_file(path) } else { fs::rename(path, older(0)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Path, max_files: u32) -> Write {
        Write { socket: "/nonexistent".into(), folder: folder.to_path_buf(), max_size: 10, max_files }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_rotated_by_size_and_count() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path(), 2);
        let mut files = Files { options: &options, open: BTreeMap::new() };
        for line in ["one\n", "two\n", "three\n", "four\n", "a very long line\n", "six\n"] {
            files.write("x", line.as_bytes()).unwrap();
        }
        assert_eq!(names(folder.path()), ["x.log", "x.log.0", "x.log.1"]);
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(text("x.log"), "six\n");
        assert_eq!(text("x.log.0"), "a very long line\n");
        assert_eq!(text("x.log.1"), "four\n");
    }

    #[test]
    fn an_existing_file_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.log"), "before\n").unwrap();
        let options = options(folder.path(), 0);
        Files { options: &options, open: BTreeMap::new() }.write("x", b"1\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("x.log")).unwrap(), "before\n1\n");
        Files { options: &options, open: BTreeMap::new() }.write("x", b"22\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("x.log")).unwrap(), "22\n");
        assert_eq!(names(folder.path()), ["x.log"]);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path(), 1);
        let mut files = Files { options: &options, open: BTreeMap::new() };
        for name in ["../x", "a/b", "..", ""] {
            files.write(name, b"x\n").unwrap();
        }
        assert_eq!(names(folder.path()), [".log", "_...log", "_.._x.log", "a_b.log"]);
    }

    #[test]
    fn many_logs_need_few_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path(), 1);
        let mut files = Files { options: &options, open: BTreeMap::new() };
        for index in 0..3 * OPEN {
            files.write(&index.to_string(), b"x\n").unwrap();
            assert!(files.open.len() <= OPEN);
        }
        assert_eq!(names(folder.path()).len(), 3 * OPEN);
    }
}
