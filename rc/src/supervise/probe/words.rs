// SPDX-License-Identifier: Apache-2.0
//! A command's words, quoted as in a shell; nothing is replaced in them.

/// Splits at blanks. `'...'` and `"..."` keep blanks, a backslash keeps the
/// character behind it (not in `'...'`). `None`: a quotation does not end.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(letters.next()?),
            (letter, Some(mark)) if letter == mark => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (' ' | '\t', None) => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn as_a_shell_would() {
        let words = |text| split(text).unwrap();
        assert_eq!(words("  a  b\tc "), ["a", "b", "c"]);
        assert_eq!(words(r#"a 'b "c"' "d 'e' \" \\" f\ g"#), ["a", r#"b "c""#, r#"d 'e' " \"#, "f g"]);
        assert_eq!(words("a'b'\"c\" ''"), ["abc", ""]);
        assert_eq!(words("'\\'"), ["\\"]);
        assert_eq!(words(""), [""; 0]);
        for bad in ["'", "a \"b", "a\\"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
