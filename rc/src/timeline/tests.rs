// SPDX-License-Identifier: Apache-2.0
use super::path::critical;
use super::*;

/// A step from its id, its times in milliseconds, and what it waited for.
pub(super) fn span(id: &str, start: u64, end: u64, after: &[&str]) -> Span {
    let (lane, name) = id.split_once('/').unwrap();
    let mut span = Span::over(lane, name, Duration::from_millis(start), Duration::from_millis(end));
    span.after = after.iter().map(|id| (*id).to_owned()).collect();
    span
}

fn path(spans: &[Span]) -> Vec<(String, u64, u64)> {
    let pieces = critical(spans, 100_000_000);
    pieces.iter().map(|p| (spans[p.span].id(), p.from / 1000, p.to / 1000)).collect()
}

fn piece(id: &str, from: u64, to: u64) -> (String, u64, u64) {
    (id.to_owned(), from, to)
}

#[test]
fn the_path_leads_through_what_was_waited_for() {
    // containerd takes longer than the devices: the devices do not matter.
    let spans = [
        span("boot/mounts", 0, 10, &[]),
        span("containerd/start", 11, 500, &["boot/mounts"]),
        span("devices/settle", 11, 200, &["boot/mounts"]),
        span("boot/clock", 201, 203, &["boot/mounts", "devices/settle"]),
        span("service a/waiting", 203, 600, &["boot/clock"]),
        span("service a/start", 501, 600, &["boot/clock", "containerd/start"]),
        span("service b/start", 501, 700, &["boot/clock", "containerd/start"]),
        span("boot/done", 701, 701, &["service a/start", "service b/start"]),
    ];
    let expected = [
        piece("boot/mounts", 0, 10),
        piece("containerd/start", 11, 500),
        piece("service b/start", 501, 700),
        piece("boot/done", 701, 701),
    ];
    assert_eq!(path(&spans), expected);
}

#[test]
fn inside_of_the_devices_it_leads_through_modules() {
    let spans = [
        span("boot/mounts", 0, 10, &[]),
        span("devices/settle", 10, 100, &["boot/mounts"]),
        span("module ring/load", 12, 40, &[]),
        span("module slow/load", 12, 60, &[]),
        span("module net/load", 50, 90, &["module ring/load"]),
        span("module late/load", 150, 190, &[]),
        span("boot/clock", 100, 120, &["devices/settle"]),
    ];
    let expected = [
        piece("boot/mounts", 0, 10),
        piece("devices/settle", 10, 12),
        piece("module ring/load", 12, 40),
        piece("devices/settle", 40, 50),
        piece("module net/load", 50, 90),
        piece("devices/settle", 90, 100),
        piece("boot/clock", 100, 120),
    ];
    assert_eq!(path(&spans), expected);
}

#[test]
fn what_hangs_is_the_end_of_the_path() {
    let mut spans = vec![span("boot/mounts", 0, 10, &[]), span("onboot 000-x/run", 20, 0, &["boot/mounts"])];
    spans[1].end = None;
    assert_eq!(path(&spans), [piece("boot/mounts", 0, 10), piece("onboot 000-x/run", 20, 100_000)]);
    assert!(critical(&[], 5).is_empty());
}

#[test]
fn steps_that_wait_for_each_other_are_no_trap() {
    let spans = [span("a/x", 0, 10, &["b/x"]), span("b/x", 0, 9, &["a/x", "a/x", "c/missing"])];
    assert_eq!(path(&spans).len(), 2);
}

#[test]
fn a_record_knows_what_waited_for_what() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("timeline");
    let timeline = Timeline::open(&file).unwrap();
    timeline.step("mounts", || {});
    timeline.follow(CONTAINERD);
    timeline.begin(CONTAINERD, "start");
    timeline.step("clock", || {});
    timeline.end(CONTAINERD, "start");
    timeline.join(CONTAINERD);
    timeline.follow("onboot 000-x");
    timeline.begin("onboot 000-x", "create");
    timeline.end("onboot 000-x", "create");
    timeline.begin("onboot 000-x", "run");
    timeline.fail("onboot 000-x", "run", "exit status 3");
    timeline.lead("onboot 000-x");
    timeline.follow("service y");
    timeline.begin("service y", WAITING);

    // rc is killed here, and started again.
    let timeline = Timeline::open(&file).unwrap();
    timeline.begin("onboot 000-x", "run");
    timeline.follow("service y");
    timeline.end("service y", WAITING);
    timeline.begin("service y", "start");
    timeline.done(|| vec![span("kernel/start", 0, 1, &[])]);
    timeline.begin("service z", "start");
    timeline.end("service y", "start");
    timeline.begin("service y", "ready");
    timeline.end("service y", "ready");
    // It is started again.
    timeline.begin("service y", "start");
    timeline.begin("service y", "of a later life");

    let spans = load(&file).unwrap();
    let told: Vec<_> =
        spans.iter().map(|span| (span.id(), span.after.join(","), span.end.is_some())).collect();
    let expected = [
        ("boot/mounts", "", true),
        ("containerd/start", "boot/mounts", true),
        ("boot/clock", "boot/mounts", true),
        ("onboot 000-x/create", "boot/clock,containerd/start", true),
        ("onboot 000-x/run", "onboot 000-x/create", true),
        ("service y/waiting", "onboot 000-x/run", true),
        ("service y/start", "onboot 000-x/run", true),
        ("kernel/start", "", true),
        ("boot/done", "boot/clock,onboot 000-x/run", true),
        ("service y/ready", "service y/start", true),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(id, after, over)| ((*id).to_owned(), (*after).to_owned(), *over)).collect();
    assert_eq!(told, expected);
    assert_eq!(spans[4].failed.as_deref(), Some("exit status 3"));
}

#[test]
fn a_line_that_was_cut_off_is_left_out() {
    let text = "{\"lane\":\"boot\",\"name\":\"mounts\",\"start\":1,\"end\":null}\n\
                {\"lane\":\"boot\",\"name\":\"mounts\",\"start\":1,\"end\":5}\n{\"lane\":\"bo";
    let spans = parse(text);
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].end, Some(5));
}

#[test]
fn a_module_waits_for_the_one_that_brought_its_device_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("timeline");
    let timeline = Timeline::open(&file).unwrap();
    let wanted = |id: &str, what: &str, start: u64, needs: &[&str]| Span {
        wanted: Some(what.to_owned()),
        ..span(id, start, start + 10, needs)
    };
    timeline.add(wanted("module ata_piix/load", "pci:v1", 0, &[]));
    timeline.add(wanted("module cdrom/load", "sr_mod", 20, &[]));
    timeline.add(wanted("module sr_mod/load", "scsi:t5", 30, &["module cdrom/load"]));
    timeline.add(wanted("module odd/load", "odd", 40, &[]));
    let found = [("scsi:t5", "ata_piix"), ("pci:v1", "ata_piix"), ("odd", "cdrom")];
    timeline.wanted_after(&found.map(|(what, by)| (what.to_owned(), format!("module {by}/load"))));
    let after: Vec<_> = load(&file).unwrap().iter().map(|span| span.after.join(",")).collect();
    let expected =
        ["", "module ata_piix/load", "module cdrom/load,module ata_piix/load", "module cdrom/load"];
    assert_eq!(after, expected);
}
