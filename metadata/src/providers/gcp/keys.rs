// SPDX-License-Identifier: Apache-2.0
//! Whose SSH keys count on Compute Engine, and until when.
//!
//! Source: "Add SSH keys to VMs" and the guest agent's rules for `sshKeys`,
//! `ssh-keys` and `block-project-ssh-keys`.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::Attributes;

/// The keys for this instance. The old attribute of the instance replaces the
/// project's keys; the new one stands beside them unless they are blocked.
pub(super) fn all(instance: &Attributes, project: &Attributes, now: SystemTime) -> Vec<String> {
    let blocked =
        instance.get("block-project-ssh-keys").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let texts: Vec<&String> = match (instance.get("sshKeys"), blocked) {
        (Some(old), _) => [Some(old), instance.get("ssh-keys")].into_iter().flatten().collect(),
        (None, true) => instance.get("ssh-keys").into_iter().collect(),
        (None, false) => [instance.get("ssh-keys"), project.get("sshKeys"), project.get("ssh-keys")]
            .into_iter()
            .flatten()
            .collect(),
    };
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter_map(key).filter(|key| !has_expired(key, now)).map(str::to_owned).collect()
}

/// The key of a `USER:KEY` line.
fn key(line: &str) -> Option<&str> {
    line.trim().split_once(':').map(|(_, key)| key.trim()).filter(|key| !key.is_empty())
}

/// Google's own clients end the line with `google-ssh` and a document that
/// says until when the key is good. A key with another comment is good.
fn has_expired(key: &str, now: SystemTime) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Comment {
        expire_on: String,
    }
    let Some((_, comment)) = key.split_once(" google-ssh ") else { return false };
    let Ok(comment) = serde_json::from_str::<Comment>(comment.trim()) else { return false };
    timestamp(&comment.expire_on).is_some_and(|end| now > end)
}

/// `2018-12-04T20:12:00+0000`, with or without a colon in the offset.
fn timestamp(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once('T')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
    let mut date = date.split('-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let clock = rest.get(..8)?;
    let mut parts = clock.split(':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let offset = match rest.get(8..)?.replace(':', "").as_str() {
        "Z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let digits = zone.strip_prefix(['+', '-']).filter(|digits| digits.len() == 4)?;
            sign * (number(digits.get(..2)?)? * 3600 + number(digits.get(2..)?)? * 60)
        }
    };
    let bounds = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let seconds =
        crate::time::days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let since = Duration::from_secs(u64::try_from(seconds).ok().filter(|_| bounds)?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        let seconds =
            |text| timestamp(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("2018-12-04T20:12:00+0000"), Some(1_543_954_320));
        assert_eq!(seconds("2018-12-04T20:12:00Z"), Some(1_543_954_320));
        assert_eq!(seconds("2018-12-04T21:12:00+01:00"), Some(1_543_954_320));
        for wrong in ["", "2018-12-04", "2018-12-04T20:12:00", "2018-13-04T20:12:00Z", "x-12-04T20:12:00Z"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn whose_keys_count() {
        let now = SystemTime::UNIX_EPOCH;
        let project = attributes(&[("sshKeys", "a:k1 x"), ("ssh-keys", "b:k2 x\nnonsense\nc:k3 x")]);
        let own = attributes(&[("ssh-keys", "d:k4 x")]);
        assert_eq!(all(&own, &project, now), ["k4 x", "k1 x", "k2 x", "k3 x"]);
        let blocked = attributes(&[("ssh-keys", "d:k4 x"), ("block-project-ssh-keys", "TRUE")]);
        assert_eq!(all(&blocked, &project, now), ["k4 x"]);
        let old = attributes(&[("ssh-keys", "d:k4 x"), ("sshKeys", "e:k5 x")]);
        assert_eq!(all(&old, &project, now), ["k5 x", "k4 x"]);
    }

    #[test]
    fn keys_expire() {
        let line = r#"u:ssh-rsa AAAA google-ssh {"userName":"u@x","expireOn":"2018-12-04T20:12:00+0000"}"#;
        let own = attributes(&[("ssh-keys", line)]);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_543_954_320);
        assert_eq!(all(&own, &Attributes::new(), end).len(), 1);
        assert_eq!(all(&own, &Attributes::new(), end + Duration::from_secs(1)).len(), 0);
        let other = attributes(&[("ssh-keys", "u:ssh-rsa AAAA google-ssh {broken")]);
        assert_eq!(all(&other, &Attributes::new(), end + Duration::from_secs(1)).len(), 1);
    }
}
