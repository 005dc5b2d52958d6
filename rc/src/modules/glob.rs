// SPDX-License-Identifier: Apache-2.0
//! The patterns of modules.alias and modprobe.d: fnmatch(3) with no flags, so
//! that `*` and `?` also match `/` and a leading dot.

/// Whether all of `text` matches `pattern`: `*`, `?`, `[set]`, `[!set]` or
/// `[^set]`, and `\` before a byte that is to be taken as it is. A `[` that is
/// never closed is a plain `[`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    matches_bytes(pattern.as_bytes(), text.as_bytes())
}

/// How many bytes of a pattern stand for themselves before the first that
/// does not.
pub(super) fn literal_length(pattern: &str) -> usize {
    pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len())
}

/// Matches as far as the last `*` lets it, and on a mismatch gives that `*`
/// one byte more: an earlier one never has to be tried again, since the last
/// could take over whatever it would skip. At worst pattern times text, and
/// no recursion.
fn matches_bytes(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match rest {
            [b'*', after @ ..] => {
                if after.is_empty() {
                    return true;
                }
                star = Some((after, left));
                rest = after;
                continue;
            }
            [] if left.is_empty() => return true,
            _ => {}
        }
        if let Some((byte, after)) = left.split_first()
            && let Some(next) = match_one(rest, *byte)
        {
            (rest, left) = (next, after);
            continue;
        }
        let Some((after_star, [_, tail @ ..])) = star else { return false };
        star = Some((after_star, tail));
        (rest, left) = (after_star, tail);
    }
}

/// Matches one byte against the head of a pattern; the rest of the pattern if it does.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', set @ ..] => match match_set(set, byte) {
            Some((matched, rest)) => matched.then_some(rest),
            None => (byte == b'[').then_some(set),
        },
        [b'\\', quoted, rest @ ..] | [quoted, rest @ ..] => (*quoted == byte).then_some(rest),
    }
}

/// Matches a byte against the set that follows a `[`: whether it is in the
/// set, and what follows the set. None if the set is not closed.
fn match_set(mut set: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let negated = matches!(set, [b'!' | b'^', ..]);
    if negated {
        set = set.get(1..)?;
    }
    let mut found = false;
    let mut first = true;
    loop {
        set = match set {
            [] => return None,
            // A bracket right at the start is a member of the set.
            [b']', rest @ ..] if !first => return Some((found != negated, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            [b'\\', member, rest @ ..] | [member, rest @ ..] => {
                found |= *member == byte;
                rest
            }
        };
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_of_real_modules() {
        assert!(matches(
            "pci:v00001AF4d*sv*sd*bc*sc*i*",
            "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"
        ));
        assert!(!matches(
            "pci:v00001AF4d*sv*sd*bc*sc*i*",
            "pci:v00008086d00001000sv00001AF4sd00000001bc02sc00i00"
        ));
        assert!(matches(
            "cpu:type:x86,ven*fam*mod*:feature:*0081*",
            "cpu:type:x86,ven0000fam0006mod006B:feature:,0080,0081,0082"
        ));
        assert!(!matches(
            "cpu:type:x86,ven*fam*mod*:feature:*0099*",
            "cpu:type:x86,ven0000fam0006mod006B:feature:,0080,0081,0082"
        ));
        assert!(matches(
            "usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*",
            "usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00"
        ));
        assert!(matches("input:b*v*p*e*-e*1,*2,*k*140,*r*", "input:b0003v0001p0001e0100-e0,1,2,k110,140,ra"));
        assert!(matches("virtio:d00000002v*", "virtio:d00000002v"));
    }

    #[test]
    fn sets_and_quotes() {
        assert!(matches("a[0-9]b", "a5b") && !matches("a[0-9]b", "axb"));
        assert!(matches("[!a-c]", "d") && !matches("[!a-c]", "b") && matches("[^a]", "b"));
        assert!(matches("[]x]", "]") && matches("[]x]", "x") && matches("[a-]", "-"));
        assert!(matches("a[b", "a[b") && !matches("a[b", "ab"));
        assert!(matches(r"\*\?", "*?") && !matches(r"\*", "x"));
        assert!(matches("a*/b", "a/x/b") && matches("", "") && !matches("", "x") && matches("**", ""));
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "a*".repeat(40) + "b";
        assert!(!matches(&pattern, &"a".repeat(5000)));
    }

    /// The definition, word for word, and exponential.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|skip| by_definition(rest, &text[skip..])),
            _ => text.split_first().is_some_and(|(byte, left)| {
                match_one(pattern, *byte).is_some_and(|rest| by_definition(rest, left))
            }),
        }
    }

    proptest! {
        #[test]
        fn the_short_cut_changes_nothing(pattern in "[ab*?]{0,10}", text in "[ab]{0,14}") {
            prop_assert_eq!(matches(&pattern, &text), by_definition(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_pattern_and_text_are_answered(pattern in r"[-a\[\]!^*?\\]{0,12}", text in "[-a!^]{0,12}") {
            matches(&pattern, &text);
            let literal = literal_length(&pattern);
            prop_assert!(!matches(&pattern, &text) || text.starts_with(&pattern[..literal]));
        }
    }
}
