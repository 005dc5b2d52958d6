// SPDX-License-Identifier: Apache-2.0
//! A YAML that cannot be used gives one line: the file, the place, what is
//! wrong.
use std::path::Path;
use std::process::Command;

#[test]
fn one_line_names_file_place_and_fault() {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/images.json");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faulty.yml");
    for (yaml, place, fault) in [
        ("kernel: {imag: x}", "kernel", "unknown field `imag`"),
        ("onbot: []", "line 1 column 1", "unknown field `onbot`"),
        (
            "services:\n- name: a\n  image: plain\n  comand: [x]\n",
            "line 4 column 3",
            "unknown field `comand`",
        ),
        (
            "services:\n- name: a\n  image: plain\n  command: x\n",
            "services[0].command",
            "expected a sequence",
        ),
        (
            "services:\n- name: a\n  image: plain\n  readonly: maybe\n",
            "services[0].readonly",
            "expected a boolean",
        ),
        (
            "services:\n- name: a\n  image: plain\n  uid: [1]\n",
            "services[0].uid",
            "expected a number or the name",
        ),
        ("services:\n- name: a\n\timage: plain\n", "line 3 column 1", "tab"),
        ("services: [", "line", "did not find"),
        ("services:\n- image: plain\n", "services[0]", "no name"),
        ("services:\n- name: a/b\n  image: plain\n", "services[0]", "\"a/b\" contains /"),
        ("services:\n- name: ..\n  image: plain\n", "services[0]", "\"..\" is no name"),
        ("onboot:\n- name: a\n", "onboot[0] a", "no image"),
        ("services:\n- {name: a, image: x}\n- {name: a, image: y}\n", "services", "two are called a"),
        (
            "onboot:\n- {name: a, image: gone}\n",
            "onboot[0] a",
            "docker.io/library/gone:latest is not described",
        ),
        ("onboot:\n- {name: a, image: plain, uid: b}\n", "onboot[0] a: uid", "no container is called \"b\""),
        (
            "onboot:\n- {name: a, image: plain, capabilities: [X]}\n",
            "onboot[0] a: capabilities",
            "unknown capability X",
        ),
        (
            "onboot:\n- {name: a, image: plain, binds: [x]}\n",
            "onboot[0] a: binds",
            "\"x\" is not source:destination",
        ),
        (
            "onboot:\n- {name: a, image: plain, binds: ['v:/v']}\n",
            "onboot[0] a",
            "\"v\" is neither a path nor a volume",
        ),
        (
            "onboot:\n- {name: a, image: plain, rlimits: [x]}\n",
            "onboot[0] a: rlimits",
            "\"x\" is not name,soft,hard",
        ),
        (
            "onboot:\n- {name: a, image: plain, devices: [{path: /d}]}\n",
            "onboot[0] a: devices: /d",
            "not an octal number",
        ),
        (
            "onboot:\n- {name: a, image: bad-label}\n",
            "onboot[0] a: label org.mobyproject.config of bad-label",
            "`bind`",
        ),
        ("init: ['@pkg:../init']", "init", "templates"),
        ("volumes: [{name: A}]", "volumes[0]", "bad name \"A\""),
        ("volumes: [{name: a, format: oci}]", "volumes[0]", "\"oci\" is not supported"),
    ] {
        std::fs::write(&file, yaml).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_pkg"))
            .args(["bundles", "--images"])
            .args([&images, &file])
            .output()
            .unwrap();
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && out.stdout.is_empty(), "{yaml:?} was taken");
        assert_eq!(error.lines().count(), 1, "{yaml:?}: {error}");
        for part in ["faulty.yml", place, fault] {
            assert!(error.contains(part), "{yaml:?}: {part:?} is missing in: {error}");
        }
    }
}

#[test]
fn merge_keys_are_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/images.json");
    let file = dir.path().join("merge.yml");
    std::fs::write(&file, "services:\n- &a {name: a, image: plain, hostname: h}\n- {<<: *a, name: b}\n")
        .unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_pkg"))
        .args(["bundles", "--images"])
        .args([&images, &file])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["containers/services/b/config.json"]["hostname"], "h");
}
