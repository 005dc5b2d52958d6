// SPDX-License-Identifier: Apache-2.0
use super::*;

use std::path::Path;

/// What a document asks for, one line a step.
fn steps(document: impl AsRef<[u8]>) -> Vec<String> {
    let show = |step: Result<Node, Refusal>| match step {
        Ok(Node::Dir { path, mode }) => format!("dir {path} {mode:04o}"),
        Ok(Node::File { path, mode, bytes }) => {
            format!("file {path} {mode:04o} {}", String::from_utf8(bytes).unwrap())
        }
        Err(refusal) => refusal.to_string(),
    };
    parse(document.as_ref(), Path::new("/base")).unwrap().into_iter().map(show).collect()
}

fn rejected(document: impl AsRef<[u8]>) -> bool {
    parse(document.as_ref(), Path::new("/base")).is_err()
}

#[test]
fn files_and_directories_in_the_order_of_the_document() {
    let document = r#" {
        "z": {"content": "1", "perm": "0600"},
        "d": {"perm": "0700", "entries": {"b": {"content": "2"}, "e": {"entries": {}}}},
        "a": {"content": ""}
    }
    "#;
    assert_eq!(
        steps(document),
        ["file z 0600 1", "dir d 0700", "file d/b 0644 2", "dir d/e 0755", "file a 0644 "]
    );
}

#[test]
fn what_is_no_object_is_no_tree() {
    for document in ["", "#cloud-config\n", "[]", "\"x\"", "7", "{} x", "{}{}", "{\"a\":", "\u{feff}{}"] {
        assert!(rejected(document), "{document}");
    }
    assert_eq!(steps("null"), [""; 0]);
    assert_eq!(steps("{}"), [""; 0]);
}

#[test]
fn a_wrong_type_anywhere_rejects_the_whole_document() {
    for entry in [
        r#""str""#,
        r#"{"perm":600,"content":""}"#,
        r#"{"content":1}"#,
        r#"{"content":["a"]}"#,
        r#"{"entries":[]}"#,
        r#"{"entries":{"x":true}}"#,
        r#"[]"#,
    ] {
        assert!(rejected(format!(r#"{{"good":{{"content":"x"}},"bad":{entry}}}"#)), "{entry}");
    }
    assert!(rejected("{\"a\":{\"content\":\"raw\ttab\"}}"));
    assert!(rejected(r#"{"a":{"content":"\q"}}"#));
}

#[test]
fn fields_match_in_any_case_and_the_last_counts() {
    assert_eq!(steps(r#"{"a":{"CONTENT":"x","Perm":"600","other":[{"perm":1}]}}"#), ["file a 0600 x"]);
    assert_eq!(steps(r#"{"a":{"content":"x","Content":"y"}}"#), ["file a 0644 y"]);
    assert_eq!(
        steps(r#"{"a":{"content":"1"},"b":{"content":"2"},"a":{"entries":{}}}"#),
        ["file b 0644 2", "dir a 0755"]
    );
    let twice = r#"{"d":{"entries":{"x":{"content":"1"},"y":{"content":"2"}},
                         "entries":{"x":{"content":"3"}}}}"#;
    assert_eq!(steps(twice), ["dir d 0755", "file d/y 0644 2", "file d/x 0644 3"]);
}

#[test]
fn null_is_absent() {
    assert_eq!(steps(r#"{"a":{"content":"x","entries":null,"perm":null}}"#), ["file a 0644 x"]);
    assert_eq!(steps(r#"{"a":{"content":null,"entries":{}}}"#), ["dir a 0755"]);
    let shape = "/base/a is invalid: an entry has either content or entries";
    assert_eq!(steps(r#"{"a":null,"b":{"content":"x"}}"#), [shape, "file b 0644 x"]);
    assert_eq!(steps(r#"{"a":{}}"#), [shape]);
    assert_eq!(steps(r#"{"a":{"content":"","entries":{}}}"#), [shape]);
}

#[test]
fn permissions_are_octal_and_only_permissions() {
    let perm = |perm: &str| steps(format!(r#"{{"a":{{"content":"","perm":"{perm}"}}}}"#)).remove(0);
    assert_eq!(perm("4755"), "file a 0755 ");
    assert_eq!(perm("0"), "file a 0000 ");
    assert_eq!(perm(""), "file a 0644 ");
    assert_eq!(perm("37777777777"), "file a 0777 ");
    for wrong in ["0o600", "999", "+644", " 644", "644 ", "40000000000", "-1", "6_0"] {
        assert_eq!(perm(wrong), format!("/base/a is refused: perm {wrong:?} is not an octal number"));
    }
    let inner = r#"{"d":{"perm":"8","entries":{"x":{"content":""}}},"e":{"content":""}}"#;
    assert_eq!(steps(inner), [r#"/base/d is refused: perm "8" is not an octal number"#, "file e 0644 "]);
}

#[test]
fn what_is_no_text_becomes_the_replacement_character() {
    assert_eq!(
        steps(b"{\"a\":{\"content\":\"x\xe2\x82y\xff\"}}"),
        ["file a 0644 x\u{fffd}\u{fffd}y\u{fffd}"]
    );
    assert_eq!(
        steps(br#"{"a":{"content":"\ud800x\udc00\ud83d\ude00"}}"#),
        ["file a 0644 \u{fffd}x\u{fffd}\u{1f600}"]
    );
    assert_eq!(steps(br#"{"\ud800":{"content":""}}"#), ["file \u{fffd} 0644 "]);
}

#[test]
fn hostile_names_are_refused_one_by_one() {
    let document = r#"{
        "../x": {"content": "1"},
        "a/../../y": {"content": "2"},
        "d": {"entries": {"../../z": {"content": "3"}, "..": {"content": "4"}, "in": {"content": "5"}}},
        "n\u0000l": {"content": "6"},
        "": {"content": "7"},
        "./c": {"content": "8"},
        "/abs": {"entries": {}}
    }"#;
    assert_eq!(
        steps(document),
        [
            r#""../x" is refused: it leads out of the tree"#,
            r#""a/../../y" is refused: it leads out of the tree"#,
            "dir d 0755",
            r#""../../z" is refused: it leads out of the tree"#,
            "/base is invalid: an entry has either content or entries",
            "file d/in 0644 5",
            r#""n\0l" is refused: it holds a NUL byte"#,
            "/base is invalid: an entry has either content or entries",
            "file c 0644 8",
            "dir abs 0755",
        ]
    );
    assert_eq!(steps(r#"{"":{"entries":{"x":{"content":""}}}}"#), ["dir  0755", "file x 0644 "]);
}

#[test]
fn depth_and_number_are_bounded() {
    let deep = |levels| format!("{}{{}}{}", r#"{"d":{"entries":"#.repeat(levels), "}}".repeat(levels));
    assert!(rejected(deep(200)));
    assert_eq!(steps(deep(50)).len(), 50);
    let many: Vec<String> = (0..5000).map(|i| format!(r#""f{i}":{{"content":""}}"#)).collect();
    let steps = steps(format!("{{{}}}", many.join(",")));
    assert_eq!(steps.len(), MAX_NODES + 1);
    assert!(steps[MAX_NODES].starts_with("/base/f4096 and what follows is refused"));
}

/// What a quadratic walk, or a tree of everything in memory, would take
/// minutes and hundreds of megabytes for.
#[test]
fn a_document_made_to_be_slow_is_not() {
    let start = std::time::Instant::now();
    let again: Vec<String> = (0..16_000).map(|i| format!(r#""entries":{{"{i}":null}}"#)).collect();
    assert_eq!(steps(format!(r#"{{"d":{{{}}}}}"#, again.join(","))).len(), MAX_NODES + 1);
    let many: Vec<String> = (0..20_000).map(|i| format!(r#""{i}":null"#)).collect();
    let error = parse(format!("{{{}}}", many.join(",")).as_bytes(), Path::new("/base")).unwrap_err();
    assert!(error.to_string().starts_with("more than 16384 entries at line 1 column "), "{error}");
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn user_data_is_not_quoted() {
    let error = parse(br#"{"a": "my secret"}"#, Path::new("/base")).unwrap_err().to_string();
    assert_eq!(
        error,
        "a value is of the wrong kind, expected an object with content or entries at line 1 column 17"
    );
}
