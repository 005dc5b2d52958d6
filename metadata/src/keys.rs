// SPDX-License-Identifier: Apache-2.0
//! The file `authorized_keys` of sshd(8): one public key a line.

/// Most keys one machine gets.
const MAX_KEYS: usize = 256;

/// One line a key, each ended by a line break. Empty lines, comments, lines
/// with control characters and repeated keys are left out; types of keys this
/// program has never heard of are not. `None` if no key is left.
pub fn authorized_keys<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Option<Vec<u8>> {
    let mut keys: Vec<String> = Vec::new();
    for text in texts {
        for line in text.as_ref().lines() {
            let line = line.trim();
            let comment = line.is_empty() || line.starts_with('#');
            // A key is a type and its data at least.
            let shaped = line.split_whitespace().nth(1).is_some();
            let printable = !line.chars().any(|c| c.is_control() && c != '\t');
            if !comment && shaped && printable && keys.len() < MAX_KEYS && !keys.iter().any(|key| key == line)
            {
                keys.push(line.to_owned());
            }
        }
    }
    (!keys.is_empty()).then(|| (keys.join("\n") + "\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_key() {
        let keys =
            authorized_keys(["ssh-rsa AAAA a@b\r\n\n", "# x\nsk-new@example BBBB", "ssh-rsa AAAA a@b"]);
        assert_eq!(keys.unwrap(), b"ssh-rsa AAAA a@b\nsk-new@example BBBB\n");
    }

    #[test]
    fn what_is_no_key_is_left_out() {
        assert_eq!(authorized_keys(["", "\n", "#c", "ssh-rsa", "ssh-rsa AA\x1b[2J x"]), None);
        assert_eq!(authorized_keys::<&str>([]), None);
    }
}
