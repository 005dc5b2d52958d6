// SPDX-License-Identifier: Apache-2.0
//! The file `authorized_keys` of sshd(8): one public key a line.

/// Most keys one machine gets.
pub const MAX_KEYS: usize = 256;

/// One line a key, each ended by a line break. Empty lines, comments, lines
/// with control characters and repeated keys are left out; types of keys this
/// program has never heard of are not. `None` if no key is left. How many
/// there are beyond [`MAX_KEYS`], which are left out, is the second.
pub fn authorized_keys<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> (Option<Vec<u8>>, usize) {
    let mut keys: Vec<String> = Vec::new();
    let mut more = 0;
    for text in texts {
        for line in text.as_ref().lines() {
            let line = line.trim();
            let comment = line.is_empty() || line.starts_with('#');
            // A key is a type and its data at least.
            let shaped = line.split_whitespace().nth(1).is_some();
            let printable = !line.chars().any(|c| c.is_control() && c != '\t');
            if comment || !shaped || !printable || keys.iter().any(|key| key == line) {
                continue;
            }
            if keys.len() < MAX_KEYS {
                keys.push(line.to_owned());
            } else {
                more += 1;
            }
        }
    }
    ((!keys.is_empty()).then(|| (keys.join("\n") + "\n").into_bytes()), more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_key() {
        let texts = ["ssh-rsa AAAA a@b\r\n\n", "# x\nsk-new@example BBBB", "ssh-rsa AAAA a@b"];
        let (keys, _) = authorized_keys(texts);
        assert_eq!(keys.unwrap(), b"ssh-rsa AAAA a@b\nsk-new@example BBBB\n");
    }

    #[test]
    fn what_is_no_key_is_left_out() {
        assert_eq!(authorized_keys(["", "\n", "#c", "ssh-rsa", "ssh-rsa AA\x1b[2J x"]), (None, 0));
        assert_eq!(authorized_keys::<&str>([]), (None, 0));
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let (keys, more) = authorized_keys((0..300).map(|at| format!("ssh-rsa AAAA {at}")));
        let keys = String::from_utf8(keys.unwrap()).unwrap();
        assert_eq!((keys.lines().count(), more), (MAX_KEYS, 44));
    }
}
