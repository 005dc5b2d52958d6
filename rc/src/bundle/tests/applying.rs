// SPDX-License-Identifier: Apache-2.0
//! Plans, applied to a kernel that only takes notes.

use super::*;

const WRITABLE: &str = r#"{"mounts": [
    {"source": "tmpfs", "destination": "/c/web/tmp", "type": "tmpfs"},
    {"destination": "/c/web/tmp", "options": ["remount", "private"]},
    {"source": "overlay", "destination": "/c/web/rootfs", "type": "overlay",
     "options": ["lowerdir=/c/web/lower", "upperdir=/c/web/tmp/upper", "workdir=/c/web/tmp/work"]},
    {"source": "run", "destination": "run", "type": "tmpfs"}]}"#;

const ROOT: &str = "20 1 0:2 / / rw shared:1 - rootfs rootfs rw\n";
const TMP: &str = "21 20 0:3 / /c/web/tmp rw - tmpfs tmpfs rw\n";
const OVERLAY: &str = "22 20 0:4 / /c/web/rootfs rw - overlay overlay \
    rw,lowerdir=/c/web/lower,upperdir=/c/web/tmp/upper,workdir=/c/web/tmp/work\n";
const RUN: &str = "23 22 0:5 / /c/web/rootfs/run rw - tmpfs run rw\n";

fn prepare(bundle: &Bundle, mounts: &[&str]) -> Vec<String> {
    let kernel = Recorder::default();
    apply::apply(
        "service web",
        &bundle.plan(&nothing()),
        &kernel,
        &MountTable::parse(mounts.concat().as_bytes()),
    )
    .unwrap();
    kernel.lines()
}

#[test]
fn a_first_start_makes_everything() {
    assert_eq!(
        prepare(&bundle(WRITABLE), &[ROOT]),
        [
            "mkdir -m 0755 /c/web/tmp",
            "mount -t tmpfs tmpfs /c/web/tmp",
            "mount -o remount /c/web/tmp",
            "mount -o private /c/web/tmp",
            "mkdir -m 0755 /c/web/tmp/upper",
            "mkdir -m 0755 /c/web/tmp/work",
            "mkdir -m 0755 /c/web/rootfs",
            "mount -t overlay -o lowerdir=/c/web/lower,upperdir=/c/web/tmp/upper,workdir=/c/web/tmp/work \
             overlay /c/web/rootfs",
            "mkdir -m 0755 /c/web/rootfs/run",
            "mount -t tmpfs run /c/web/rootfs/run",
        ]
    );
}

#[test]
fn a_restart_mounts_nothing() {
    let again = ["mount -o remount /c/web/tmp", "mount -o private /c/web/tmp"];
    assert_eq!(prepare(&bundle(WRITABLE), &[ROOT, TMP, OVERLAY, RUN]), again);
}

#[test]
fn what_is_under_a_new_mount_is_new_too() {
    // The overlay is another one: the tmpfs in it cannot be the one that is wanted.
    let other = OVERLAY.replace("/c/web/lower", "/c/other/lower");
    let lines = prepare(&bundle(WRITABLE), &[ROOT, TMP, &other, RUN]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("mount -t")).count(), 2, "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "mount -t tmpfs run /c/web/rootfs/run");
}

#[test]
fn undoing_a_start_takes_back_only_what_it_mounted() {
    let undo = |mounts: &[&str]| {
        let kernel = Recorder::default();
        let steps = bundle(WRITABLE).plan(&nothing());
        let table = MountTable::parse(mounts.concat().as_bytes());
        let prepared = apply::apply("service web", &steps, &kernel, &table).unwrap();
        let kernel = Recorder::default();
        prepared.undo(&kernel);
        kernel.lines().into_iter().filter(|line| line.starts_with("umount")).collect::<Vec<_>>()
    };
    assert_eq!(undo(&[ROOT, TMP, OVERLAY]), ["umount /c/web/rootfs/run"]);
    assert_eq!(undo(&[ROOT]), ["umount /c/web/rootfs/run", "umount /c/web/rootfs", "umount /c/web/tmp"]);
}

#[test]
fn two_mounts_on_one_destination_are_two_mounts_and_stay_two() {
    let stacked = bundle(
        r#"{"mounts": [{"source": "a", "destination": "/c/web/tmp", "type": "tmpfs"},
            {"source": "b", "destination": "/c/web/tmp", "type": "tmpfs"}]}"#,
    );
    let first = prepare(&stacked, &[ROOT]);
    assert_eq!(first.iter().filter(|line| line.starts_with("mount -t")).count(), 2);
    let a = "30 20 0:6 / /c/web/tmp rw - tmpfs a rw\n";
    let b = "31 30 0:7 / /c/web/tmp rw - tmpfs b rw\n";
    assert_eq!(prepare(&stacked, &[ROOT, a, b]), [""; 0]);
}

#[test]
fn a_failure_names_container_step_and_path_and_leaves_nothing_mounted() {
    let bundle = bundle(WRITABLE);
    let kernel = Recorder::default().refusing("mount -t tmpfs run", nix::libc::ENODEV);
    let failure =
        apply::apply("service web", &bundle.plan(&nothing()), &kernel, &MountTable::default()).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "service web: mounts: mount -t tmpfs run /c/web/rootfs/run: No such device (os error 19)"
    );
    let lines = kernel.lines();
    let undone = &lines[lines.len() - 4..];
    assert_eq!(
        undone,
        [
            "mount -o rprivate /c/web/rootfs",
            "umount /c/web/rootfs",
            "mount -o rprivate /c/web/tmp",
            "umount /c/web/tmp"
        ]
    );
}

#[test]
fn a_control_group_may_lack_a_controller_but_not_a_directory() {
    let hierarchy = Hierarchy::Unified { root: "/g".into(), controllers: vec!["cpu".to_owned()] };
    let steps = bundle(r#"{"cgroups": ["new"]}"#).plan(&hierarchy);
    let kernel = Recorder::default().refusing("write", nix::libc::EINVAL);
    apply::apply("service web", &steps, &kernel, &MountTable::default()).unwrap();
    assert_eq!(kernel.lines(), ["mkdir -m 0755 /g/new"]);
    let kernel = Recorder::default().refusing("mkdir", nix::libc::EROFS);
    let failure = apply::apply("service web", &steps, &kernel, &MountTable::default()).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "service web: cgroups: mkdir -m 0755 /g/new: Read-only file system (os error 30)"
    );
}

#[test]
fn only_our_own_mounts_are_taken_back_newest_first_and_lazily_if_busy() {
    let bundle = bundle(WRITABLE);
    let strange = "24 20 0:9 / /c/web/tmp rw - ext4 /dev/sda rw\n";
    let table = |mounts: &[&str]| MountTable::parse(mounts.concat().as_bytes());
    let kernel = Recorder::default().refusing("umount /c/web/rootfs", nix::libc::EBUSY);
    bundle.unprepare(&kernel, &table(&[ROOT, strange, OVERLAY])).unwrap();
    assert_eq!(kernel.lines(), ["mount -o rprivate /c/web/rootfs", "umount -l /c/web/rootfs"]);
    let kernel = Recorder::default();
    bundle.unprepare(&kernel, &table(&[ROOT])).unwrap();
    assert_eq!(kernel.lines(), [""; 0]);
}

#[test]
fn links_in_an_image_lead_nowhere_outside_it() {
    let dir = TempDir::new().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap().join("rootfs");
    fs::create_dir_all(root.join("run")).unwrap();
    fs::create_dir_all(root.join("var")).unwrap();
    std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
    std::os::unix::fs::symlink("../../../../etc", root.join("escape")).unwrap();
    std::os::unix::fs::symlink("round", root.join("round")).unwrap();
    let resolve = |path: &str| apply::resolve(&plan::Place { root: root.clone(), path: root.join(path) });
    assert_eq!(resolve("var/run/web").unwrap(), root.join("run/web"));
    assert_eq!(resolve("escape/passwd").unwrap(), root.join("etc/passwd"));
    assert_eq!(resolve("../../x").unwrap(), root.join("x"));
    assert_eq!(resolve("./new//dir").unwrap(), root.join("new/dir"));
    assert_eq!(resolve("round").unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
}

#[test]
fn a_volume_is_writable_if_it_has_a_tmp() {
    let dir = TempDir::new().unwrap();
    let volume = |name: &str| dir.path().join("volumes").join(name);
    for path in ["rw/lower", "rw/tmp", "ro/lower", "a,b/lower"] {
        fs::create_dir_all(volume(path)).unwrap();
    }
    let listing = volumes::list(dir.path()).unwrap();
    assert_eq!(listing.paths, [volume("ro"), volume("rw")]);
    assert!(listing.warnings[0].contains("which overlay options cannot carry"), "{:?}", listing.warnings);
    let plan =
        |name| -> Vec<String> { volumes::plan(&volume(name)).iter().map(ToString::to_string).collect() };
    let at = dir.path().join("volumes").display().to_string();
    assert_eq!(
        plan("ro"),
        [format!("mount -t overlay -o ro,lowerdir={at}/ro/lower:{at}/ro/merged overlay {at}/ro/merged")]
    );
    assert_eq!(
        plan("rw"),
        [
            format!("mount -t tmpfs -o mode=0755 tmpfs {at}/rw/tmp; mount -o private {at}/rw/tmp"),
            format!(
                "mkdir -m 0755 {at}/rw/tmp/upper; mkdir -m 0755 {at}/rw/tmp/work; mount -t overlay -o \
                 lowerdir={at}/rw/lower,upperdir={at}/rw/tmp/upper,workdir={at}/rw/tmp/work overlay {at}/rw/merged"
            ),
        ]
    );
}

#[test]
fn a_namespace_bind_replaces_the_one_of_an_earlier_start() {
    let bundle = bundle(r#"{"bindNS": {"net": "/r/netns/web", "mnt": "/r/mnt"}}"#);
    let bind = |mounts: &[&str]| {
        let kernel = Recorder::default();
        bundle.bind_namespaces(7, &kernel, &MountTable::parse(mounts.concat().as_bytes())).unwrap();
        kernel.lines()
    };
    let first = [
        "mkdir -m 0755 /r",
        "touch /r/mnt",
        "mount -o bind /r/mnt /r/mnt",
        "mount -o private /r/mnt",
        "mount -o bind /proc/7/ns/mnt /r/mnt",
        "mkdir -m 0755 /r/netns",
        "touch /r/netns/web",
        "mount -o bind /proc/7/ns/net /r/netns/web",
    ];
    assert_eq!(bind(&[ROOT]), first);
    let again = bind(&[
        ROOT,
        "30 20 0:2 /r/mnt /r/mnt rw - rootfs rootfs rw\n",
        "31 30 0:4 mnt:[4026532] /r/mnt rw - nsfs nsfs rw\n",
        "32 20 0:4 net:[4026533] /r/netns/web rw - nsfs nsfs rw\n",
    ]);
    assert_eq!(again.iter().filter(|line| *line == "umount -l /r/mnt").count(), 2, "{again:#?}");
    assert_eq!(again.iter().filter(|line| *line == "umount -l /r/netns/web").count(), 1);
    assert_eq!(again.len(), first.len() + 3);
    // Somebody's own mount is not ours to take away.
    let disk = bind(&[ROOT, "33 20 0:9 / /r/netns/web rw - ext4 /dev/sda rw\n"]);
    assert_eq!(disk, first);
}
