// SPDX-License-Identifier: Apache-2.0
//! `bindNS`.

use std::fs;
use std::path::{Path, PathBuf};

use init::sys::Linux;

use crate::{Process, bundle, in_image, table, types};

/// The namespace bound to `path`, as `/proc/PID/ns` would name it.
fn bound(path: &Path) -> PathBuf {
    table().on(path).last().unwrap().root.clone()
}

#[test]
fn namespaces_outlive_their_process_and_are_replaced_by_the_next_ones() {
    in_image(|root| {
        let names = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
        let path = |name: &str| root.join("run/ns").join(name);
        let paths: Vec<_> = names.map(|name| format!("\"{name}\": \"{}\"", path(name).display())).into();
        let web = bundle(root, "web", &format!(r#"{{"bindNS": {{{}}}}}"#, paths.join(",")));

        let first = Process::start();
        web.bind_namespaces(first.pid(), &Linux, &table()).unwrap();
        let mut expected = names.map(|name| first.namespace(name));
        assert_eq!(names.map(|name| bound(&path(name))), expected);
        assert!(path("net").is_file());
        drop(first);
        assert_eq!(names.map(|name| bound(&path(name))), expected, "they outlive it");
        Process::with(&[&format!("--net={}", path("net").display())]);

        let second = Process::start();
        let before = table().iter().count();
        web.bind_namespaces(second.pid(), &Linux, &table()).unwrap();
        let now = names.map(|name| bound(&path(name)));
        assert_eq!(table().iter().count(), before, "nothing is stacked");
        for (old, (name, new)) in expected.iter().zip(names.iter().zip(&now)) {
            let own = ["net", "mnt", "uts", "ipc"].contains(name);
            assert_eq!(old != new, own, "{name}: {old:?} {new:?}");
        }
        expected = names.map(|name| second.namespace(name));
        assert_eq!(now, expected);
        assert_eq!(types(path("net")), ["nsfs"]);
    });
}

#[test]
fn a_bind_that_fails_names_container_step_and_path() {
    in_image(|root| {
        let target = root.join("dir");
        fs::create_dir(&target).unwrap();
        let web = bundle(root, "web", &format!(r#"{{"bindNS": {{"net": "{}"}}}}"#, target.display()));
        let process = Process::start();
        let failure = web.bind_namespaces(process.pid(), &Linux, &table()).unwrap_err().to_string();
        let (pid, target) = (process.pid(), target.display());
        let tried = format!("mount -o bind /proc/{pid}/ns/net {target}");
        assert_eq!(failure, format!("service web: bindNS.net: {tried}: Not a directory (os error 20)"));
    });
}
