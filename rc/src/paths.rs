// SPDX-License-Identifier: Apache-2.0
//! Where things are in a booted image.

/// What rc knows, kept for an rc that takes over: gone with the machine.
pub const STATE: &str = "/run/lkinit";

/// The supervisor's socket, root's alone.
pub const CONTROL: &str = "/run/lkinit/control.sock";

/// There while the machine goes down: PID 1 does not start rc again, and the
/// supervisor starts nothing.
pub const SHUTDOWN: &str = "/run/lkinit/shutdown";

/// There on a machine, whose kernel is ours to set up; not in a container.
pub const MACHINE: &str = "/run/lkinit/machine";

/// Locked by the rc.shutdown that is at work.
pub const SHUTDOWN_LOCK: &str = "/run/lkinit/shutdown.lock";

/// What the boot has done so far.
pub const PROGRESS: &str = "/run/lkinit/progress";

/// The script of the image's that runs now: its process.
pub const SCRIPT: &str = "/run/lkinit/script";

/// Where the boot's time went.
pub const TIMELINE: &str = "/run/lkinit/timeline";

/// What has happened to services.
pub const EVENTS: &str = "/run/lkinit/events";

/// What is known of each service, a file each.
pub const SERVICES: &str = "/run/lkinit/services";

/// The image's containers.
pub const CONTAINERS: &str = "/containers";

/// What is done at boot, in the order of names.
pub const INIT_D: &str = "/etc/init.d";

/// What is done at shutdown, in the order of names.
pub const SHUTDOWN_D: &str = "/etc/shutdown.d";

/// The path for programs that are run.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
