// SPDX-License-Identifier: Apache-2.0
//! The system call filter: seccomp(2).

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::{Argument, Error, Seccomp, Syscall};

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;
#[cfg(target_arch = "riscv64")]
const ARCH: TargetArch = TargetArch::riscv64;

/// Puts the filters in force on the calling thread.
pub(super) fn apply(lists: &[&[Syscall]]) -> Result<Seccomp, Error> {
    let rules = rules(lists.iter().copied().flatten()).map_err(Error::Filter)?;
    let allowed = rules.len();
    // clone3(2) keeps its flags in memory, where no filter can read them: it
    // must look absent, so that the C library turns to clone(2), whose flags
    // are limited. A second filter, because one filter has one refusal; the
    // stricter answer of the two holds.
    let pretend = compile(
        [(libc::SYS_clone3, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
    )?;
    let program = compile(rules, SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow)?;
    for program in [pretend, program] {
        match seccompiler::apply_filter(&program) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(error)) if is_absent(&error) => return Ok(Seccomp::Absent),
            Err(error) => return Err(Error::Seccomp(error)),
        }
    }
    Ok(Seccomp::Enforced { allowed })
}

/// ENOSYS from a kernel without seccomp, EINVAL from one without its filters.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL))
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    SeccompFilter::new(rules, otherwise, matched, ARCH).and_then(TryInto::try_into).map_err(Error::Filter)
}

/// One entry a call. An empty list of rules allows any argument; of several
/// rules one must hold. A call listed without a condition needs none, whatever
/// another list says of it.
fn rules<'a>(
    calls: impl Iterator<Item = &'a Syscall>,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional = Vec::new();
    for call in calls {
        let conditions = conditions(call.argument)?;
        if conditions.is_empty() {
            unconditional.push(call.number);
        }
        let list = rules.entry(call.number).or_default();
        for condition in conditions {
            list.push(SeccompRule::new(vec![condition])?);
        }
    }
    rules.extend(unconditional.into_iter().map(|number| (number, Vec::new())));
    Ok(rules)
}

/// Of which one must hold. Flag words are 64 bits wide for the kernel; numbers
/// compared for equality are C ints, and it ignores the upper half.
fn conditions(argument: Argument) -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    let masked = |index, flags, value| {
        SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flags), value)
    };
    match argument {
        Argument::Any => Ok(Vec::new()),
        Argument::OneOf(index, values) => values
            .iter()
            .map(|value| {
                SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(*value))
            })
            .collect(),
        Argument::With(index, flags) => Ok(vec![masked(index, flags, flags)?]),
        Argument::Without(index, flags) => Ok(vec![masked(index, flags, 0)?]),
    }
}
