// SPDX-License-Identifier: Apache-2.0
//! From what a provider calls this machine to what the kernel will take.

/// The longest name of sethostname(2) (`__NEW_UTS_LEN` of `<linux/utsname.h>`).
const KERNEL_MAX: usize = 64;
/// The longest label and name of the DNS (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;

/// Why a name is not given to the kernel. The file keeps it as it was served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Nothing, or nothing but white space.
    #[error("it is empty")]
    Empty,
    /// A label that is empty, longer than 63 bytes, or has other characters
    /// than letters, digits, `_` and inner `-`.
    #[error("{0:?} is not a host name's label")]
    Label(String),
    /// More than 253 bytes.
    #[error("it is longer than {NAME_MAX} bytes")]
    TooLong,
}

/// The kernel's name for what was served: white space after it and one final
/// dot are dropped, and of a name the kernel has no room for, the first label
/// is left.
///
/// # Errors
/// [`HostnameError`]: it is not a host name (RFC 1123, 2.1; `_` is let
/// through because machines are named so).
pub fn kernel_name(served: &[u8]) -> Result<String, HostnameError> {
    let text = String::from_utf8_lossy(served);
    let name = first_of_several(text.trim_end());
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(HostnameError::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(HostnameError::TooLong);
    }
    if let Some(label) = name.split('.').find(|label| !is_label(label)) {
        return Err(HostnameError::Label(label.chars().take(LABEL_MAX).collect()));
    }
    let first = name.split('.').next().unwrap_or(name);
    Ok(if name.len() > KERNEL_MAX { first } else { name }.to_owned())
}

/// EC2 gives a name in each domain of the network, `host.one.example two.example`,
/// where it has several: the first is the machine's. Words that are not all
/// names, or of which the first has no domain, are a sentence.
fn first_of_several(text: &str) -> &str {
    let is_name = |word: &str| word.split('.').all(is_label);
    match text.split_once(' ') {
        Some((first, _)) if first.contains('.') && text.split(' ').all(is_name) => first,
        _ => text,
    }
}

fn is_label(label: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(known)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_at_their_end() {
        assert_eq!(kernel_name(b"host\n").unwrap(), "host");
        assert_eq!(kernel_name(b"ip-10-0-0-1.ec2.internal. \r\n").unwrap(), "ip-10-0-0-1.ec2.internal");
        assert_eq!(kernel_name(b"my_host").unwrap(), "my_host");
    }

    #[test]
    fn the_first_of_several_domains() {
        assert_eq!(kernel_name(b"ip-10-0-0-1.one.example two.example").unwrap(), "ip-10-0-0-1.one.example");
        for sentence in ["not found", "see example.com", "example.com is down!", "a.b  c"] {
            assert!(kernel_name(sentence.as_bytes()).is_err(), "{sentence}");
        }
    }

    #[test]
    fn a_name_too_long_for_the_kernel_loses_its_domain() {
        let host = "gke-pool-with-a-rather-long-name-4711";
        let served = format!("{host}.europe-west1-b.c.some-project.internal");
        assert!(served.len() > KERNEL_MAX);
        assert_eq!(kernel_name(served.as_bytes()).unwrap(), host);
        let exact = format!("{}.{}", "a".repeat(40), "b".repeat(23));
        assert_eq!(kernel_name(exact.as_bytes()).unwrap(), exact);
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        assert_eq!(kernel_name(b" \n"), Err(HostnameError::Empty));
        assert_eq!(kernel_name(b"."), Err(HostnameError::Empty));
        for name in ["-a", "a-", "a..b", " a", "a b", "<html>", "h\u{f6}st", "a\0b"] {
            assert!(matches!(kernel_name(name.as_bytes()), Err(HostnameError::Label(_))), "{name:?}");
        }
        assert!(kernel_name("a".repeat(64).as_bytes()).is_err());
        assert_eq!(kernel_name("a.".repeat(130).as_bytes()), Err(HostnameError::TooLong));
    }
}
