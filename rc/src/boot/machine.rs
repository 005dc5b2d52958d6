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

/// Where an image writes its name.
const HOSTNAME: &str = "/etc/hostname";

/// The most bytes that the kernel takes for its name (`__NEW_UTS_LEN`, gethostname(2)).
const LONGEST_NAME: usize = 64;

/// The host name: `/etc/hostname`'s, else what the kernel has, else
/// `linuxkit-` and the hardware address of the first network interface.
pub fn hostname(named: Option<String>, current: &str, address: Option<&str>) -> Option<String> {
    if named.is_some() {
        return named;
    }
    let unset = matches!(current.trim(), "" | "(none)");
    let digits: String = address?.chars().filter(char::is_ascii_hexdigit).collect();
    (unset && !digits.is_empty()).then(|| format!("linuxkit-{digits}"))
}

/// The name in a file: its first line that is no comment. The second value
/// says why a file that is there has none.
fn name_in(file: &Path) -> (Option<String>, Option<String>) {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return (None, None),
        Err(error) => {
            return (None, Some(format!("cannot read {}: {error}; it counts as empty", file.display())));
        }
    };
    match text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')) {
        Some(name) if name.len() > LONGEST_NAME => {
            let (file, length) = (file.display(), name.len());
            let problem = format!(
                "the name in {file} has {length} bytes, and a host name {LONGEST_NAME} at most; it counts as empty"
            );
            (None, Some(problem))
        }
        name => (name.map(str::to_owned), None),
    }
}

/// Reads what [`hostname`] decides by. The second value is what is wrong with
/// `/etc/hostname`.
pub fn wanted_hostname() -> (Option<String>, Option<String>) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (named, problem) = name_in(Path::new(HOSTNAME));
    let address = read("/sys/class/net/eth0/address");
    let address = Some(address.trim()).filter(|text| !text.is_empty());
    (hostname(named, &read("/proc/sys/kernel/hostname"), address), problem)
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
        assert_eq!(hostname(Some("box".to_owned()), "(none)", mac), Some("box".to_owned()));
        assert_eq!(hostname(None, "(none)\n", mac), Some("linuxkit-525400123456".to_owned()));
        assert_eq!(hostname(None, "given", mac), None);
        assert_eq!(hostname(None, "(none)", None), None);
        assert_eq!(hostname(None, "", Some("")), None);
    }

    #[test]
    fn a_file_without_a_usable_name_says_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = |text: &[u8]| {
            fs::write(file.path(), text).unwrap();
            name_in(file.path())
        };
        assert_eq!(name(b"# comment\n\n box \nother\n"), (Some("box".to_owned()), None));
        assert_eq!(name(b"\n"), (None, None));
        let longest = "x".repeat(LONGEST_NAME);
        assert_eq!(name(longest.as_bytes()), (Some(longest.clone()), None));
        // The kernel would refuse it, and the machine stay "(none)".
        let (none, problem) = name(format!("{longest}y").as_bytes());
        assert!(none.is_none() && problem.unwrap().contains("has 65 bytes"));
        let (none, problem) = name(b"\xff\n");
        assert!(none.is_none() && problem.unwrap().contains("UTF-8"));
        assert_eq!(name_in(Path::new("/nonexistent/x")), (None, None));
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
