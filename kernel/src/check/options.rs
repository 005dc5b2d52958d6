// SPDX-License-Identifier: Apache-2.0
//! What lkinit asks of a kernel's configuration, as data: one row a thing, with
//! what it is for and what does not work without it.

/// How much depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No image boots, or no container starts.
    Need,
    /// Something of LinuxKit's contract does not work.
    Want,
    /// Made use of where the kernel has it.
    Use,
}

/// The condition of a row. Names are without `CONFIG_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// One of these, built in: it is needed before a module could be loaded,
    /// or it cannot be one.
    BuiltIn(&'static [&'static str]),
    /// One of these, built in or as a module.
    Present(&'static [&'static str]),
    /// Not set.
    Unset(&'static str),
    /// Not set, empty, or this text.
    Text(&'static str, &'static str),
}

/// A row.
#[derive(Debug)]
pub struct Requirement {
    /// How much depends on it.
    pub level: Level,
    /// The condition.
    pub rule: Rule,
    /// What it is for.
    pub reason: &'static str,
    /// What does not work when the condition does not hold.
    pub without: &'static str,
}

const fn row(level: Level, rule: Rule, reason: &'static str, without: &'static str) -> Requirement {
    Requirement { level, rule, reason, without }
}

use Level::{Need, Use, Want};
use Rule::{BuiltIn, Present, Text, Unset};

/// Everything lkinit asks for: condition, what for, what without.
#[rustfmt::skip] // Two lines a row, or the table cannot be read as one.
pub static REQUIREMENTS: &[Requirement] = &[
    // The first programs.
    row(Need, BuiltIn(&["BLK_DEV_INITRD"]),
        "the initial ramdisk", "kernel+initrd images do not boot"),
    row(Need, BuiltIn(&["RD_GZIP"]),
        "linuxkit build compresses the initrd with gzip", "the kernel cannot unpack the initrd"),
    row(Need, BuiltIn(&["BINFMT_ELF"]),
        "every program", "/init cannot be executed"),
    row(Need, BuiltIn(&["BINFMT_SCRIPT"]),
        "scripts in /etc/init.d", "getty and memlogd of LinuxKit are not started"),
    row(Need, BuiltIn(&["MULTIUSER"]),
        "user and group ids", "containers cannot be given their user"),
    // What the boot mounts.
    row(Need, BuiltIn(&["PROC_FS"]),
        "/proc", "nothing works"),
    row(Need, BuiltIn(&["SYSFS"]),
        "/sys", "no cold plug, no cgroups"),
    row(Need, BuiltIn(&["TMPFS"]),
        "/run, /tmp, /var", "there is no place to write to"),
    row(Need, BuiltIn(&["DEVTMPFS"]),
        "/dev", "there are no device nodes"),
    row(Need, BuiltIn(&["UNIX98_PTYS"]),
        "/dev/pts, in every container too", "containers cannot be started: runc mounts devpts"),
    row(Want, BuiltIn(&["POSIX_MQUEUE"]),
        "/dev/mqueue", "containers that mount mqueue cannot be started"),
    row(Want, BuiltIn(&["SYSVIPC"]),
        "System V shared memory and semaphores", "databases in containers fail to start"),
    row(Want, BuiltIn(&["PROC_SYSCTL"]),
        "/proc/sys", "sysctl sets nothing"),
    // What the supervisor and containerd wait with and talk over.
    row(Need, BuiltIn(&["UNIX"]),
        "the sockets of containerd, of the supervisor and of memlogd", "containerd cannot be reached"),
    row(Need, BuiltIn(&["EPOLL"]),
        "waiting for many things at once", "rc.init and containerd do not run"),
    row(Need, BuiltIn(&["EVENTFD"]),
        "waking a thread", "rc.init and containerd do not run"),
    row(Want, BuiltIn(&["SIGNALFD"]),
        "ending the logger, memlogd and vsudd in order",
        "logs are plain files without a limit, memlogd and vsudd do not run"),
    row(Need, BuiltIn(&["FUTEX"]),
        "locks", "programs with threads do not run"),
    row(Need, BuiltIn(&["INOTIFY_USER"]),
        "seeing that containerd's socket is there", "services are not started"),
    row(Need, BuiltIn(&["NET"]),
        "sockets and netlink", "nothing that is not a file works"),
    row(Need, BuiltIn(&["INET"]),
        "the loopback interface and IPv4", "no networking"),
    // What containers are made of.
    row(Need, BuiltIn(&["NAMESPACES"]),
        "containers", "containers cannot be started"),
    row(Need, BuiltIn(&["PID_NS"]),
        "containers", "containers cannot be started"),
    row(Need, BuiltIn(&["UTS_NS"]),
        "containers", "containers cannot be started"),
    row(Need, BuiltIn(&["IPC_NS"]),
        "containers", "containers cannot be started"),
    row(Need, BuiltIn(&["NET_NS"]),
        "containers with a network of their own", "such containers, and interfaces: in runtime.json, fail"),
    row(Need, BuiltIn(&["CGROUPS"]),
        "containers", "containers cannot be started"),
    row(Need, BuiltIn(&["BPF_SYSCALL"]),
        "the device rules of containers on cgroup2",
        "containers cannot be started: runc loads a program for devices"),
    row(Need, BuiltIn(&["CGROUP_BPF"]),
        "the device rules of containers on cgroup2",
        "containers cannot be started: runc loads a program for devices"),
    row(Need, Present(&["OVERLAY_FS"]),
        "writable containers and volumes", "containers without readonly: true cannot be started"),
    row(Want, BuiltIn(&["USER_NS"]),
        "containers with mapped users", "uidMappings: and gidMappings: fail"),
    row(Want, BuiltIn(&["MEMCG"]),
        "memory limits, and knowing that a service ran out of memory",
        "resources: memory is refused by runc"),
    row(Want, BuiltIn(&["CGROUP_PIDS"]),
        "limits on the number of processes", "resources: pids is refused by runc"),
    row(Want, BuiltIn(&["FAIR_GROUP_SCHED"]),
        "processor shares", "resources: cpu is refused by runc"),
    row(Want, BuiltIn(&["CFS_BANDWIDTH"]),
        "processor quotas", "resources: cpu: quota is refused by runc"),
    row(Want, BuiltIn(&["CPUSETS"]),
        "pinning containers to processors", "resources: cpu: cpus is refused by runc"),
    row(Want, BuiltIn(&["BLK_CGROUP"]),
        "disk weights and limits", "resources: blockIO is refused by runc"),
    row(Use, BuiltIn(&["CGROUP_HUGETLB"]),
        "limits on huge pages", "resources: hugepageLimits is refused by runc"),
    row(Use, BuiltIn(&["CGROUP_FREEZER"]),
        "pausing containers on cgroup v1", "with linuxkit.unified_cgroup_hierarchy=0, ctr task pause fails"),
    row(Use, BuiltIn(&["KEYS"]),
        "a session keyring for each container", "containers share the kernel's keys"),
    row(Use, BuiltIn(&["TIME_NS"]),
        "clocks of containers", "time namespaces cannot be asked for"),
    row(Want, Unset("RT_GROUP_SCHED"),
        "with it, cgroup2 gives out processor shares only while no process is real-time",
        "resources: cpu fails as soon as one is"),
    // Confinement.
    row(Want, BuiltIn(&["SECCOMP_FILTER"]),
        "filters of system calls: metadata, vsudd, sysctl and containers that ask for one",
        "the three run without a filter, and say so; such containers cannot be started"),
    row(Use, BuiltIn(&["SECURITY_LANDLOCK"]),
        "files and ports that metadata, vsudd and sysctl can reach",
        "they are held by capabilities and seccomp alone"),
    row(Want, Text("STATIC_USERMODEHELPER_PATH", "/sbin/usermode-helper"),
        "the one program such a kernel calls for hotplug and modules",
        "the kernel calls a program that is not there"),
    // Modules.
    row(Want, BuiltIn(&["MODULES"]),
        "drivers that are not built in", "only what is built in works"),
    row(Want, Unset("UEVENT_HELPER"),
        "hotplug by netlink, not by a program for each event", "every event at boot costs a process"),
    // Console and clock.
    row(Want, BuiltIn(&["PRINTK"]),
        "/dev/kmsg", "the boot's messages are missing from the kernel's log"),
    row(Want, BuiltIn(&["SERIAL_8250_CONSOLE", "SERIAL_AMBA_PL011_CONSOLE", "HVC_DRIVER", "VT_CONSOLE"]),
        "a console", "nobody sees what happens"),
    row(Want, Present(&["VIRTIO_CONSOLE"]),
        "console=hvc0 and the channel of qemu-ga",
        "no console on hvc0; the host cannot ask the guest to shut down"),
    row(Want, Present(&["RTC_DRV_CMOS", "RTC_DRV_PL031", "RTC_DRV_EFI"]),
        "the clock at boot", "the machine starts in 1970 until the network tells it otherwise: TLS fails"),
    // Machines.
    row(Want, Present(&["VIRTIO_PCI", "VIRTIO_MMIO"]),
        "the devices of QEMU, Firecracker and most clouds", "no disks and no network there"),
    row(Want, Present(&["VIRTIO_BLK"]),
        "virtio disks", "such disks are not seen"),
    row(Want, Present(&["VIRTIO_NET"]),
        "virtio network cards", "no network on QEMU and most clouds"),
    row(Want, Present(&["SCSI_VIRTIO"]),
        "virtio SCSI disks: Google Cloud", "such disks are not seen"),
    row(Want, Present(&["BLK_DEV_NVME"]),
        "NVMe disks: AWS, Azure", "such disks are not seen"),
    row(Want, Present(&["HW_RANDOM_VIRTIO"]),
        "randomness from the host", "early programs may wait for randomness"),
    row(Want, Present(&["VIRTIO_BALLOON"]),
        "giving memory back to the host", "the host cannot reclaim the guest's memory"),
    row(Want, Present(&["ACPI_BUTTON", "KEYBOARD_GPIO"]),
        "the power button a host presses to stop a guest", "the host has to kill the guest"),
    row(Use, Present(&["HYPERV"]),
        "Azure and Hyper-V", "no disks and no network there"),
    row(Use, Present(&["ENA_ETHERNET"]),
        "network cards of AWS", "no network there"),
    row(Use, Present(&["VMXNET3"]),
        "network cards of VMware", "no network there"),
    // Roots that are no initrd: there is nothing a module could be loaded from.
    row(Use, BuiltIn(&["SQUASHFS"]),
        "kernel+squashfs images", "they do not boot without an initrd of their own"),
    row(Use, BuiltIn(&["EROFS_FS"]),
        "kernel+erofs images", "they do not boot without an initrd of their own"),
    row(Use, BuiltIn(&["ISO9660_FS"]),
        "kernel+iso images", "they do not boot without an initrd of their own"),
    // Disks and what metadata reads.
    row(Want, BuiltIn(&["MSDOS_PARTITION"]),
        "partition tables of DOS: what the format package makes", "partitions are not seen"),
    row(Want, BuiltIn(&["EFI_PARTITION"]),
        "GPT: format -partition gpt, disks larger than 2 TiB", "such partitions are not seen"),
    row(Want, Present(&["EXT4_FS"]),
        "persistent disks: the format and mount packages", "persistent disks need another filesystem"),
    row(Want, Present(&["BLK_DEV_SR"]),
        "CD-ROMs", "configuration drives of VMware, OpenStack and cloud-init are not seen"),
    row(Want, Present(&["ISO9660_FS"]),
        "CD-ROMs and configuration drives", "mounting them fails"),
    row(Want, Present(&["VFAT_FS"]),
        "configuration drives and EFI partitions", "mounting them fails"),
    row(Use, Present(&["BLK_DEV_LOOP"]),
        "images as disks", "mounting an image file fails"),
    row(Use, Present(&["DM_CRYPT"]),
        "encrypted disks: LinuxKit's dm-crypt package, swap --encrypt", "they fail"),
    row(Use, BuiltIn(&["SWAP"]),
        "swap files: the swap package", "that package fails"),
    row(Use, Present(&["XFS_FS"]),
        "persistent disks", "that filesystem cannot be chosen"),
    row(Use, Present(&["BTRFS_FS"]),
        "persistent disks", "that filesystem cannot be chosen"),
    // vsock.
    row(Want, Present(&["VIRTIO_VSOCKETS"]),
        "vsudd on QEMU and Firecracker", "vsudd reaches no host there"),
    row(Use, Present(&["HYPERV_VSOCKETS"]),
        "vsudd on Hyper-V", "vsudd reaches no host there"),
    row(Use, Present(&["VSOCKETS_LOOPBACK"]),
        "vsock within the machine", "vsudd's own tests do not run"),
    // Interfaces that runtime.json can ask for.
    row(Want, Present(&["VETH"]),
        "interfaces: with a peer", "such interfaces are refused"),
    row(Want, Present(&["BRIDGE"]),
        "interfaces: add: bridge, and container engines", "such interfaces are refused"),
    row(Want, Present(&["IPV6"]),
        "IPv6, and ::1 on the loopback interface", "no IPv6"),
    row(Want, BuiltIn(&["PACKET"]),
        "DHCP clients", "LinuxKit's dhcpcd package gets no address"),
    row(Use, Present(&["WIREGUARD"]),
        "interfaces: add: wireguard", "such interfaces are refused"),
    row(Use, Present(&["DUMMY"]),
        "interfaces: add: dummy", "such interfaces are refused"),
    row(Use, Present(&["MACVLAN"]),
        "interfaces: add: macvlan", "such interfaces are refused"),
    row(Use, Present(&["IPVLAN"]),
        "interfaces: add: ipvlan", "such interfaces are refused"),
    row(Use, Present(&["VLAN_8021Q"]),
        "interfaces: add: vlan", "such interfaces are refused"),
    row(Use, Present(&["VXLAN"]),
        "overlay networks of container engines", "such networks fail"),
    row(Use, Present(&["TUN"]),
        "tunnels of programs", "OpenVPN and the like fail"),
    row(Use, Present(&["NF_TABLES", "IP_NF_IPTABLES"]),
        "packet filters: container engines", "ports of containers cannot be published"),
    // The settings of the sysctl package.
    row(Want, BuiltIn(&["SYN_COOKIES"]),
        "net.ipv4.tcp_syncookies", "sysctl warns; a flood of SYNs stops servers"),
    row(Use, BuiltIn(&["PERF_EVENTS"]),
        "kernel.perf_event_paranoid", "sysctl warns"),
    row(Use, BuiltIn(&["AIO"]),
        "fs.aio-max-nr", "sysctl warns; databases that insist on it fail"),
    // Filesystems that are mounted where the kernel has them.
    row(Use, BuiltIn(&["SECURITYFS"]),
        "/sys/kernel/security", "it is not mounted"),
    row(Use, BuiltIn(&["DEBUG_FS"]),
        "/sys/kernel/debug", "it is not mounted"),
    row(Use, BuiltIn(&["PSTORE"]),
        "/sys/fs/pstore: what the kernel said before it died", "it is not mounted"),
    row(Use, Present(&["CONFIGFS_FS"]),
        "/sys/kernel/config", "it is not mounted"),
    row(Use, Present(&["FUSE_FS"]),
        "filesystems of programs", "they cannot be mounted"),
    row(Use, Present(&["EFIVAR_FS"]),
        "EFI variables", "they cannot be read"),
    row(Use, Present(&["BINFMT_MISC"]),
        "programs of other architectures: LinuxKit's binfmt package", "that package fails"),
    row(Use, BuiltIn(&["SECURITY_SELINUX"]),
        "SELinux", "policies are not enforced"),
    // Debugging.
    row(Use, BuiltIn(&["IKCONFIG_PROC"]),
        "/proc/config.gz: this check in a running machine", "the configuration must be had elsewhere"),
];
