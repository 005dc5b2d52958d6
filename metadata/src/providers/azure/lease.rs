// SPDX-License-Identifier: Apache-2.0
//! DHCP option 245: where Azure's second service is, in the words of several
//! DHCP clients.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Where the clients keep their leases.
pub const DIRECTORIES: &[&str] = &[
    // dhcpcd
    "/var/lib/dhcpcd",
    "/var/db/dhcpcd",
    // dhclient, by Debian's, by Fedora's and by NetworkManager's choice
    "/var/lib/dhcp",
    "/var/lib/dhclient",
    "/var/lib/NetworkManager",
    // systemd-networkd
    "/run/systemd/netif/leases",
    // busybox's udhcpc keeps none: its script may, here (docs/metadata.md)
    "/run/udhcpc",
];

/// Longest lease file that is read, in bytes.
const MAX_LEASE: usize = 64 << 10;
/// Most files of a directory that are looked at.
const MAX_FILES: usize = 64;

/// The address, from the first lease that has one. The last word of a file
/// counts: leases are appended.
pub fn wireserver(directories: &[PathBuf]) -> Option<Ipv4Addr> {
    directories.iter().find_map(|directory| {
        let entries = fs::read_dir(directory).ok()?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().take(MAX_FILES).find_map(|path| {
            let bytes = crate::file::read(path, MAX_LEASE).ok().flatten()?;
            in_packet(&bytes).or_else(|| in_text(&String::from_utf8_lossy(&bytes)))
        })
    })
}

/// dhcpcd keeps the packet itself (RFC 2131): 236 bytes, a magic number, then
/// options as kind, length, value.
pub fn in_packet(packet: &[u8]) -> Option<Ipv4Addr> {
    const FIXED: usize = 236;
    const MAGIC: [u8; 4] = [99, 130, 83, 99];
    let mut rest = packet.get(FIXED..)?.strip_prefix(&MAGIC)?;
    loop {
        match rest {
            [0, tail @ ..] => rest = tail,
            [245, 4, a, b, c, d, ..] => return Some(Ipv4Addr::new(*a, *b, *c, *d)),
            [255, ..] | [] => return None,
            [_, length, tail @ ..] => rest = tail.get(usize::from(*length)..)?,
            [_] => return None,
        }
    }
}

/// `option unknown-245 a8:3f:81:10;` (dhclient), `OPTION_245=a83f8110`
/// (networkd), `opt245=a83f8110` (the environment of udhcpc's script).
pub fn in_text(text: &str) -> Option<Ipv4Addr> {
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        let variable = line.strip_prefix("OPTION_245=").or_else(|| line.strip_prefix("opt245="));
        let value = variable.or_else(|| {
            let words = line.strip_prefix("option ")?;
            words.strip_prefix("unknown-245 ").or_else(|| words.strip_prefix("azureendpoint "))
        })?;
        address(value.trim_end_matches(';').trim())
    })
}

/// Four bytes, in hexadecimal or as an address is written, or quoted as text.
fn address(value: &str) -> Option<Ipv4Addr> {
    if let Ok(address) = value.parse() {
        return Some(address);
    }
    if let Some(text) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        // dhclient writes bytes that happen to be printable as text.
        return <[u8; 4]>::try_from(text.as_bytes()).ok().map(Ipv4Addr::from);
    }
    let digits: Vec<&str> = value.split(':').collect();
    let bytes: Option<Vec<u8>> = match digits.as_slice() {
        [packed] if packed.len() == 8 && packed.is_ascii() => {
            return u32::from_str_radix(packed, 16).ok().map(Ipv4Addr::from);
        }
        parts => parts.iter().map(|part| u8::from_str_radix(part, 16).ok()).collect(),
    };
    <[u8; 4]>::try_from(bytes?).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

    #[test]
    fn in_the_words_of_every_client() {
        let dhclient =
            "lease {\n  option unknown-245 0:0:0:1;\n}\nlease {\n  option unknown-245 a8:3f:81:10;\n}\n";
        assert_eq!(in_text(dhclient), Some(EXPECTED));
        assert_eq!(in_text("ADDRESS=10.0.0.4\nOPTION_245=a83f8110\n"), Some(EXPECTED));
        assert_eq!(in_text("interface=eth0\nopt245=a83f8110\nopt53=05\n"), Some(EXPECTED));
        assert_eq!(in_text("opt245=\n"), None);
        assert_eq!(in_text("  option azureendpoint 168.63.129.16;"), Some(EXPECTED));
        assert_eq!(in_text("option unknown-245 \"abcd\";"), Some(Ipv4Addr::new(97, 98, 99, 100)));
        for wrong in ["", "option unknown-245 a8:3f;", "OPTION_245=xx", "option unknown-245 \"abc\";"] {
            assert_eq!(in_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn in_the_packet_itself() {
        let packet = |options: &[u8]| [&[0; 236][..], &[99, 130, 83, 99], options].concat();
        assert_eq!(in_packet(&packet(&[53, 1, 5, 0, 245, 4, 168, 63, 129, 16, 255])), Some(EXPECTED));
        for wrong in [&[53, 1, 5, 255, 245, 4, 1, 2, 3, 4][..], &[245, 4, 1], &[245, 3, 1, 2, 3], &[53], &[]]
        {
            assert_eq!(in_packet(&packet(wrong)), None, "{wrong:?}");
        }
        assert_eq!(in_packet(b"short"), None);
    }

    #[test]
    fn a_directory_of_leases() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.lease"), "nothing").unwrap();
        fs::write(dir.path().join("eth0.leases"), "option unknown-245 a8:3f:81:10;").unwrap();
        let absent = dir.path().join("absent");
        assert_eq!(wireserver(&[absent, dir.path().to_owned()]), Some(EXPECTED));
    }
}
