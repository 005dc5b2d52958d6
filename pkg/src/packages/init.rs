// SPDX-License-Identifier: Apache-2.0
//! What is in `lkinit/init`: the root that other `init:` images, containers
//! and files are laid on.
use anyhow::Result;

use super::Inputs;
use crate::tree::Tree;

/// Directories and their modes. Mount points are among them, for on a read-only
/// root they cannot be made at boot; so are those LinuxKit's users bind.
const DIRS: [(&str, u32); 39] = [
    ("bin", 0o755),
    ("containers", 0o755),
    ("containers/onboot", 0o755),
    ("containers/onshutdown", 0o755),
    ("containers/services", 0o755),
    ("containers/volumes", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/init.d", 0o755),
    ("etc/modprobe.d", 0o755),
    ("etc/network", 0o755),
    ("etc/shutdown.d", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    ("etc/sysctl.d", 0o755),
    ("home", 0o755),
    ("lib", 0o755),
    ("lib/firmware", 0o755),
    ("lib/modules", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("usr/libexec", 0o755),
    ("usr/local", 0o755),
    ("usr/local/bin", 0o755),
    ("usr/local/sbin", 0o755),
    ("usr/sbin", 0o755),
    ("usr/share", 0o755),
    ("var", 0o755),
];

/// Our programs: where, and the name cargo gave them.
const PROGRAMS: [(&str, &str); 2] = [("sbin/init", "init"), ("usr/bin/service", "rc")];

/// Other names of our programs. Both tell from the name they are called by what
/// they are to do.
const NAMES: [(&str, &str); 6] = [
    ("init", "sbin/init"),
    ("bin/rc.init", "/usr/bin/service"),
    ("bin/rc.shutdown", "/usr/bin/service"),
    ("sbin/modprobe", "/usr/bin/service"),
    ("sbin/usermode-helper", "/sbin/init"),
    ("etc/init.d/005-volumes", "/usr/bin/service"),
];

/// Where a DHCP client leaves what it was told; on a read-only root nothing
/// else could be written.
const RESOLV_CONF: (&str, &str) = ("etc/resolv.conf", "/run/resolvconf/resolv.conf");

/// Completion for bash, which looks for it by the command's name.
const COMPLETION: (&str, &str) =
    ("usr/share/bash-completion/completions/service", include_str!("../../../rc/src/cli/completion.bash"));

/// Files of the folder `pkg/init/root`.
pub(super) const FILES: [(&str, &str); 4] = [
    ("etc/group", include_str!("../../init/root/etc/group")),
    ("etc/issue", include_str!("../../init/root/etc/issue")),
    ("etc/os-release", include_str!("../../init/root/etc/os-release")),
    ("etc/passwd", include_str!("../../init/root/etc/passwd")),
];

/// The whole root.
pub fn tree(inputs: &Inputs<'_>) -> Result<Tree> {
    let mut tree = Tree::new();
    for (path, mode) in DIRS {
        tree.dir(path, mode)?;
    }
    for (path, program) in PROGRAMS {
        tree.file(path, 0o755, inputs.program(program)?)?;
    }
    for (path, target) in NAMES.into_iter().chain([RESOLV_CONF]) {
        tree.symlink(path, target)?;
    }
    for (path, text) in FILES.into_iter().chain([COMPLETION]) {
        tree.file(path, 0o644, text)?;
    }
    super::busybox::add(&mut tree, inputs.busybox, "/bin/busybox")?;
    Ok(tree)
}

/// Whether a path is one of our own programs', which no other package may
/// bring: all `init:` images share one root.
pub(super) fn is_ours(path: &str) -> bool {
    PROGRAMS.iter().chain(&NAMES).any(|(ours, _)| *ours == path)
}
