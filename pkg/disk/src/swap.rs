// SPDX-License-Identifier: Apache-2.0
//! `swap.sh`: a swap file, under LinuxKit's name for it.

mod arguments;
mod file;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use init::mountinfo::MountTable;
use init::sys;
use nix::sys::statvfs::statvfs;

pub use arguments::{Arguments, Condition, Test, USAGE, size};
pub use file::{FileError, make, write_header};

use crate::step::Step;
use crate::{flags, say};

/// The device an encrypted swap file is used by: LinuxKit's name.
const MAPPED: &str = "/dev/mapper/swapfile";

/// Why there is no swap.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// A condition that was required does not hold.
    #[error("{0}")]
    Condition(String),
    /// What a condition asks cannot be found out.
    #[error("cannot look at {}", .0.display())]
    Look(PathBuf, #[source] io::Error),
    /// swapon(2) failed.
    #[error("cannot swap on {}", .0.display())]
    On(PathBuf, #[source] io::Error),
}

/// The program.
///
/// # Errors
/// A sentence that says what was tried, on what and why it failed.
pub fn main(words: impl IntoIterator<Item = OsString>) -> Result<(), Box<dyn std::error::Error>> {
    let Some(arguments) = flags::read(words, Arguments::parse, USAGE)? else {
        return Ok(());
    };
    for condition in &arguments.conditions {
        let Some(why) = unmet(&condition.test)? else { continue };
        if condition.required {
            return Err(SwapError::Condition(why).into());
        }
        say(format_args!("no swap: {why}"));
        return Ok(());
    }
    make(&arguments.path, arguments.size)?;
    let device = if arguments.encrypt {
        encrypt(&arguments.path).run(arguments.debug)?;
        Path::new(MAPPED)
    } else {
        &arguments.path
    };
    write_header(device, arguments.size)?;
    sys::swap::on(device).map_err(|error| SwapError::On(device.into(), error))?;
    say(format_args!("swapping on {}, {} bytes", device.display(), arguments.size));
    Ok(())
}

/// Why the condition does not hold; `None` where it does.
fn unmet(test: &Test) -> Result<Option<String>, SwapError> {
    match test {
        Test::Mounted(path) => {
            let look = |error| SwapError::Look("/proc/self/mountinfo".into(), error);
            let mounted = !MountTable::read().map_err(look)?.on(path).is_empty();
            Ok((!mounted).then(|| format!("nothing is mounted on {}", path.display())))
        }
        Test::Size(path, least) => {
            let stat = statvfs(path).map_err(|error| SwapError::Look(path.clone(), error.into()))?;
            let size = stat.blocks().saturating_mul(stat.fragment_size());
            let path = path.display();
            Ok((size < *least)
                .then(|| format!("the filesystem of {path} has {size} bytes, less than {least}")))
        }
    }
}

/// Plain mode with a key that is nowhere kept: after a boot nobody can read
/// what was swapped before. The cipher and key are those of LinuxKit's package.
fn encrypt(path: &Path) -> Step {
    let words = [
        "open",
        "--type",
        "plain",
        "--key-file",
        "/dev/urandom",
        "--key-size",
        "256",
        "--cipher",
        "aes-cbc-essiv:sha256",
    ];
    let mut step = Step::new("cryptsetup", words).path(path);
    step.words.push("swapfile".into());
    step
}
