// SPDX-License-Identifier: Apache-2.0
//! Every bundle that LinuxKit's own builder wrote for the example images.

use std::fs;
use std::path::{Path, PathBuf};

use init::action::{Action, Kernel as _};
use init::mount::{Mount, MsFlags};
use init::sys::Linux;
use rc::bundle::{Bundle, Hierarchy, Stage, list};
use serde_json::Value;

use crate::{in_image, left_out, table};

/// The folder of golden cases, if it is there.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/bundles");
    let Ok(entries) = fs::read_dir(&folder) else {
        left_out("the golden bundles: there is no ../shared/bundles");
        return Vec::new();
    };
    let cases = entries.map(|entry| entry.unwrap().path().join("bundles.json"));
    let mut cases: Vec<_> = cases.filter(|path| path.is_file()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "{} has no cases", folder.display());
    cases
}

/// Puts a case on disk below `root`.
fn unpack(case: &Path, root: &Path) {
    let files: Value = serde_json::from_str(&fs::read_to_string(case).unwrap()).unwrap();
    for (name, content) in files.as_object().unwrap() {
        if name == "dirs" {
            for dir in content.as_array().unwrap() {
                fs::create_dir_all(root.join(dir.as_str().unwrap())).unwrap();
            }
        } else {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.to_string()).unwrap();
        }
    }
}

fn load_all(containers: &Path) -> Vec<Bundle> {
    let stages = [Stage::Onboot, Stage::Onshutdown, Stage::Services];
    let load = |stage| {
        let listing = list(containers, stage).unwrap();
        assert_eq!(listing.warnings, [""; 0]);
        listing.paths.into_iter().map(move |path| Bundle::load(&path, stage).unwrap())
    };
    stages.into_iter().flat_map(load).collect()
}

/// The entries of a bundle's `mounts`, as they are in the case.
fn mount_entries(bundle: &Bundle) -> usize {
    let text = fs::read_to_string(bundle.path.join("runtime.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value["mounts"].as_array().unwrap().len()
}

#[test]
fn every_bundle_is_read_without_a_warning_and_planned() {
    let mut count = 0;
    for case in cases() {
        let dir = tempfile::tempdir().unwrap();
        unpack(&case, dir.path());
        for bundle in load_all(&dir.path().join("containers")) {
            assert_eq!(bundle.warnings, [""; 0], "{}: {}", case.display(), bundle.label());
            let runtime = &bundle.runtime;
            let nothing = Hierarchy::Legacy { roots: Vec::new() };
            assert_eq!(
                bundle.plan(&nothing).len(),
                mount_entries(&bundle) + runtime.mkdir.len() + runtime.cgroups.len()
            );
            assert_eq!(bundle.spec()["root"]["path"], bundle.rootfs.to_str().unwrap());
            count += 1;
        }
    }
    if count > 0 {
        assert!(count > 150, "only {count} bundles");
    }
}

#[test]
fn every_bundle_is_prepared_twice_and_taken_back() {
    for case in cases() {
        in_image(|root| {
            unpack(&case, root);
            for name in ["proc", "etc", "run"] {
                fs::create_dir_all(root.join(name)).unwrap();
            }
            let bind = |source: &str| Mount {
                flags: MsFlags::MS_BIND | MsFlags::MS_REC,
                ..Mount::bind(source, root.join(source.trim_start_matches('/')))
            };
            Linux.apply(&Action::Mount(bind("/proc"))).unwrap();
            // This thread alone: it has had a root directory of its own since
            // it left the other mounts.
            nix::unistd::chroot(root).unwrap();
            std::env::set_current_dir("/").unwrap();
            let bundles = load_all(Path::new("/containers"));
            let before = table();
            for bundle in &bundles {
                bundle.prepare(&Linux, &table()).unwrap();
            }
            let prepared = table();
            let added = prepared.iter().count() - before.iter().count();
            let remounts = bundles.iter().flat_map(|bundle| &bundle.runtime.mounts);
            let remounts =
                remounts.filter(|entry| entry.options.iter().any(|word| word == "remount")).count();
            assert_eq!(
                added,
                bundles.iter().map(mount_entries).sum::<usize>() - remounts,
                "{}",
                case.display()
            );
            for bundle in &bundles {
                bundle.prepare(&Linux, &prepared).unwrap();
            }
            assert_eq!(table(), prepared, "{}", case.display());
            for bundle in bundles.iter().rev() {
                bundle.unprepare(&Linux, &table()).unwrap();
            }
            assert_eq!(table(), before, "{}", case.display());
        });
    }
}
