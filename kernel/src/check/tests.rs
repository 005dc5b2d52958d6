// SPDX-License-Identifier: Apache-2.0
//! Configurations good and broken, in every wrapping.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use flate2::{Compression, write::GzEncoder};

use super::*;

/// Says loudly what is not tried here: libtest keeps what `eprintln!` says of
/// a test that passes to itself.
macro_rules! left_out {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stderr(), "LEFT OUT: {}", format_args!($($text)*));
    }};
}

/// A configuration that meets every requirement.
fn complete() -> String {
    let mut text = "# Linux/x86 6.1.1 Kernel Configuration\n".to_owned();
    for requirement in REQUIREMENTS {
        let _ = match requirement.rule {
            Rule::BuiltIn(names) | Rule::Present(names) => writeln!(text, "CONFIG_{}=y", names[0]),
            Rule::Unset(name) => writeln!(text, "# CONFIG_{name} is not set"),
            Rule::Text(name, value) => writeln!(text, "CONFIG_{name}=\"{value}\""),
        };
    }
    text
}

fn report(text: &str) -> Report {
    check(&Config::parse(text).unwrap())
}

#[test]
fn every_row_says_why_and_is_there_once() {
    let mut seen = BTreeSet::new();
    for Requirement { rule, reason, without, .. } in REQUIREMENTS {
        assert!(!reason.is_empty() && !without.is_empty(), "{rule:?}");
        let names = match rule {
            Rule::BuiltIn(names) | Rule::Present(names) => names.to_vec(),
            Rule::Unset(name) | Rule::Text(name, _) => vec![*name],
        };
        for name in names {
            assert!(!name.starts_with("CONFIG_"), "{name}");
            let built_in = matches!(rule, Rule::BuiltIn(_));
            assert!(seen.insert((name, built_in)), "{name} is listed twice");
        }
    }
}

#[test]
fn a_complete_configuration_is_enough() {
    let report = report(&complete());
    assert!(report.is_enough());
    assert!(report.findings.iter().all(|(_, state)| *state == State::Met));
    let text = report.to_string();
    assert!(text.starts_with("Linux 6.1.1: need ") && text.ends_with("; lkinit boots"), "{text}");
}

#[test]
fn each_row_is_missed_when_it_is_broken() {
    for requirement in REQUIREMENTS {
        let (broken, state) = match requirement.rule {
            // A second name that would do must go too.
            Rule::BuiltIn(names) | Rule::Present(names) => {
                let keep = |line: &&str| !names.iter().any(|name| *line == format!("CONFIG_{name}=y"));
                (complete().lines().filter(keep).collect::<Vec<_>>().join("\n"), State::Missing)
            }
            Rule::Unset(name) => (format!("{}CONFIG_{name}=y\n", complete()), State::Unwelcome),
            Rule::Text(name, _) => {
                (format!("{}CONFIG_{name}=\"/sbin/other\"\n", complete()), State::Unwelcome)
            }
        };
        let report = report(&broken);
        let found = report.findings.iter().find(|(row, _)| std::ptr::eq(*row, requirement)).unwrap();
        assert_eq!(found.1, state, "{:?}", requirement.rule);
        assert_eq!(report.is_enough(), requirement.level != Level::Need, "{:?}", requirement.rule);
        assert!(report.to_string().contains(requirement.without));
    }
}

#[test]
fn a_module_may_be_too_late() {
    let text = complete()
        .replace("CONFIG_UNIX=y", "CONFIG_UNIX=m")
        .replace("CONFIG_OVERLAY_FS=y", "CONFIG_OVERLAY_FS=m");
    let report = report(&text);
    assert!(!report.is_enough());
    assert_eq!(report.unmet(Level::Need).count(), 1);
    assert!(report.to_string().starts_with(
        "need  CONFIG_UNIX=y (CONFIG_UNIX is a module, which comes too late)\n        why: the sockets of containerd"
    ));
}

#[test]
fn an_old_kernel_is_named() {
    let at = |version: &str| report(&complete().replace("6.1.1", version));
    assert!(!at("4.19.300").is_enough());
    assert!(at("4.19.300").to_string().starts_with("need  Linux 5.6"));
    assert!(at("5.15.2").is_enough());
    assert!(at("5.15.2").to_string().starts_with("want  Linux 6.1"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What the program makes of the bytes; `None`, loudly, where it is not installed.
fn piped(program: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let child =
        Command::new(program[0]).args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        left_out!("kernels compressed by {}: it is not installed", program[0]);
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        Some(output.stdout)
    })
}

/// Bytes that look like nothing.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8 | 1
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An uncompressed kernel: an ELF file with the mark twice, as in the kernel,
/// where the first is no configuration.
fn vmlinux(config: Option<&str>) -> Vec<u8> {
    let mut image = b"\x7fELF".to_vec();
    // More than one block of the legacy lz4 frame, and quickly compressed.
    image.extend(noise(5000).repeat(2000));
    image.extend(b"IKCFG_ST\x1f\x8b and no more");
    if let Some(config) = config {
        image.extend(b"IKCFG_ST");
        image.extend(gzip(config.as_bytes()));
        image.extend(b"IKCFG_ED");
    }
    image.extend(noise(5000));
    image
}

fn found(bytes: &[u8]) -> Option<String> {
    match extract(bytes) {
        Found::Config(config) => config.version,
        Found::Kernel | Found::Nothing => None,
    }
}

#[test]
fn a_configuration_is_found_in_every_wrapping() {
    let config = complete();
    let version = Some("6.1.1".to_owned());
    assert_eq!(found(config.as_bytes()), version);
    assert_eq!(found(&gzip(config.as_bytes())), version);
    let kernel = vmlinux(Some(&config));
    assert_eq!(found(&kernel), version);
    // arm64's Image.gz
    assert_eq!(found(&gzip(&kernel)), version);
    // x86's bzImage: a loader, the compressed kernel, its length, more code.
    // The programs' options are the kernel's own build's.
    for program in [
        &["gzip", "-n", "-f", "-1"][..],
        &["xz", "--check=crc32", "--x86", "--lzma2=preset=1,dict=32MiB"],
        &["zstd", "-q", "--ultra", "-20"],
        &["lz4", "-l", "-1"],
    ] {
        let Some(payload) = piped(program, &kernel) else { continue };
        let mut image = noise(20000);
        image.extend(payload);
        image.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
        image.extend(noise(3000));
        assert_eq!(found(&image), version, "{program:?}");
    }
}

#[test]
fn what_holds_no_configuration_is_told_apart() {
    assert!(matches!(extract(&vmlinux(None)), Found::Kernel));
    assert!(matches!(extract(&gzip(&vmlinux(None))), Found::Kernel));
    assert!(matches!(extract(b""), Found::Nothing));
    assert!(matches!(extract(b"#!/bin/sh\necho CONFIG\n"), Found::Nothing));
    assert!(matches!(extract(&noise(100_000)), Found::Nothing));
    // A comment that somebody wrote in Latin-1, and lines as Windows ends them.
    let mut latin = b"# f\xfcr den Server\r\n".to_vec();
    latin.extend(complete().replace('\n', "\r\n").bytes());
    assert_eq!(found(&latin).as_deref(), Some("6.1.1"));
    // Cut short, as by a broken download.
    let whole = gzip(complete().as_bytes());
    assert!(matches!(extract(&whole[..whole.len() / 2]), Found::Nothing));
    let error = read(Path::new("/nonexistent")).unwrap_err();
    assert_eq!(format!("{error:#}"), "reading /nonexistent: No such file or directory (os error 2)");
}

/// The Debian kernels that the tests boot, where they have been fetched.
fn debian_kernels() -> Vec<PathBuf> {
    let fetched = std::env::var_os("LKINIT_DEBIAN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debian"), PathBuf::from);
    let kernels: Vec<_> = ["bookworm", "trixie", "testing"]
        .into_iter()
        .map(|suite| fetched.join(suite).join("root-kernel"))
        .filter(|root| root.is_dir())
        .collect();
    if kernels.len() < 3 {
        left_out!("{} of the three Debian kernels: not in {}", 3 - kernels.len(), fetched.display());
    }
    kernels
}

/// The files of a kernel package that begin so, below `/boot` or beside the modules.
fn file_of(root: &Path, start: &str) -> PathBuf {
    let folders = [root.join("boot")].into_iter().chain(
        fs::read_dir(root.join("usr/lib/modules")).into_iter().flatten().map(|entry| entry.unwrap().path()),
    );
    let files =
        folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten()).map(|entry| entry.unwrap());
    let mut wanted =
        files.filter(|file| file.file_name().to_str().is_some_and(|name| name.starts_with(start)));
    wanted.next().unwrap_or_else(|| panic!("{} has no {start}", root.display())).path()
}

/// The kernel that runs these tests, if it holds its configuration.
#[test]
fn the_running_kernel_is_read() {
    let file = Path::new("/proc/config.gz");
    if !file.exists() {
        left_out!("reading {}: this kernel has none", file.display());
        return;
    }
    let report = check(&read(file).unwrap());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version = report.version.as_deref().unwrap();
    assert!(release.starts_with(version), "{version} of {release}");
    let row = |name: &str| {
        let is = |rule: &Rule| matches!(rule, Rule::BuiltIn(names) | Rule::Present(names) if names.contains(&name));
        report.findings.iter().find(|(row, _)| is(&row.rule)).unwrap().1
    };
    // What this process sees for itself.
    for name in ["IKCONFIG_PROC", "UNIX", "BINFMT_ELF"] {
        assert_eq!(row(name), State::Met, "{name}");
    }
}

#[test]
fn debian_kernels_are_enough() {
    for root in debian_kernels() {
        let report = check(&read(&file_of(&root, "config")).unwrap());
        assert!(report.version.is_some());
        assert!(report.is_enough(), "{report}");
        let unmet: Vec<_> = report.unmet(Level::Want).map(|(requirement, _)| requirement.rule).collect();
        assert_eq!(unmet, [], "{report}");
    }
}

/// Debian's kernels hold no configuration; that they were looked through to
/// the end shows in the uncompressed kernel.
#[test]
fn debian_kernels_are_unpacked() {
    for root in debian_kernels() {
        let file = file_of(&root, "vmlinuz");
        let bytes = fs::read(&file).unwrap();
        let kernel = extract::unpacked(&bytes).find(|layer| layer.starts_with(b"\x7fELF")).unwrap();
        assert!(kernel.len() > 2 * bytes.len(), "{}: {} bytes", file.display(), kernel.len());
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("does not hold its configuration"), "{error}");
    }
}
