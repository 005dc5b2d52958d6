// SPDX-License-Identifier: Apache-2.0
//! Reading and planning; applying to a kernel that only takes notes is in
//! `tests/applying.rs`.

use std::fs;

use init::action::Recorder;
use init::mountinfo::MountTable;
use tempfile::TempDir;

use super::*;

mod applying;

const CONFIG: &str = r#"{"ociVersion": "1.2.1", "root": {"path": "rootfs"}}"#;

/// A bundle on disk, in the stage `services`.
fn on_disk(config: &str, runtime: Option<&str>) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("services/web");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("config.json"), config).unwrap();
    if let Some(runtime) = runtime {
        fs::write(path.join("runtime.json"), runtime).unwrap();
    }
    (dir, path)
}

fn load(config: &str, runtime: Option<&str>) -> Result<Bundle, Error> {
    let (_dir, path) = on_disk(config, runtime);
    Bundle::load(&path, Stage::Services)
}

/// A bundle that claims to be at `/c/web`, where nothing is.
fn bundle(runtime: &str) -> Bundle {
    let bundle = load(CONFIG, Some(runtime)).unwrap();
    assert_eq!(bundle.warnings, [""; 0]);
    Bundle { path: "/c/web".into(), rootfs: "/c/web/rootfs".into(), ..bundle }
}

/// The message of what is wrong with `runtime.json`, without its folder.
fn complaint(config: &str, runtime: Option<&str>) -> String {
    let (dir, path) = on_disk(config, runtime);
    let message = Bundle::load(&path, Stage::Services).unwrap_err().to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message.replace(&format!("{}/", dir.path().display()), "")
}

fn nothing() -> Hierarchy {
    Hierarchy::Legacy { roots: Vec::new() }
}

fn plan(runtime: &str, hierarchy: &Hierarchy) -> Vec<String> {
    bundle(runtime).plan(hierarchy).iter().map(ToString::to_string).collect()
}

#[test]
fn what_rc_needs_of_a_config_is_read() {
    let config = r#"{
        "ociVersion": "1.2.1",
        "process": {"args": ["/bin/sh", "-c", "true"], "terminal": true, "cwd": "/"},
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "web",
        "annotations": {"lkinit.restart": "always", "n": 5},
        "linux": {"cgroupsPath": "web", "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/wg1"}]}
    }"#;
    let bundle = load(config, None).unwrap();
    assert_eq!((&*bundle.name, bundle.stage, &*bundle.label()), ("web", Stage::Services, "service web"));
    assert_eq!(bundle.rootfs, bundle.path.join("rootfs"));
    assert_eq!(bundle.config.args, ["/bin/sh", "-c", "true"]);
    assert!(bundle.config.terminal);
    assert_eq!(bundle.config.hostname.as_deref(), Some("web"));
    assert_eq!(bundle.config.cgroups_path.as_deref(), Some("web"));
    assert_eq!(bundle.annotations().get("lkinit.restart").map(String::as_str), Some("always"));
    assert_eq!(bundle.warnings, ["annotation n: 5 is no text, so it is not used"]);
    let namespaces = &bundle.config.namespaces;
    assert_eq!(namespaces[0], Namespace { kind: "pid".to_owned(), path: None });
    assert_eq!(namespaces[1].path.as_deref(), Some(Path::new("/run/netns/wg1")));
    assert!(bundle.has_own_processes());
    let joined = r#"{"root": {"path": "rootfs"}, "linux": {"namespaces": [{"type": "pid", "path": "/p"}]}}"#;
    assert!(
        !load(joined, None).unwrap().has_own_processes() && !load(CONFIG, None).unwrap().has_own_processes()
    );
    assert_eq!(bundle.runtime, Runtime::default(), "there is no runtime.json");
}

#[test]
fn a_spec_keeps_what_rc_does_not_know_and_has_an_absolute_root() {
    let config =
        r#"{"x": {"y": [18446744073709551615, 1.5, null]}, "root": {"path": "rootfs", "readonly": true}}"#;
    let bundle = load(config, None).unwrap();
    let mut expected: serde_json::Value = serde_json::from_str(config).unwrap();
    expected["root"]["path"] = bundle.path.join("rootfs").to_str().unwrap().into();
    assert_eq!(bundle.spec(), expected);
    let absolute = load(r#"{"root": {"path": "/elsewhere"}}"#, None).unwrap();
    assert_eq!(absolute.rootfs, Path::new("/elsewhere"));
}

#[test]
fn null_and_empty_are_absent() {
    let null = r#"{"cgroups": null, "mounts": null, "mkdir": null, "interfaces": null, "bindNS": null, "namespace": null}"#;
    assert_eq!(bundle(null).runtime, Runtime::default());
    assert_eq!(bundle("null").runtime, Runtime::default());
    assert_eq!(bundle("{}").runtime, Runtime::default());
    let inner = r#"{"interfaces": [{"name": "eth1", "add": "", "peer": null, "createInRoot": null}],
        "bindNS": {"net": "", "pid": null}, "namespace": ""}"#;
    let inner = bundle(inner);
    assert_eq!(inner.links(), [Link::Existing { name: "eth1".to_owned() }]);
    assert_eq!(inner.namespace_binds(), []);
    assert_eq!(inner.runtime.namespace, None);
}

#[test]
fn bad_files_are_named_with_the_place() {
    assert_eq!(
        complaint("{\"root\":\n  {\"path\" \"rootfs\"}}", None),
        "service web: services/web/config.json:2:11: expected `:`"
    );
    assert_eq!(
        complaint(r#"{"root": {"path": 5}}"#, None),
        "service web: services/web/config.json:1:19: invalid type: integer `5`, expected path string"
    );
    assert_eq!(complaint("{}", None), "service web: services/web/config.json: root.path is missing");
    assert_eq!(complaint("", None), "service web: services/web/config.json:1:0: EOF while parsing a value");
    assert_eq!(
        complaint(CONFIG, Some("{\"mounts\": [\n{\"options\": \"ro\"}]}")),
        "service web: services/web/runtime.json:2:16: invalid type: string \"ro\", expected a sequence"
    );
    let (_dir, path) = on_disk(CONFIG, None);
    fs::remove_file(path.join("config.json")).unwrap();
    let missing = Bundle::load(&path, Stage::Onboot).unwrap_err().to_string();
    assert!(
        missing.starts_with("onboot web: cannot read ") && missing.contains("/config.json: No such file")
    );
}

#[test]
fn a_list_is_no_object() {
    let runtime =
        |text| complaint(CONFIG, Some(text)).replace("service web: services/web/runtime.json: ", "");
    assert_eq!(runtime("[]"), "a list where an object belongs");
    assert_eq!(runtime(r#"{"bindNS": []}"#), "bindNS: a list where an object belongs");
    let interfaces = r#"{"interfaces": [{"name": "a"}, ["eth0"]]}"#;
    assert_eq!(runtime(interfaces), "interfaces[1]: a list where an object belongs");
    assert_eq!(runtime(r#"{"mounts": [[]]}"#), "mounts[0]: a list where an object belongs");
    let config = r#"{"root": ["rootfs"]}"#;
    let file = "service web: services/web/config.json";
    assert_eq!(complaint(config, None), format!("{file}: root: a list where an object belongs"));
    let config = r#"{"root": {"path": "rootfs"}, "linux": {"namespaces": [["pid"]]}}"#;
    let place = "linux.namespaces[0]: a list where an object belongs";
    assert_eq!(complaint(config, None), format!("{file}: {place}"));
    assert_eq!(complaint(r#"{"root": {"path": ""}}"#, None), format!("{file}: root.path is missing"));
    assert_eq!(complaint(&"[".repeat(100_000), None), format!("{file}:1:128: recursion limit exceeded"));
}

#[test]
fn senseless_requests_are_named_with_their_key() {
    let complaint = |runtime| {
        let text = complaint(CONFIG, Some(runtime));
        text.strip_prefix("service web: services/web/runtime.json: ").unwrap().to_owned()
    };
    assert_eq!(
        complaint(r#"{"mounts": [{"destination": "/a"}, {}]}"#),
        "mounts[1]: a destination is required"
    );
    assert_eq!(complaint(r#"{"mkdir": ["/a", ""]}"#), "mkdir[1]: the path is empty");
    assert_eq!(
        complaint(r#"{"cgroups": ["a/../../b"]}"#),
        "cgroups[0]: \"a/../../b\" is no path below /sys/fs/cgroup"
    );
    assert_eq!(complaint(r#"{"cgroups": ["/"]}"#), "cgroups[0]: \"/\" is no path below /sys/fs/cgroup");
    assert_eq!(complaint(r#"{"interfaces": [{"add": "dummy"}]}"#), "interfaces[0].name: a name is required");
    assert!(
        complaint(r#"{"interfaces": [{"name": "a", "peer": "0123456789abcdef"}]}"#)
            .starts_with("interfaces[0].peer: \"0123456789abcdef\" is no name")
    );
    assert_eq!(complaint(r#"{"bindNS": {"net": "netns/a"}}"#), "bindNS.net: \"netns/a\" is no absolute path");
    assert_eq!(
        complaint(r#"{"interfaces": [{"name": "a", "add": "veth"}]}"#),
        "interfaces[0].peer: a veth pair needs a name for its other end"
    );
    let twice = r#"{"interfaces": [{"name": "a", "peer": "p"}, {"name": "b", "peer": "p"}]}"#;
    assert_eq!(complaint(twice), "interfaces[1].peer: \"p\" is there twice");
    let twice = r#"{"interfaces": [{"name": "a", "add": "dummy"}, {"name": "a"}]}"#;
    assert_eq!(complaint(twice), "interfaces[1].name: \"a\" is there twice");
    // It would be a folder of the direct engine's.
    assert!(complaint(r#"{"namespace": "../x"}"#).starts_with("namespace: \"../x\" is no namespace"));
}

#[test]
fn keys_that_nobody_reads_are_warnings() {
    let runtime = r#"{"mount": [], "mounts": [{"destination": "/a", "opts": []}], "bindNS": {"network": "/x"},
        "interfaces": [{"name": "wg0", "add": "wireguard", "peer": "out", "mtu": 1500}]}"#;
    let (dir, path) = on_disk(CONFIG, Some(runtime));
    let warnings = Bundle::load(&path, Stage::Services).unwrap().warnings;
    let file = dir.path().join("services/web/runtime.json");
    let expected = [
        "unknown key bindNS.network, not used",
        "unknown key interfaces[0].mtu, not used",
        "unknown key mount, not used",
        "unknown key mounts[0].opts, not used",
        "interfaces[0].add: \"wireguard\" is ignored, because peer means a veth pair",
    ];
    assert_eq!(warnings, expected.map(|text| format!("{}: {text}", file.display())));
}

#[test]
fn a_stage_is_listed_by_name_without_what_is_no_bundle() {
    let dir = TempDir::new().unwrap();
    let stage = dir.path().join("onboot");
    for name in ["001-b", "000-a", "010-c.d_e", "a--b", ".git", "-x"] {
        fs::create_dir_all(stage.join(name)).unwrap();
    }
    fs::create_dir(stage.join("x".repeat(77))).unwrap();
    fs::write(stage.join("README"), "").unwrap();
    let listing = list(dir.path(), Stage::Onboot).unwrap();
    let names: Vec<_> =
        listing.paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["000-a", "001-b", "010-c.d_e"]);
    assert_eq!(listing.warnings.len(), 5, "{:?}", listing.warnings);
    assert!(
        listing
            .warnings
            .iter()
            .any(|text| text.ends_with("README is no folder, so it is not a bundle: skipped"))
    );
    assert_eq!(list(dir.path(), Stage::Services).unwrap(), Listing::default());
    fs::write(dir.path().join("services"), "").unwrap();
    let failure = list(dir.path(), Stage::Services).unwrap_err().to_string();
    assert!(
        failure.starts_with("cannot list ") && failure.contains("/services: Not a directory"),
        "{failure}"
    );
}

/// What `linuxkit build` writes for a writable container, with one of
/// everything added.
const EVERYTHING: &str = r#"{
    "namespace": "other",
    "bindNS": {"net": "/run/netns/web", "mnt": "/run/mnt"},
    "interfaces": [{"name": "eth0", "peer": "web0"}, {"name": "wg0", "add": "wireguard", "createInRoot": true},
        {"name": "br0", "add": "bridge"}, {"name": "eth1"}],
    "cgroups": ["a/b"],
    "mkdir": ["/var/lib/web", "data"],
    "mounts": [
        {"source": "tmpfs", "destination": "/c/web/tmp", "type": "tmpfs"},
        {"destination": "/c/web/tmp", "options": ["remount", "private"]},
        {"source": "overlay", "destination": "/c/web/rootfs", "type": "overlay",
         "options": ["lowerdir=/c/web/lower", "upperdir=/c/web/tmp/upper", "workdir=/c/web/tmp/work"]},
        {"source": "/etc", "destination": "etc", "type": "bind", "options": ["rbind", "ro", "nosuid", "rslave"]},
        {"destination": "/x", "options": ["shared"]}
    ]}"#;

#[test]
fn a_plan_has_the_contracts_order() {
    let hierarchy = Hierarchy::Unified {
        root: "/sys/fs/cgroup".into(),
        controllers: vec!["cpu".to_owned(), "memory".to_owned()],
    };
    assert_eq!(
        bundle(EVERYTHING).describe(&hierarchy),
        [
            "mount -t tmpfs tmpfs /c/web/tmp",
            "mount -o remount /c/web/tmp; mount -o private /c/web/tmp",
            "mkdir -m 0755 /c/web/tmp/upper; mkdir -m 0755 /c/web/tmp/work; mount -t overlay -o \
             lowerdir=/c/web/lower,upperdir=/c/web/tmp/upper,workdir=/c/web/tmp/work overlay /c/web/rootfs",
            "mount -o rbind /etc /c/web/rootfs/etc; mount -o bind,nosuid,remount,ro /c/web/rootfs/etc; \
             mount -o rslave /c/web/rootfs/etc",
            "mount -o shared /x",
            "mkdir -m 0755 /var/lib/web",
            "mkdir -m 0755 /c/web/rootfs/data",
            "write \"+cpu\" to /sys/fs/cgroup/cgroup.subtree_control; \
             write \"+memory\" to /sys/fs/cgroup/cgroup.subtree_control; mkdir -m 0755 /sys/fs/cgroup/a; \
             write \"+cpu\" to /sys/fs/cgroup/a/cgroup.subtree_control; \
             write \"+memory\" to /sys/fs/cgroup/a/cgroup.subtree_control; mkdir -m 0755 /sys/fs/cgroup/a/b",
            "create the container",
            "ip link add web0 type veth peer name eth0 netns PID",
            "ip link add wg0 type wireguard; ip link set wg0 netns PID",
            "ip -n PID link add br0 type bridge",
            "ip link set eth1 netns PID",
            "mount -o bind /run/mnt /run/mnt; mount -o private /run/mnt; mount -o bind /proc/PID/ns/mnt /run/mnt",
            "mount -o bind /proc/PID/ns/net /run/netns/web",
        ]
    );
}

#[test]
fn control_groups_of_version_1_are_made_in_every_tree() {
    let text = "20 1 0:2 / / rw - rootfs rootfs rw\n\
        21 20 0:3 / /sys/fs/cgroup rw - tmpfs cgroup rw\n\
        22 21 0:4 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        23 21 0:5 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
    let hierarchy = Hierarchy::new(&MountTable::parse(text.as_bytes()), "");
    assert_eq!(
        plan(r#"{"cgroups": ["/new"]}"#, &hierarchy),
        ["mkdir -m 0755 /sys/fs/cgroup/cpu/new; mkdir -m 0755 /sys/fs/cgroup/systemd/new"]
    );
    let text = "20 1 0:2 / / rw - rootfs rootfs rw\n21 20 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let expected = Hierarchy::Unified {
        root: "/sys/fs/cgroup".into(),
        controllers: vec!["io".to_owned(), "pids".to_owned()],
    };
    assert_eq!(Hierarchy::new(&MountTable::parse(text.as_bytes()), "io pids\n"), expected);
}
