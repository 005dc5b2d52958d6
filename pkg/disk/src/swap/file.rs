// SPDX-License-Identifier: Apache-2.0
//! The file and what mkswap(8) writes into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

/// The size of a page: that of x86, and of every kernel of arm64 an image has.
const PAGE: u64 = 4096;
/// How much is written at once where the filesystem cannot promise space.
const PIECE: usize = 1 << 20;

/// Why there is no swap file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Its directory cannot be made.
    #[error("cannot make the directory {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// It cannot be made so large.
    #[error("cannot make {} of {} bytes", .0.display(), .1)]
    Make(PathBuf, u64, #[source] io::Error),
    /// The header cannot be written.
    #[error("cannot write a swap header to {}", .0.display())]
    Header(PathBuf, #[source] io::Error),
}

/// Makes `path` a file of `size` bytes with no holes, which swapon(2) refuses,
/// for root alone. One of that size from an earlier boot stays; what does not
/// fit is removed again.
///
/// # Errors
/// Above all when the filesystem has not that much room.
pub fn make(path: &Path, size: u64) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| FileError::Directory(parent.into(), error))?;
    }
    let failed = |error| FileError::Make(path.into(), size, error);
    let open = || -> io::Result<File> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(file)
    };
    let file = open().map_err(failed)?;
    if file.metadata().map_err(failed)?.len() != size {
        file.set_len(0).map_err(failed)?;
    }
    reserve(&file, size).map_err(|error| {
        // Half a swap file only takes room.
        let _ = fs::remove_file(path);
        failed(error)
    })
}

fn reserve(mut file: &File, size: u64) -> io::Result<()> {
    let length = i64::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP) => {}
        result => return Ok(result?),
    }
    let zeros = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let piece = zeros.get(..usize::try_from(left).unwrap_or(PIECE).min(PIECE)).unwrap_or(&zeros);
        file.write_all(piece)?;
        left = left.saturating_sub(piece.len() as u64);
    }
    file.sync_all()
}

/// Writes the header of a swap area of `size` bytes over the first page:
/// `union swap_header` of the kernel's `<linux/swap.h>`.
///
/// # Errors
/// When the file or device cannot be written.
pub fn write_header(device: &Path, size: u64) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut uuid = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut uuid)?;
        let mut file = OpenOptions::new().write(true).open(device)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header(size, uuid))?;
        file.sync_all()
    };
    write().map_err(|error| FileError::Header(device.into(), error))
}

fn header(size: u64, uuid: [u8; 16]) -> Vec<u8> {
    const VERSION: u32 = 1;
    // The kernel counts pages with 32 bits.
    let last = u32::try_from(size / PAGE).unwrap_or(u32::MAX).saturating_sub(1);
    let mut page = vec![0; 1024];
    page.extend(VERSION.to_ne_bytes());
    page.extend(last.to_ne_bytes());
    page.extend(0_u32.to_ne_bytes());
    page.extend(uuid);
    page.resize(PAGE as usize - 10, 0);
    page.extend(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_file_has_no_holes_and_is_roots() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/swap");
        make(&path, 1 << 20).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (1 << 20, 0o600));
        assert!(metadata.blocks() * 512 >= 1 << 20, "holes: {} blocks", metadata.blocks());
        // Another size, and one that is open to others.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        make(&path, 1 << 16).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (1 << 16, 0o600));
    }

    #[test]
    fn what_does_not_fit_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swap");
        let error = make(&path, 1 << 60).unwrap_err();
        assert!(error.to_string().ends_with("of 1152921504606846976 bytes"), "{error}");
        assert!(!path.exists());
    }

    /// By the word of those who read such headers.
    #[test]
    fn others_know_the_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swap");
        make(&path, 1 << 20).unwrap();
        write_header(&path, 1 << 20).unwrap();
        let output = Command::new("/sbin/blkid").args(["-p", "-o", "export"]).arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("TYPE=swap\n") && text.contains("VERSION=1\n") && text.contains("UUID="),
            "{text}"
        );
        let header = fs::read(&path).unwrap();
        assert_eq!(header[1024..1032], [1, 0, 0, 0, 255, 0, 0, 0]);
    }
}
