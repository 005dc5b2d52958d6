// SPDX-License-Identifier: Apache-2.0
//! Settings of the machine: limits, clock, loopback, name, resolver.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use init::action::{Action, Kernel, Limit};
use init::console::Console;
use init::sys::clock;
use init::{debug, error, warning};

/// Open files of every process: containers inherit it.
const OPEN_FILES: u64 = 1_048_576;

/// Sets what needs no device: limits.
pub fn limits() -> [Action; 2] {
    [
        Action::SetLimit { limit: Limit::OpenFiles, value: Some(OPEN_FILES) },
        Action::SetLimit { limit: Limit::Processes, value: None },
    ]
}

/// The host name: `/etc/hostname`, else what the kernel has, else
/// `linuxkit-` and the hardware address of the first network interface.
pub fn hostname(etc: &str, current: &str, address: Option<&str>) -> Option<String> {
    let wanted = etc.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    if let Some(name) = wanted {
        return Some(name.to_owned());
    }
    let unset = matches!(current.trim(), "" | "(none)");
    let digits: String = address?.chars().filter(char::is_ascii_hexdigit).collect();
    (unset && !digits.is_empty()).then(|| format!("linuxkit-{digits}"))
}

/// Where an image writes its name.
const HOSTNAME: &str = "/etc/hostname";

/// Reads what [`hostname`] decides by. The second value is for a file that is
/// there and cannot be read.
pub fn wanted_hostname() -> (Option<String>, Option<String>) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (etc, problem) = match fs::read_to_string(HOSTNAME) {
        Ok(text) => (text, None),
        Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), None),
        Err(error) => (String::new(), Some(format!("cannot read {HOSTNAME}: {error}; it counts as empty"))),
    };
    let address = read("/sys/class/net/eth0/address");
    let address = Some(address.trim()).filter(|text| !text.is_empty());
    (hostname(&etc, &read("/proc/sys/kernel/hostname"), address), problem)
}

/// Sets the host name.
pub fn set_hostname(kernel: &dyn Kernel, console: &Console) {
    let (name, problem) = wanted_hostname();
    if let Some(problem) = problem {
        warning!(console, "hostname: {problem}");
    }
    let Some(name) = name else { return };
    match kernel.apply(&Action::SetHostname(name.clone())) {
        Ok(()) => debug!(console, "hostname: {name}"),
        Err(error) => error!(console, "hostname: cannot set {name:?}: {error}; the old name stays"),
    }
}

/// The system clock from the first hardware clock there is, in UTC. A machine
/// without one keeps the kernel's time.
pub fn set_clock(console: &Console) {
    let devices = ["/dev/rtc0", "/dev/rtc", "/dev/misc/rtc"];
    let Some(device) = devices.iter().map(Path::new).find(|path| path.exists()) else {
        debug!(console, "clock: no hardware clock");
        return;
    };
    match clock::set_from_rtc(device) {
        Ok(seconds) => debug!(console, "clock: {seconds} by {}", device.display()),
        Err(error) => warning!(
            console,
            "clock: cannot set it from {}: {error}; the kernel's time stays",
            device.display()
        ),
    }
}

/// A `/etc/resolv.conf` that is a link gets a target, so that a container can
/// bind it and a DHCP client can write it. One with content keeps it.
///
/// # Errors
/// Those of reading the link and making the file, with the path.
pub fn resolver(link: &Path) -> Result<(), (PathBuf, io::Error)> {
    let target = match fs::read_link(link) {
        Ok(target) => link.parent().unwrap_or(Path::new("/")).join(target),
        // A plain file, or none: nothing to do (readlink(2) says EINVAL).
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => return Ok(()),
        Err(error) => return Err((link.to_path_buf(), error)),
    };
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(|error| (folder.to_path_buf(), error))?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(&target) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err((target, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_machine() {
        let mac = Some("52:54:00:12:34:56");
        assert_eq!(hostname("# comment\n\n box \n", "(none)", mac), Some("box".to_owned()));
        assert_eq!(hostname("", "(none)\n", mac), Some("linuxkit-525400123456".to_owned()));
        assert_eq!(hostname("", "given", mac), None);
        assert_eq!(hostname("", "(none)", None), None);
        assert_eq!(hostname("", "", Some("")), None);
    }

    #[test]
    fn a_resolver_with_content_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("resolv.conf"), dir.path().join("run/resolv.conf"));
        assert!(resolver(&link).is_ok(), "no file is fine");
        std::os::unix::fs::symlink("run/resolv.conf", &link).unwrap();
        resolver(&link).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "");
        fs::write(&target, "nameserver 127.0.0.1\n").unwrap();
        resolver(&link).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "nameserver 127.0.0.1\n");
    }
}
