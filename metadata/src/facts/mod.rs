// SPDX-License-Identifier: Apache-2.0
//! What can be known about this machine without sending a packet.
//!
//! [`Facts`] is plain data; [`crate::identify`] draws the conclusions from it.

pub mod dmi;
pub mod media;

use std::fs;
use std::path::{Path, PathBuf};

use init::cmdline::Cmdline;

use crate::errors::FactsError;
use dmi::Dmi;
use media::Medium;

/// Where the kernel shows things; other places in tests.
#[derive(Debug, Clone)]
pub struct Roots {
    /// sysfs(5).
    pub sysfs: PathBuf,
    /// The kernel command line.
    pub cmdline: PathBuf,
    /// The devices.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sysfs: PathBuf::from("/sys"),
            cmdline: PathBuf::from("/proc/cmdline"),
            dev: PathBuf::from("/dev"),
        }
    }
}

/// Everything the identification looks at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// SMBIOS fields; `None` where the machine has no SMBIOS tables.
    pub dmi: Option<Dmi>,
    /// `/sys/hypervisor/uuid`: Xen guests have it.
    pub hypervisor_uuid: Option<String>,
    /// What CPUID leaf 0x40000000 says: `KVMKVMKVM`, `VMwareVMware`.
    pub hypervisor: Option<String>,
    /// The kernel command line.
    pub cmdline: Cmdline,
    /// What a container manager told us about itself (`container` in the
    /// environment): SMBIOS then describes a machine that is not ours.
    pub container: Option<String>,
    /// Files an image or an earlier program left for identification, of
    /// [`MARKERS`].
    pub markers: Vec<&'static str>,
    /// The environment of PID 1 says `product_name=OpenStack Nova`: how
    /// OpenStack marks its containers.
    pub openstack_container: bool,
    /// Filesystems with a label and disks in optical drives. `None` as long
    /// as nobody looked.
    pub media: Option<Vec<Medium>>,
}

/// Files whose being there names a provider.
pub const MARKERS: &[&str] = &["/etc/vultr", "/var/run/scaleway"];

impl Facts {
    /// Looks at everything but the media, which cost reads from devices:
    /// see [`Facts::look_at_media`]. What is not there is left out.
    ///
    /// # Errors
    /// The command line cannot be read: the caller goes on without one.
    pub fn collect(roots: &Roots) -> (Self, Option<FactsError>) {
        let (cmdline, error) = match Cmdline::read(&roots.cmdline) {
            Ok(cmdline) => (cmdline, None),
            Err(source) => {
                (Cmdline::default(), Some(FactsError::Read { path: roots.cmdline.clone(), source }))
            }
        };
        let environment = fs::read("/proc/1/environ").unwrap_or_default();
        let facts = Self {
            dmi: Dmi::read(&roots.sysfs.join("class/dmi/id")),
            hypervisor_uuid: line(&roots.sysfs.join("hypervisor/uuid")),
            hypervisor: init::sys::cpu::hypervisor(),
            cmdline,
            container: container(&environment),
            markers: MARKERS.iter().copied().filter(|path| Path::new(path).exists()).collect(),
            openstack_container: variables(&environment)
                .any(|(k, v)| k == "product_name" && v == "OpenStack Nova"),
            media: None,
        };
        (facts, error)
    }

    /// The SMBIOS fields, if they are this machine's own: a container sees
    /// those of the machine it runs on.
    pub fn dmi(&self) -> Option<&Dmi> {
        self.dmi.as_ref().filter(|_| self.container.is_none())
    }

    /// What is known of disks.
    pub fn media(&self) -> &[Medium] {
        self.media.as_deref().unwrap_or_default()
    }

    /// Looks for labelled filesystems and at what is in optical drives.
    pub fn look_at_media(&mut self, roots: &Roots) -> &[Medium] {
        self.media.insert(media::scan(&roots.sysfs.join("class/block"), &roots.dev))
    }
}

/// The first line of a small file, without white space at its end; `None` if
/// it cannot be read or is empty.
fn line(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

fn container(environment: &[u8]) -> Option<String> {
    std::env::var("container")
        .ok()
        .or_else(|| variables(environment).find(|(k, _)| k == "container").map(|(_, v)| v))
        .filter(|name| !name.is_empty())
}

/// The variables of a `/proc/PID/environ`.
fn variables(environment: &[u8]) -> impl Iterator<Item = (String, String)> {
    environment.split(|byte| *byte == 0).filter_map(|variable| {
        let text = String::from_utf8_lossy(variable);
        text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
    })
}
