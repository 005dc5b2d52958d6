// SPDX-License-Identifier: Apache-2.0
//! The modules a virtual machine needs, as data.
//!
//! Names only: what these depend on follows from the kernel's own tables. A
//! name a kernel does not have (built in, not enabled, newer) is left out, and
//! the tool says so.

/// Modules that are in the image for one reason.
#[derive(Debug)]
pub struct Group {
    /// The reason.
    pub why: &'static str,
    /// Module names, without a folder or a suffix.
    pub names: &'static [&'static str],
}

/// What goes into a kernel image.
pub const WANTED: &[Group] = &[
    Group {
        why: "virtio: the devices of QEMU, Firecracker, crosvm and most clouds",
        names: &[
            "virtio_pci",
            "virtio_mmio",
            "virtio_blk",
            "virtio_net",
            "virtio_scsi",
            "virtio_console",
            "virtio_input",
            "virtio_balloon",
            "virtio_mem",
            "virtio_pmem",
            "virtio_rng",
            "virtiofs",
            "9pnet_virtio",
        ],
    },
    Group {
        why: "disks that are not virtio: NVMe, SATA, IDE, SCSI, CD-ROM, VMware",
        names: &[
            "nvme",
            "ahci",
            "ata_piix",
            "ata_generic",
            "sd_mod",
            "sr_mod",
            "vmw_pvscsi",
            "mptspi",
            "loop",
        ],
    },
    Group {
        why: "encrypted and verified disks (LinuxKit's dm-crypt package, encrypted swap), swap in memory",
        names: &["dm_mod", "dm_crypt", "dm_verity", "xts", "essiv", "zram"],
    },
    Group {
        why: "processor instructions for the ciphers and checksums of filesystems, disks and tunnels",
        names: &["aesni_intel", "crc32c_intel", "crc32_pclmul", "ghash_clmulni_intel"],
    },
    Group {
        why: "filesystems: the root of every image format, config drives, LinuxKit's format package",
        names: &[
            "overlay", "squashfs", "erofs", "isofs", "udf", "ext4", "xfs", "btrfs", "vfat", "exfat", "fuse",
            "9p",
        ],
    },
    Group {
        why: "the character sets vfat and isofs are mounted with",
        names: &["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"],
    },
    Group {
        why: "filesystems rc mounts where the kernel has them",
        names: &["configfs", "efivarfs", "binfmt_misc", "autofs4"],
    },
    Group {
        why: "interfaces a bundle can ask for by type",
        names: &[
            "veth",
            "bridge",
            "br_netfilter",
            "dummy",
            "tun",
            "tap",
            "bonding",
            "macvlan",
            "macvtap",
            "ipvlan",
            "8021q",
            "vxlan",
            "vrf",
            "ifb",
            "wireguard",
        ],
    },
    Group {
        why: "network cards of the clouds and of emulators",
        names: &["ena", "gve", "ixgbevf", "vmxnet3", "e1000", "e1000e", "8139cp"],
    },
    Group {
        why: "vsock, guest and loopback",
        names: &[
            "vsock",
            "vsock_loopback",
            "vmw_vsock_virtio_transport",
            "vmw_vsock_vmci_transport",
            "hv_sock",
        ],
    },
    Group {
        why: "Hyper-V and Azure",
        names: &[
            "hv_vmbus",
            "hv_utils",
            "hv_storvsc",
            "hv_netvsc",
            "hv_balloon",
            "hyperv_keyboard",
            "pci_hyperv",
        ],
    },
    Group {
        why: "Xen and the older AWS instances",
        names: &["xen_blkfront", "xen_netfront", "xen_pcifront", "xenfs"],
    },
    Group {
        why: "talking to the hypervisor: power button, its configuration, its clock, a panic",
        names: &["button", "evdev", "qemu_fw_cfg", "ptp_kvm", "pvpanic_pci", "vmw_balloon"],
    },
    Group { why: "watchdogs, emulated and in software", names: &["i6300esb", "wdat_wdt", "softdog"] },
    Group {
        why: "packet filters that container engines and firewalls set up: iptables",
        names: &[
            "iptable_filter",
            "iptable_nat",
            "iptable_mangle",
            "iptable_raw",
            "ip6table_filter",
            "ip6table_nat",
            "ip6table_mangle",
            "ip6table_raw",
            "ipt_REJECT",
            "ip6t_REJECT",
            "xt_addrtype",
            "xt_comment",
            "xt_conntrack",
            "xt_CHECKSUM",
            "xt_LOG",
            "xt_mark",
            "xt_MASQUERADE",
            "xt_multiport",
            "xt_nat",
            "xt_REDIRECT",
            "xt_set",
            "xt_state",
            "xt_statistic",
            "xt_TCPMSS",
            "xt_tcpudp",
            "ip_set_hash_ip",
            "ip_set_hash_net",
        ],
    },
    Group {
        why: "packet filters: nftables and its compatible iptables",
        names: &[
            "nf_tables",
            "nft_chain_nat",
            "nft_compat",
            "nft_ct",
            "nft_fib_inet",
            "nft_limit",
            "nft_log",
            "nft_masq",
            "nft_nat",
            "nft_redir",
            "nft_reject_inet",
            "nf_conntrack_netlink",
        ],
    },
    Group {
        why: "load balancing between containers",
        names: &["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "xt_ipvs"],
    },
    Group {
        why: "what ss asks the kernel about sockets",
        names: &["inet_diag", "tcp_diag", "udp_diag", "unix_diag", "vsock_diag"],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_module_is_listed_once_and_every_group_has_its_reason() {
        let mut seen = BTreeSet::new();
        for group in WANTED {
            assert!(!group.why.is_empty());
            for name in group.names {
                assert!(seen.insert(*name), "{name} is listed twice");
                assert!(!name.contains('-'), "{name}: the kernel's own names have underscores");
            }
        }
    }
}
