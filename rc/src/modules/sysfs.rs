// SPDX-License-Identifier: Apache-2.0
//! The devices of sysfs: what they match, and how the kernel is made to speak
//! of them again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

/// The buses that lead to disks, networks and further devices, in the order in
/// which they are read: their modules are begun first, the others fill the
/// gaps.
const FIRST: [&str; 6] = ["pci", "virtio", "vmbus", "xen", "platform", "acpi"];

/// Every different modalias under `SYS/bus/*/devices/*`.
pub(super) fn modaliases(sys: &Path) -> Vec<String> {
    let mut buses: Vec<_> = entries(&sys.join("bus")).collect();
    buses.sort_by_key(|bus| FIRST.iter().position(|first| bus.as_os_str() == *first).unwrap_or(FIRST.len()));
    let mut page = [0; 4096];
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for bus in buses {
        let devices = sys.join("bus").join(bus).join("devices");
        for device in entries(&devices) {
            // A file of sysfs comes whole with one read(2), a page at most.
            let file = File::open(devices.join(device).join("modalias"));
            let Ok(length) = file.and_then(|mut file| file.read(&mut page)) else { continue };
            let text = String::from_utf8_lossy(page.get(..length).unwrap_or_default());
            let modalias = text.trim_end();
            if !modalias.is_empty() && seen.insert(modalias.to_owned()) {
                found.push(modalias.to_owned());
            }
        }
    }
    found
}

/// The module whose driver brought a device up: that of the nearest device
/// above it that has one. For each device under `SYS/bus/*/devices/*`, its
/// modalias and that module.
pub(super) fn brought_up_by(sys: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for bus in entries(&sys.join("bus")) {
        let devices = sys.join("bus").join(bus).join("devices");
        for device in entries(&devices) {
            let Ok(device) = fs::canonicalize(devices.join(device)) else { continue };
            let Ok(modalias) = fs::read_to_string(device.join("modalias")) else { continue };
            let above = device.ancestors().skip(1).take_while(|above| above.starts_with(sys));
            let module = above.into_iter().find_map(|above| fs::read_link(above.join("driver/module")).ok());
            if let Some(name) = module.as_deref().and_then(Path::file_name) {
                found.push((modalias.trim_end().to_owned(), name.to_string_lossy().into_owned()));
            }
        }
    }
    found
}

/// Has the kernel send an "add" for every device there is, for those who came
/// too late for the first one (Documentation/ABI/testing/sysfs-uevent). A
/// device that goes meanwhile is none.
pub(super) fn trigger(sys: &Path) {
    trigger_below(&sys.join("devices"));
}

fn trigger_below(directory: &Path) {
    if let Ok(mut file) = fs::OpenOptions::new().write(true).open(directory.join("uevent")) {
        let _ = file.write_all(b"add");
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    // Symbolic links lead to devices that have a place of their own.
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        trigger_below(&entry.path());
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = std::ffi::OsString> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::testing::Tree;

    #[test]
    fn modaliases_of_every_bus_once_and_the_important_ones_first() {
        let tree = Tree::new();
        tree.write("sys/bus/cpu/devices/cpu0/modalias", "cpu:type:x86\n");
        tree.write("sys/bus/cpu/devices/cpu1/modalias", "cpu:type:x86\n");
        tree.write("sys/bus/pci/devices/0000:00:03.0/modalias", "pci:v1\n");
        tree.write("sys/bus/pci/devices/0000:00:04.0/uevent", "");
        tree.write("sys/bus/platform/devices/empty/modalias", "\n");
        std::fs::create_dir_all(tree.path().join("sys/bus/usb")).unwrap();
        assert_eq!(modaliases(&tree.path().join("sys")), ["pci:v1", "cpu:type:x86"]);
        assert!(modaliases(&tree.path().join("nothing")).is_empty());
    }

    #[test]
    fn a_device_is_brought_up_by_what_drives_the_one_above() {
        let tree = Tree::new();
        let link = |target: &str, path: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(tree.path().join(target), path).unwrap();
        };
        tree.write("sys/devices/pci0/03.0/modalias", "pci:v1\n");
        tree.write("sys/devices/pci0/03.0/group/virtio0/modalias", "virtio:d2\n");
        tree.write("sys/module/virtio_pci/refcnt", "0");
        link("sys/module/virtio_pci", "sys/bus/pci/drivers/virtio-pci/module");
        link("sys/bus/pci/drivers/virtio-pci", "sys/devices/pci0/03.0/driver");
        link("sys/devices/pci0/03.0", "sys/bus/pci/devices/03.0");
        link("sys/devices/pci0/03.0/group/virtio0", "sys/bus/virtio/devices/virtio0");
        let sys = tree.path().canonicalize().unwrap().join("sys");
        assert_eq!(brought_up_by(&sys), [("virtio:d2".to_owned(), "virtio_pci".to_owned())]);
    }

    #[test]
    fn every_device_is_spoken_of_and_links_are_not_followed() {
        let tree = Tree::new();
        tree.write("sys/devices/pci0/uevent", "");
        tree.write("sys/devices/pci0/dev/virtio0/uevent", "");
        tree.write("sys/devices/pci0/plain", "");
        tree.write("sys/class/net/eth0/uevent", "");
        std::os::unix::fs::symlink("../../class", tree.path().join("sys/devices/link")).unwrap();
        trigger(&tree.path().join("sys"));
        let text = |path: &str| std::fs::read_to_string(tree.path().join("sys").join(path)).unwrap();
        assert_eq!(text("devices/pci0/uevent"), "add");
        assert_eq!(text("devices/pci0/dev/virtio0/uevent"), "add");
        assert_eq!(text("class/net/eth0/uevent"), "");
    }
}
