// SPDX-License-Identifier: Apache-2.0
//! `pkg bundles` against what `linuxkit build` wrote for the same YAML, and
//! against cases of our own.
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Runs the program; its answer, or its one line of error.
fn bundles(images: &Path, yaml: &Path) -> Result<Value, String> {
    let out = Command::new(env!("CARGO_BIN_EXE_pkg"))
        .arg("bundles")
        .arg("--images")
        .args([images, yaml])
        .output()
        .unwrap();
    if out.status.success() {
        return Ok(serde_json::from_slice(&out.stdout).unwrap());
    }
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "an error is one line: {error}");
    Err(error.trim_end().into())
}

/// Where two values differ, one line a place.
fn diff(path: &str, want: &Value, got: &Value, lines: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(w), Value::Object(g)) => {
            for key in w.keys().chain(g.keys().filter(|k| !w.contains_key(*k))) {
                let place = format!("{path} > {key}");
                match (w.get(key), g.get(key)) {
                    (Some(w), Some(g)) => diff(&place, w, g, lines),
                    (Some(w), None) => lines.push(format!("{place}: missing, should be {w}")),
                    (None, g) => {
                        lines.push(format!("{place}: should not be there: {}", g.unwrap_or(&Value::Null)))
                    }
                }
            }
        }
        (Value::Array(w), Value::Array(g)) if w.len() == g.len() => {
            for (i, (w, g)) in w.iter().zip(g).enumerate() {
                diff(&format!("{path}[{i}]"), w, g, lines);
            }
        }
        (w, g) if w != g => lines.push(format!("{path}: is {g}, should be {w}")),
        _ => {}
    }
}

fn compare(name: &str, images: &Path, yaml: &Path, want: &Path) -> Vec<String> {
    let want = serde_json::from_slice(&std::fs::read(want).unwrap()).unwrap();
    let mut lines = Vec::new();
    match bundles(images, yaml) {
        Ok(got) => diff(name, &want, &got, &mut lines),
        Err(error) => lines.push(format!("{name}: {error}")),
    }
    lines
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    all.sort();
    all
}

fn compare_all(images: &Path, cases: &[PathBuf]) {
    let mut lines = Vec::new();
    for case in cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        lines.extend(compare(name, images, &case.join("image.yml"), &case.join("bundles.json")));
    }
    assert!(lines.is_empty(), "{} differences:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn equal_to_linuxkit_build() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/bundles");
    if !golden.is_dir() {
        // Past the test harness's capture: this must be seen.
        let note = "\n*** LEFT OUT: ../shared/bundles is not here, so nothing was compared with linuxkit build ***\n";
        std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes()).unwrap();
        return;
    }
    let cases = folders(&golden);
    assert_eq!(cases.len(), 34);
    compare_all(&golden.join("images.json"), &cases);
}

#[test]
fn equal_to_cases_worked_out_by_hand() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let cases = folders(&dir);
    assert!(!cases.is_empty());
    compare_all(&dir.join("images.json"), &cases);
}
