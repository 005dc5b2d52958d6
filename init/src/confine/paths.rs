// SPDX-License-Identifier: Apache-2.0
//! The file and network rules: landlock(7).

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    PathFdError, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};

use super::{Access, Error, Grant, Landlock, Policy};

/// The newest Landlock the rules are written for and were tried on. What an
/// older kernel lacks of it is left out; what a newer one adds is not used.
const ABI_USED: ABI = ABI::V6;

/// Puts the rules in force on the calling thread. Also returns granted paths
/// that do not exist.
pub(super) fn apply(policy: &Policy) -> Result<(Landlock, Vec<PathBuf>), Error> {
    let mut missing = Vec::new();
    let mut opened = Vec::new();
    for Grant { access, path } in &policy.grants {
        match open(path) {
            Ok(fd) => opened.push((rights(*access, path), fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(path.clone()),
            Err(source) => return Err(Error::Grant { path: path.clone(), source }),
        }
    }
    let status = restrict(opened, policy.connect, policy.bind).map_err(Error::Landlock)?;
    Ok((report(&status), missing))
}

fn restrict(
    paths: Vec<(BitFlags<AccessFs>, PathFd)>,
    connect: &[u16],
    bind: &[u16],
) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_USED))?
        .handle_access(AccessNet::from_all(ABI_USED))?
        .scope(Scope::from_all(ABI_USED))?
        .create()?
        .add_rules(paths.into_iter().map(|(rights, fd)| Ok::<_, RulesetError>(PathBeneath::new(fd, rights))))?
        .add_rules(ports(connect, AccessNet::ConnectTcp))?
        .add_rules(ports(bind, AccessNet::BindTcp))?
        .restrict_self()
}

fn ports(numbers: &[u16], access: AccessNet) -> impl Iterator<Item = Result<NetPort, RulesetError>> {
    numbers.iter().map(move |port| Ok(NetPort::new(*port, access)))
}

fn open(path: &Path) -> io::Result<PathFd> {
    PathFd::new(path).map_err(|error| match error {
        PathFdError::OpenCall { source, .. } => source,
        other => io::Error::other(other),
    })
}

fn rights(access: Access, path: &Path) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read | AccessFs::WriteFile | AccessFs::Truncate;
    let rights = match access {
        Access::Read => read,
        Access::Write => write,
        Access::Manage => {
            write
                | AccessFs::MakeDir
                | AccessFs::MakeReg
                | AccessFs::MakeSock
                | AccessFs::MakeSym
                | AccessFs::Refer
                | AccessFs::RemoveDir
                | AccessFs::RemoveFile
        }
        Access::Device => write | AccessFs::IoctlDev,
    };
    // The kernel refuses a rule that gives a directory's rights to a file.
    if path.is_dir() { rights } else { rights & AccessFs::from_file(ABI_USED) }
}

fn report(status: &RestrictionStatus) -> Landlock {
    match status.landlock {
        LandlockStatus::NotImplemented => Landlock::Absent,
        LandlockStatus::NotEnabled => Landlock::NotEnabled,
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            let abi = kernel_abi.unwrap_or(effective_abi as i32);
            match status.ruleset {
                RulesetStatus::FullyEnforced => Landlock::Enforced { abi },
                _ => Landlock::Partial { abi },
            }
        }
    }
}
