// SPDX-License-Identifier: Apache-2.0
//! `mounts`, `mkdir`, `cgroups` and volumes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use init::action::{Action, Kernel as _};
use init::mount::Mount;
use init::sys::Linux;
use rc::bundle::{Hierarchy, Step, volumes};

use crate::{bundle, in_image, table, types};

/// What `linuxkit build` writes for a writable container.
const WRITABLE: &str = r#"{"mounts": [
    {"source": "tmpfs", "destination": "ROOT/tmp", "type": "tmpfs"},
    {"destination": "ROOT/tmp", "options": ["remount", "private"]},
    {"source": "overlay", "destination": "ROOT/rootfs", "type": "overlay",
     "options": ["lowerdir=ROOT/lower", "upperdir=ROOT/tmp/upper", "workdir=ROOT/tmp/work"]}]}"#;

#[test]
fn a_writable_container_keeps_its_layer_when_it_is_prepared_again() {
    in_image(|root| {
        let web = bundle(root, "web", WRITABLE);
        fs::write(web.path.join("lower/from-image"), "1").unwrap();
        let before = table();
        web.prepare(&Linux, &before).unwrap();
        let prepared = table();
        assert_eq!(prepared.iter().count(), before.iter().count() + 2);
        assert_eq!(fs::read(web.rootfs.join("from-image")).unwrap(), b"1");
        fs::write(web.rootfs.join("written"), "2").unwrap();
        assert!(!web.path.join("lower/written").exists(), "the image's layer is not written to");

        let again = web.prepare(&Linux, &prepared).unwrap();
        assert_eq!(table(), prepared, "nothing is stacked");
        assert_eq!(fs::read(web.rootfs.join("written")).unwrap(), b"2");
        again.undo(&Linux);
        assert_eq!(table(), prepared, "a restart that fails takes nothing away");

        web.unprepare(&Linux, &prepared).unwrap();
        assert_eq!(table(), before);
        web.prepare(&Linux, &table()).unwrap();
        assert!(!web.rootfs.join("written").exists(), "a new tmpfs is empty");
    });
}

#[test]
fn remount_and_private_in_one_entry_do_both() {
    in_image(|root| {
        let web = bundle(root, "web", WRITABLE);
        let shared = |name: &str| {
            let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let path = web.path.join(name).display().to_string();
            let line = text.lines().find(|line| line.split(' ').nth(4) == Some(&path)).unwrap().to_owned();
            line.contains(" shared:")
        };
        web.prepare(&Linux, &table()).unwrap();
        assert!(!shared("tmp"), "private");
        assert!(shared("rootfs"), "what is not said stays as the image's root is");
    });
}

#[test]
fn the_mounts_of_containers_that_are_busy_go_lazily() {
    in_image(|root| {
        let web = bundle(root, "web", WRITABLE);
        let before = table();
        web.prepare(&Linux, &before).unwrap();
        let open = fs::File::create(web.rootfs.join("open")).unwrap();
        web.unprepare(&Linux, &table()).unwrap();
        assert_eq!(table(), before);
        drop(open);
    });
}

#[test]
fn a_bind_takes_its_flags_and_takes_back_nothing_that_is_not_its_own() {
    in_image(|root| {
        let (data, part) = (root.join("data"), root.join("data/part"));
        fs::create_dir_all(&part).unwrap();
        let apply = |call| Linux.apply(&Action::Mount(call)).unwrap();
        apply(Mount::new("tmpfs", &data, ""));
        fs::create_dir_all(&part).unwrap();
        apply(Mount::new("tmpfs", &part, ""));
        fs::write(part.join("x"), "").unwrap();
        let runtime = format!(
            r#"{{"mounts": [{{"source": "{data}", "destination": "srv/data", "options": ["rbind", "ro", "nosuid"]}},
                {{"source": "{data}/part/x", "destination": "srv/file", "type": "bind", "options": []}}]}}"#,
            data = data.display()
        );
        let web = bundle(root, "web", &runtime);
        let before = table();
        web.prepare(&Linux, &before).unwrap();
        let inside = web.rootfs.join("srv/data");
        assert!(inside.join("part/x").exists(), "recursive");
        let refused = fs::write(inside.join("new"), "").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
        fs::write(data.join("new"), "").unwrap();
        assert!(web.rootfs.join("srv/file").is_file(), "a file is bound on a file");

        let prepared = table();
        web.prepare(&Linux, &prepared).unwrap();
        assert_eq!(table(), prepared);
        web.unprepare(&Linux, &prepared).unwrap();
        assert_eq!(table(), before, "{} is still mounted", part.display());
        assert!(part.join("x").exists());
    });
}

#[test]
fn a_root_bound_on_itself_or_from_another_container_is_bound_once() {
    in_image(|root| {
        let first = bundle(
            root,
            "a",
            r#"{"mounts": [{"source": "ROOT/rootfs", "destination": "ROOT/rootfs", "options": ["bind"]}]}"#,
        );
        let runtime = format!(
            r#"{{"mounts": [{{"source": "{}", "destination": "ROOT/rootfs", "options": ["bind"]}}]}}"#,
            first.rootfs.display()
        );
        let second = bundle(root, "b", &runtime);
        fs::write(first.rootfs.join("x"), "").unwrap();
        for _ in 0..3 {
            first.prepare(&Linux, &table()).unwrap();
            second.prepare(&Linux, &table()).unwrap();
        }
        assert_eq!((types(&first.rootfs).len(), types(&second.rootfs).len()), (1, 1));
        assert!(second.rootfs.join("x").exists());
        let before = table();
        second.unprepare(&Linux, &before).unwrap();
        assert_eq!((types(&first.rootfs).len(), types(&second.rootfs).len()), (1, 0));
    });
}

#[test]
fn a_failure_in_the_middle_leaves_the_mounts_as_they_were() {
    in_image(|root| {
        let runtime = WRITABLE
            .replace("]}]}", "]}, {\"source\": \"x\", \"destination\": \"bad\", \"type\": \"nosuchfs\"}]}");
        let web = bundle(root, "web", &runtime);
        let before = table();
        let failure = web.prepare(&Linux, &before).unwrap_err().to_string();
        let path = web.rootfs.join("bad").display().to_string();
        assert_eq!(
            failure,
            format!("service web: mounts: mount -t nosuchfs x {path}: No such device (os error 19)")
        );
        assert_eq!(table(), before);
    });
}

#[test]
fn directories_are_made_in_the_image_and_not_where_its_links_lead() {
    in_image(|root| {
        let web = bundle(root, "web", r#"{"mkdir": ["ROOT/out", "var/run/web", "new/dir"]}"#);
        fs::create_dir(web.rootfs.join("var")).unwrap();
        let trap = root.join("trap");
        fs::create_dir(&trap).unwrap();
        std::os::unix::fs::symlink(&trap, web.rootfs.join("var/run")).unwrap();
        web.prepare(&Linux, &table()).unwrap();
        assert!(web.path.join("out").is_dir());
        let made = fs::metadata(web.rootfs.join("new/dir")).unwrap();
        assert_eq!((made.permissions().mode() & 0o7777, made.uid()), (0o755, 0));
        assert_eq!(fs::read_dir(&trap).unwrap().count(), 0);
    });
}

#[test]
fn control_groups_are_made_by_the_kernel() {
    in_image(|root| {
        let tree = root.join("cgroup2");
        fs::create_dir(&tree).unwrap();
        Linux.apply(&Action::Mount(Mount::new("cgroup2", &tree, ""))).unwrap();
        let name = format!("lkinit-test-{}", std::process::id());
        let web = bundle(root, "web", &format!(r#"{{"cgroups": ["{name}/inner"]}}"#));
        let text = fs::read_to_string(tree.join("cgroup.controllers")).unwrap();
        let controllers: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        let hierarchy = Hierarchy::Unified { root: tree.clone(), controllers: controllers.clone() };
        for _ in 0..2 {
            for step in web.plan(&hierarchy) {
                let Step::ControlGroup { actions, .. } = step else { unreachable!() };
                for action in &actions {
                    let result = Linux.apply(action);
                    assert!(result.is_ok() || matches!(action, Action::Write { .. }), "{action}: {result:?}");
                }
            }
        }
        let inner = tree.join(&name).join("inner");
        let found = fs::read_to_string(inner.join("cgroup.controllers"));
        fs::remove_dir(&inner).unwrap();
        fs::remove_dir(tree.join(&name)).unwrap();
        let found = found.unwrap();
        if controllers.is_empty() {
            crate::left_out("controllers handed down: this machine's cgroup2 tree has none");
        } else {
            assert!(!found.trim().is_empty(), "of {controllers:?} none was handed down");
        }
    });
}

#[test]
fn volumes_are_overlays_and_without_tmp_read_only_for_good() {
    in_image(|root| {
        let volume = root.join("volumes/data");
        for name in ["lower", "merged", "tmp"] {
            fs::create_dir_all(volume.join(name)).unwrap();
        }
        fs::write(volume.join("lower/x"), "1").unwrap();
        // As on a squashfs root: nothing can be written but what is mounted.
        Linux.apply(&Action::Mount(Mount::bind(&volume, &volume))).unwrap();
        let readonly = init::mount::MsFlags::MS_BIND | init::mount::MsFlags::MS_RDONLY;
        Linux.apply(&Action::Mount(Mount::remount(&volume, readonly))).unwrap();
        assert!(fs::write(volume.join("y"), "").is_err(), "the test's own ground");
        for _ in 0..2 {
            volumes::mount(&volume, &Linux, &table()).unwrap();
        }
        assert_eq!(
            (types(volume.join("tmp")), types(volume.join("merged"))),
            (vec!["tmpfs".into()], vec!["overlay".into()])
        );
        fs::write(volume.join("merged/x"), "2").unwrap();
        assert_eq!(fs::read(volume.join("lower/x")).unwrap(), b"1");

        let volume = root.join("volumes/constant");
        for name in ["lower", "merged"] {
            fs::create_dir_all(volume.join(name)).unwrap();
        }
        fs::write(volume.join("lower/x"), "1").unwrap();
        for _ in 0..2 {
            volumes::mount(&volume, &Linux, &table()).unwrap();
        }
        assert_eq!(types(volume.join("merged")), ["overlay"]);
        assert_eq!(fs::read(volume.join("merged/x")).unwrap(), b"1");
        let refused = || fs::write(volume.join("merged/y"), "").unwrap_err().raw_os_error();
        assert_eq!(refused(), Some(nix::libc::EROFS));
        // What a runtime does for a bind with "rw".
        let writable = Mount::remount(volume.join("merged"), init::mount::MsFlags::MS_BIND);
        Linux.apply(&Action::Mount(writable)).unwrap();
        assert_eq!(refused(), Some(nix::libc::EROFS));
    });
}
