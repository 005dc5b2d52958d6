// SPDX-License-Identifier: Apache-2.0
//! Makes the mounts of [`mounts`], with what they depend on: what the kernel
//! has, and what it has done already.

use std::fs;
use std::io;

use init::action::{Action, Kernel};
use init::cmdline::Cmdline;
use init::mount::Mount;
use nix::errno::Errno;
use nix::mount::MsFlags;

use super::mounts;

/// The mounts come before everything: there is nothing to print on, and
/// nothing to read, until they are made. Returns what went wrong.
pub(super) fn everything(kernel: &dyn Kernel) -> Vec<String> {
    let mut failures = Vec::new();
    let mut known = String::new();
    let mut apply = |step: &mounts::Step, known: &str| {
        // They are mounted beside the devices' modules: see devices::start.
        if mounts::needs_module(step, known) {
            return;
        }
        if let Err(error) = apply_mount(kernel, &step.action)
            && !step.optional
        {
            failures.push(format!("{}: {error}", step.action));
        }
    };
    apply(&mounts::proc(), &known);
    // Unreadable, nothing counts as known, and all of them are mounted there.
    known.push_str(&fs::read_to_string("/proc/filesystems").unwrap_or_default());
    let cmdline = Cmdline::current().unwrap_or_default();
    let legacy = cmdline.flag("linuxkit.unified_cgroup_hierarchy") == Some(false);
    let controllers = legacy.then(|| fs::read_to_string("/proc/cgroups").unwrap_or_default());
    mounts::plan(controllers.as_deref()).iter().for_each(|step| apply(step, &known));
    failures
}

fn apply_mount(kernel: &dyn Kernel, action: &Action) -> io::Result<()> {
    match kernel.apply(action) {
        // The kernel has mounted /dev itself on a root that is a disk, and
        // without a single option.
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => match action {
            Action::Mount(mount) if mount.fstype == "devtmpfs" => {
                let flags = mount.flags | MsFlags::MS_REMOUNT;
                kernel.apply(&Action::Mount(Mount { flags, ..mount.clone() }))
            }
            _ => Err(error),
        },
        // `favordynmods` came with Linux 6.0.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => match action {
            Action::Mount(mount) if *mount == mounts::cgroup2(true) => {
                kernel.apply(&Action::Mount(mounts::cgroup2(false)))
            }
            _ => Err(error),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use init::action::Recorder;

    use super::*;

    const DEV: &str = "mount -t devtmpfs -o noexec,nosuid,relatime";

    fn step(kind: &str) -> Action {
        let plan = mounts::plan(None).into_iter().map(|step| step.action);
        plan.into_iter()
            .find(|action| matches!(action, Action::Mount(mount) if mount.fstype == kind))
            .unwrap()
    }

    #[test]
    fn a_dev_that_is_there_gets_the_options_of_ours() {
        let kernel = Recorder::default().refusing(&format!("{DEV},size"), Errno::EBUSY as i32);
        apply_mount(&kernel, &step("devtmpfs")).unwrap();
        let expected = format!("{DEV},remount,size=10m,nr_inodes=248418,mode=755 devtmpfs /dev");
        assert_eq!(kernel.lines(), [expected]);
        let kernel = Recorder::default().refusing("mount", Errno::EBUSY as i32);
        assert!(apply_mount(&kernel, &step("sysfs")).is_err());
    }

    #[test]
    fn a_kernel_before_6_0_gets_its_control_groups_without_favordynmods() {
        let with = "mount -t cgroup2 -o nodev,noexec,nosuid,relatime,nsdelegate";
        let kernel = Recorder::default().refusing(&format!("{with},"), Errno::EINVAL as i32);
        apply_mount(&kernel, &step("cgroup2")).unwrap();
        assert_eq!(kernel.lines(), [format!("{with} cgroup2 /sys/fs/cgroup")]);
    }
}
