// SPDX-License-Identifier: Apache-2.0
//! The filesystems of a booted machine, as tables.

use std::path::{Path, PathBuf};

use init::action::{Action, Node};
use init::mount::Mount;
use init::mountinfo::MountTable;
use nix::mount::MsFlags;

/// One step of the boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Whether a kernel that does not have it is no reason for a line.
    pub optional: bool,
}

impl Step {
    fn must(action: Action) -> Self {
        Self { action, optional: false }
    }

    fn optional(action: Action) -> Self {
        Self { action, optional: true }
    }
}

/// The usual flags.
const SAFE: &str = "nodev,nosuid,noexec,relatime";

/// A filesystem: type, target, options.
type Row = (&'static str, &'static str, &'static str);

/// Memory filesystems for what changes.
const MEMORY: &[Row] = &[
    ("tmpfs", "/run", "nodev,nosuid,noexec,relatime,size=10%,mode=755"),
    ("tmpfs", "/tmp", "nodev,nosuid,noexec,relatime,size=10%,mode=1777"),
    ("tmpfs", "/var", "nodev,nosuid,noexec,relatime,size=50%,mode=755"),
];

/// What `/var` holds: name and mode.
const VAR: &[(&str, u32)] = &[
    ("cache", 0o755),
    ("empty", 0o555),
    ("lib", 0o755),
    ("local", 0o755),
    ("lock", 0o755),
    ("log", 0o755),
    ("opt", 0o755),
    ("spool", 0o755),
    ("tmp", 0o1777),
];

/// Nodes a kernel's devtmpfs may not have made: name, major, minor, mode.
const NODES: &[(&str, u64, u64, u32)] = &[
    ("console", 5, 1, 0o600),
    ("tty1", 4, 1, 0o620),
    ("tty", 5, 0, 0o666),
    ("null", 1, 3, 0o666),
    ("kmsg", 1, 11, 0o660),
];

/// Links in `/dev`.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("kcore", "/proc/kcore"),
];

/// Below `/dev`.
const DEVICES: &[(Row, u32)] = &[
    (("mqueue", "/dev/mqueue", SAFE), 0o755),
    (("tmpfs", "/dev/shm", "nodev,nosuid,noexec,relatime,mode=1777"), 0o1777),
    (("devpts", "/dev/pts", "nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666"), 0o755),
];

/// Filesystems of the kernel that not every kernel has.
const KERNEL: &[Row] = &[
    ("securityfs", "/sys/kernel/security", SAFE),
    ("debugfs", "/sys/kernel/debug", SAFE),
    ("configfs", "/sys/kernel/config", SAFE),
    ("fusectl", "/sys/fs/fuse/connections", SAFE),
    ("selinuxfs", "/sys/fs/selinux", "nosuid,noexec,relatime"),
    ("pstore", "/sys/fs/pstore", SAFE),
    ("bpf", "/sys/fs/bpf", "nodev,nosuid,noexec,relatime,mode=700"),
    ("efivarfs", "/sys/firmware/efi/efivars", SAFE),
    ("binfmt_misc", "/proc/sys/fs/binfmt_misc", SAFE),
];

/// Whether a step would have the kernel look for a module, by a program that it
/// runs: an optional filesystem that is none of `known`, `/proc/filesystems`.
pub fn needs_module(step: &Step, known: &str) -> bool {
    let Action::Mount(mount) = &step.action else { return false };
    let known = |kind: &str| known.lines().any(|line| line.split_whitespace().next_back() == Some(kind));
    step.optional && KERNEL.iter().any(|(kind, ..)| *kind == mount.fstype) && !known(&mount.fstype)
}

/// The optional filesystems that are not mounted and have a place to be
/// mounted on.
pub fn missing(mounts: &MountTable) -> Vec<Action> {
    let missing = |(kind, target, _): &&Row| {
        let target = Path::new(target);
        target.is_dir() && mounts.on(target).iter().all(|mount| mount.fstype != *kind)
    };
    KERNEL.iter().filter(missing).map(|(kind, target, options)| mount(kind, target, options)).collect()
}

/// Where control groups are.
const CGROUP: &str = "/sys/fs/cgroup";

/// `/proc` first: the command line is in it.
pub fn proc() -> Step {
    Step::must(mount("proc", "/proc", SAFE))
}

/// The kernel's log takes every line, and does not leave out some when there
/// are many: it is the one place that has them all.
fn whole_log() -> Step {
    let path = PathBuf::from("/proc/sys/kernel/printk_devkmsg");
    Step::optional(Action::Write { path, text: "on".to_owned() })
}

/// Everything else that has to be mounted before a program can run, in order.
/// `controllers` is the text of `/proc/cgroups` for a version 1 tree of
/// control groups, `None` for version 2.
pub fn plan(controllers: Option<&str>) -> Vec<Step> {
    let read_only = Mount::remount("/", MsFlags::MS_RDONLY | MsFlags::MS_RELATIME);
    let mut steps = vec![Step::must(Action::Mount(read_only)), whole_log()];
    steps.extend(MEMORY.iter().map(|(kind, target, options)| Step::must(mount(kind, target, options))));
    for (name, mode) in VAR {
        steps.push(Step::must(make_dir(&format!("/var/{name}"), *mode)));
    }
    steps.push(Step::must(link("/var/run", "/run")));
    steps.push(Step::must(mount(
        "devtmpfs",
        "/dev",
        "nosuid,noexec,relatime,size=10m,nr_inodes=248418,mode=755",
    )));
    for (name, major, minor, mode) in NODES {
        let path = PathBuf::from(format!("/dev/{name}"));
        let node = Node::Char(*major, *minor);
        steps.push(Step::must(Action::MakeNode { path, node, mode: *mode }));
    }
    for (name, target) in LINKS {
        steps.push(Step::must(link(&format!("/dev/{name}"), target)));
    }
    for ((kind, target, options), mode) in DEVICES {
        steps.push(Step::must(make_dir(target, *mode)));
        steps.push(Step::optional(mount(kind, target, options)));
    }
    steps.push(Step::must(mount("sysfs", "/sys", SAFE)));
    steps.extend(KERNEL.iter().map(|(kind, target, options)| Step::optional(mount(kind, target, options))));
    match controllers {
        None => steps.push(Step::must(Action::Mount(cgroup2(true)))),
        Some(text) => steps.extend(legacy_cgroups(text)),
    }
    steps.push(Step::must(Action::Mount(Mount::propagation("/", MsFlags::MS_SHARED | MsFlags::MS_REC))));
    steps
}

/// The version 2 tree of control groups. With `favordynmods` (Linux 6.0)
/// moving a process into a group does not wait for an RCU grace period of
/// about 10 ms; a kernel that does not know the option says EINVAL.
pub fn cgroup2(favordynmods: bool) -> Mount {
    let options = if favordynmods { "nsdelegate,favordynmods" } else { "nsdelegate" };
    Mount::new("cgroup2", CGROUP, &format!("{SAFE},{options}"))
}

/// A version 1 tree: one hierarchy for each controller that is switched on in
/// `/proc/cgroups` (cgroups(7)), and systemd's without a controller.
fn legacy_cgroups(text: &str) -> Vec<Step> {
    let mut steps =
        vec![Step::must(mount("tmpfs", CGROUP, "nodev,nosuid,noexec,relatime,mode=755,size=10m"))];
    let enabled = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        (fields.nth(2)? == "1").then_some(name)
    });
    let hierarchy = |name: &str, data: &str| {
        let target = format!("{CGROUP}/{name}");
        let options = format!("{SAFE},{data}");
        [Step::must(make_dir(&target, 0o755)), Step::optional(mount("cgroup", &target, &options))]
    };
    for name in enabled {
        steps.extend(hierarchy(name, name));
    }
    steps.extend(hierarchy("systemd", "none,name=systemd"));
    // Or groups could not be nested and still be limited as a whole.
    let path = PathBuf::from(format!("{CGROUP}/memory/memory.use_hierarchy"));
    steps.push(Step::optional(Action::Write { path, text: "1".to_owned() }));
    steps
}

fn mount(kind: &str, target: &str, options: &str) -> Action {
    Action::Mount(Mount::new(kind, target, options))
}

fn make_dir(path: &str, mode: u32) -> Action {
    Action::MakeDir { path: path.into(), mode }
}

fn link(path: &str, target: &str) -> Action {
    Action::Symlink { path: path.into(), target: target.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(controllers: Option<&str>) -> Vec<String> {
        plan(controllers).iter().map(|step| step.action.to_string()).collect()
    }

    #[test]
    fn the_order_of_the_contract() {
        let lines = lines(None);
        let at = |text: &str| {
            lines
                .iter()
                .position(|line| line.contains(text))
                .unwrap_or_else(|| panic!("{text} in {lines:#?}"))
        };
        assert_eq!(lines.first().unwrap(), "mount -o relatime,remount,ro /");
        assert!(at("tmpfs /run") < at("tmpfs /tmp"));
        assert!(at("tmpfs /var") < at("/var/cache"));
        assert!(at("ln -s /run /var/run") < at("devtmpfs /dev"));
        assert!(at("mknod -m 0600 /dev/console c 5 1") < at("devpts /dev/pts"));
        assert!(at("sysfs /sys") < at("debugfs"));
        assert!(at("debugfs") < at("cgroup2"));
        assert_eq!(lines.last().unwrap(), "mount -o rshared /");
        assert_eq!(
            lines.get(at("/run")).unwrap(),
            "mount -t tmpfs -o nodev,noexec,nosuid,relatime,size=10%,mode=755 tmpfs /run"
        );
    }

    #[test]
    fn only_what_the_kernel_may_have_as_a_module_is_put_off() {
        let known = "nodev\tsysfs\nnodev\ttmpfs\nnodev\tdevpts\nnodev\tdebugfs\nnodev\tsecurityfs\nnodev\tbpf\n\text4\n";
        let put_off: Vec<_> = plan(None).into_iter().filter(|step| needs_module(step, known)).collect();
        let kinds: Vec<_> = put_off.iter().map(|step| step.action.to_string()).collect();
        assert_eq!(kinds.len(), 6, "{kinds:#?}");
        assert!(kinds.iter().all(|line| !line.contains("debugfs") && !line.contains("mqueue")), "{kinds:#?}");
        assert!(kinds.iter().any(|line| line.starts_with("mount -t binfmt_misc")), "{kinds:#?}");
    }

    #[test]
    fn a_version_1_tree_has_the_controllers_that_are_on() {
        let text =
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t1\t1\nmemory\t0\t1\t0\npids\t0\t1\t1\n";
        let lines = lines(Some(text));
        let mounted: Vec<&String> = lines.iter().filter(|line| line.contains("-t cgroup ")).collect();
        assert_eq!(mounted.len(), 3, "{mounted:?}");
        assert!(mounted[0].ends_with(",cpu cgroup /sys/fs/cgroup/cpu"));
        assert!(mounted[2].ends_with(",none,name=systemd cgroup /sys/fs/cgroup/systemd"));
        assert!(!lines.iter().any(|line| line.contains("cgroup2")));
    }
}
