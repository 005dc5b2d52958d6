// SPDX-License-Identifier: Apache-2.0
//! A log file and the older ones behind it, for readers.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The most older files that are looked for.
const MOST: u32 = 100;

/// The name of a log's `index`th older file; 1 is the newest of them.
pub(super) fn older(path: &Path, index: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

/// One of a log's files, open.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) file: File,
    /// Filesystem and inode: what stays when a file is renamed. Nobody else
    /// gets the number while the file is open.
    pub(super) id: (u64, u64),
    pub(super) length: u64,
}

impl Kept {
    /// Opens one.
    ///
    /// # Errors
    /// Those of open(2); `Unsupported` for what is no plain file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let data = file.metadata()?;
        if !data.is_file() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { file, id: (data.dev(), data.ino()), length: data.len() })
    }
}

/// Opens all of a log's files, the oldest first.
pub(super) fn open(path: &Path) -> Vec<Kept> {
    // From the newest on, the way a rotation moves them: one may be seen
    // twice, none is missed.
    let mut kept: Vec<Kept> = Vec::new();
    let mut missing = 0;
    for index in 0..=MOST {
        let opened = match index {
            0 => Kept::open(path),
            index => Kept::open(&older(path, index)),
        };
        match opened {
            Ok(file) if kept.last().is_some_and(|newer| newer.id == file.id) => {}
            Ok(file) => kept.push(file),
            // In the middle of a rotation one name is free for a moment.
            Err(_) if missing == 0 => missing = 1,
            Err(_) => break,
        }
    }
    kept.reverse();
    kept
}
