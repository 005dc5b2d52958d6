// SPDX-License-Identifier: Apache-2.0
//! A boot that was recorded, shown in each way. `LKINIT_BLESS=1` writes what
//! is shown to the files it is compared with: look at them then.

use std::path::Path;

use super::rows::View;
use super::tests::span;
use super::*;

const RECORDED: &str = include_str!("../../tests/data/boot.timeline");

fn compare(shown: &str, path: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("LKINIT_BLESS").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == expected,
        "{} is not what is shown (LKINIT_BLESS=1 writes it):\n{shown}",
        path.display()
    );
}

#[test]
fn the_recorded_boot_as_a_table() {
    let spans = parse(RECORDED);
    let table = table::table(&View::new(&spans, 100_000_000));
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    compare(&table, "tests/data/boot.table");
}

#[test]
fn the_recorded_boot_as_json() {
    let spans = parse(RECORDED);
    let json = table::json(&View::new(&spans, 100_000_000));
    let path = json["critical"].as_array().unwrap();
    assert!(path.windows(2).all(|two| two[0]["to"].as_f64() <= two[1]["from"].as_f64()), "{path:?}");
    // Not as text: whether a JSON object keeps its order hangs on what else is
    // built with this.
    let shown = format!("{json:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/boot.json");
    if std::env::var_os("LKINIT_BLESS").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    let expected: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert!(json == expected, "{} is not what is shown (LKINIT_BLESS=1 writes it):\n{shown}", path.display());
}

/// The chart in the documentation is the one that the program draws.
#[test]
fn the_recorded_boot_as_a_chart() {
    let spans = parse(RECORDED);
    compare(&chart::chart(&View::new(&spans, 100_000_000)), "../docs/boot-chart.svg");
}

#[test]
fn a_boot_that_hangs_is_shown_too() {
    let mut hangs = span("onboot 001-<dhcp>/run", 400, 0, &["onboot 000-a/run"]);
    hangs.end = None;
    let mut failed = span("onboot 000-a/run", 200, 400, &["boot/mounts"]);
    failed.failed = Some("exit status 1 & more".to_owned());
    let spans = [span("boot/mounts", 100, 200, &[]), failed, hangs];
    let view = View::new(&spans, 9_000_000);
    let table = table::table(&view);
    assert!(table.starts_with("The boot is not done, 9.000 s after the kernel's start."), "{table}");
    assert!(table.contains("under way") && table.contains("failed: exit status 1 & more"), "{table}");
    let chart = chart::chart(&view);
    assert!(chart.contains("Boot: not done after 9.00 s"), "{chart}");
    assert!(chart.contains("001-&lt;dhcp&gt;") && chart.contains("exit status 1 &amp; more"), "{chart}");
    assert!(chart.contains(", under way") && !chart.contains("<dhcp>"), "{chart}");
    let nothing = View::new(&[], 5);
    assert!(chart::chart(&nothing).ends_with("</svg>\n") && !table::table(&nothing).is_empty());
}
