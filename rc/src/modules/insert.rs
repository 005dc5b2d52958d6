// SPDX-License-Identifier: Apache-2.0
//! Handing a module to the kernel.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use init::sys::module;
use nix::errno::Errno;

use super::name::ModuleName;
use super::plan::Step;
use super::unpack::Packing;

/// Why a module could not be handed over, or was not taken.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Its file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file cannot be unpacked.
    #[error("cannot unpack {}: {source}", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its options hold a zero byte.
    #[error("its options hold a zero byte: {0:?}")]
    Options(String),
    /// The kernel refused it.
    #[error("the kernel refused {}: {}", path.display(), meaning(source))]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl InsertError {
    /// Whether the module found nothing to drive (ENODEV): no fault where an
    /// alias is wider than what the module looks for itself.
    pub fn is_no_device(&self) -> bool {
        matches!(self, Self::Kernel { source, .. } if is(source, Errno::ENODEV))
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// What an error of finit_module(2) means for a module.
pub(super) fn meaning(error: &io::Error) -> String {
    let text = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => "unknown symbol in module, or unknown option (see dmesg)",
        Some(Errno::ENOEXEC) => "invalid module format: is it another kernel's? (see dmesg)",
        Some(Errno::ESRCH) => "module has wrong symbol version",
        Some(Errno::EINVAL) => "invalid option, or damaged file (see dmesg)",
        Some(Errno::EKEYREJECTED) => "its signature is not accepted",
        Some(Errno::EPERM) => {
            "not permitted: CAP_SYS_MODULE, lockdown, modules_disabled or module_blacklist= (see dmesg)"
        }
        _ => return error.to_string(),
    };
    text.to_owned()
}

/// What a loader asks of the kernel.
pub trait ModuleKernel: Send + Sync {
    /// Whether the module is loaded and its init function is done.
    fn is_live(&self, name: &ModuleName) -> bool;

    /// Loads one module. That it is there already is success.
    ///
    /// # Errors
    /// What went wrong with its file, or what the kernel says.
    fn insert(&self, step: &Step) -> Result<(), InsertError>;
}

/// The running kernel.
#[derive(Debug)]
pub struct RunningKernel {
    sys: PathBuf,
    unpacks: OnceLock<Option<Packing>>,
}

impl RunningKernel {
    /// The kernel whose sysfs is mounted at `sys`.
    pub fn new(sys: &Path) -> Self {
        Self { sys: sys.to_owned(), unpacks: OnceLock::new() }
    }

    /// The packing that the kernel unpacks itself.
    fn unpacks(&self) -> Option<Packing> {
        *self.unpacks.get_or_init(|| {
            fs::read_to_string(self.sys.join("module/compression"))
                .ok()
                .and_then(|name| Packing::of_kernel(&name))
        })
    }
}

impl ModuleKernel for RunningKernel {
    fn is_live(&self, name: &ModuleName) -> bool {
        let path = self.sys.join("module").join(name.as_str()).join("initstate");
        fs::read(path).is_ok_and(|state| state.starts_with(b"live"))
    }

    fn insert(&self, step: &Step) -> Result<(), InsertError> {
        let path = || step.file.clone();
        let options =
            CString::new(step.options.as_str()).map_err(|_| InsertError::Options(step.options.clone()))?;
        let file = File::open(&step.file).map_err(|source| InsertError::Open { path: path(), source })?;
        let packing = Packing::of_file(&step.file);
        let by_kernel = packing.is_none() || packing == self.unpacks();
        let mut result = Err(io::Error::from(Errno::EOPNOTSUPP));
        if by_kernel {
            result = module::insert_file(&file, &options, packing.is_some());
        }
        if let Some(packing) = packing
            && result.as_ref().is_err_and(|error| is(error, Errno::EOPNOTSUPP))
        {
            let image = packing
                .unpack(BufReader::new(file))
                .map_err(|source| InsertError::Unpack { path: path(), source })?;
            result = module::insert_image(&image, &options);
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(|source| InsertError::Kernel { path: path(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_where_to_look() {
        let refused =
            |errno: Errno| InsertError::Kernel { path: PathBuf::from("/m/a.ko"), source: errno.into() };
        assert_eq!(
            refused(Errno::ENOENT).to_string(),
            "the kernel refused /m/a.ko: unknown symbol in module, or unknown option (see dmesg)"
        );
        assert!(refused(Errno::ENODEV).is_no_device() && !refused(Errno::ENOENT).is_no_device());
        let missing = InsertError::Open { path: PathBuf::from("/m/a.ko"), source: Errno::ENOENT.into() };
        assert!(missing.to_string().starts_with("cannot open /m/a.ko: No such file"));
    }
}
