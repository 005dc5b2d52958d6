// SPDX-License-Identifier: Apache-2.0
//! Tests of plans against small trees.

use super::*;
use crate::modules::testing::Tree;

/// `name options <needs <after`, one a step.
fn plan(tree: &Tree, wanted: &[&str]) -> Vec<String> {
    let tables = tree.tables();
    assert_eq!(tables.complaints(), []);
    let mut planner = Planner::new(&tables);
    for wanted in wanted {
        planner.want(wanted, Blacklist::Aliases);
    }
    let plan = planner.finish();
    for (index, step) in plan.steps.iter().enumerate() {
        let before = |name: &ModuleName| plan.steps[..index].iter().any(|step| step.name == *name);
        assert!(step.after.iter().all(before), "{step:?} comes too early");
    }
    let list = |names: &[ModuleName]| names.iter().map(|name| format!(" <{name}")).collect::<String>();
    plan.steps
        .iter()
        .map(|step| format!("{}{}{}", step.name, list(&step.needs), list(&step.after).replace('<', "~")))
        .collect()
}

fn virtio() -> Tree {
    Tree::of(&[
        "virtio-blk: virtio virtio_ring",
        "virtio: virtio_ring",
        "virtio_ring",
        "virtio_net: virtio virtio_ring",
        "crc32c_intel",
    ])
    .aliases(&["virtio:d00000002v* virtio_blk", "virtio:d*v* virtio-net", "crypto-crc32c crc32c_intel"])
}

#[test]
fn dependencies_come_first_and_once() {
    assert_eq!(
        plan(&virtio(), &["virtio:d00000002v00001AF4", "virtio-blk", "virtio:d00000001v00001AF4"]),
        [
            "virtio_ring",
            "virtio <virtio_ring",
            "virtio_blk <virtio_ring <virtio",
            "virtio_net <virtio_ring <virtio"
        ]
    );
}

#[test]
fn the_blacklist_is_for_aliases() {
    let tree = virtio().config("blacklist virtio_net\nblacklist virtio\n");
    let tables = tree.tables();
    let mut planner = Planner::new(&tables);
    let both = vec![ModuleName::new("virtio_blk"), ModuleName::new("virtio_net")];
    assert_eq!(planner.want("virtio:d00000002v1", Blacklist::Aliases), Found::ByAlias(both));
    assert_eq!(planner.plan.blacklisted, [ModuleName::new("virtio_net")]);
    assert_eq!(planner.plan.steps.len(), 3, "a dependency is loaded though it is blacklisted");
    planner.want("virtio-net", Blacklist::Names);
    assert_eq!(planner.plan.steps.len(), 3);
    planner.want("virtio-net", Blacklist::Aliases);
    assert_eq!(planner.plan.steps.len(), 4);
}

#[test]
fn options_of_files_command_line_and_alias() {
    let tree = virtio()
        .config("options virtio_blk a=1\noptions virtio-blk b=2\noptions myblk c=3\nalias myblk virtio-blk\n")
        .cmdline("virtio-blk.d=4");
    let tables = tree.tables();
    let last = |wanted: &str| {
        let mut planner = Planner::new(&tables);
        planner.want(wanted, Blacklist::Aliases);
        planner.finish().steps.pop().unwrap().to_string()
    };
    let file = tree.path().join("modules/kernel/virtio-blk.ko");
    assert_eq!(last("virtio_blk"), format!("insmod {} a=1 b=2 d=4", file.display()));
    assert_eq!(last("myblk"), format!("insmod {} a=1 b=2 d=4 c=3", file.display()));
}

#[test]
fn soft_dependencies() {
    let tree = virtio().config(
        "softdep virtio_blk pre: crypto-crc32c nosuch post: virtio_net\nsoftdep virtio-blk pre: virtio\n",
    );
    assert_eq!(
        plan(&tree, &["virtio_blk"]),
        [
            "virtio_ring",
            "virtio <virtio_ring",
            "crc32c_intel",
            "virtio_blk <virtio_ring <virtio ~crc32c_intel",
            "virtio_net <virtio_ring <virtio ~virtio_blk"
        ]
    );
}

#[test]
fn circles_end() {
    let soft = Tree::of(&["a", "b"]).config("softdep a pre: b\nsoftdep b pre: a post: a\n");
    assert_eq!(plan(&soft, &["a"]), ["b", "a ~b"]);
    // c needs a, and a would like b and so c before it: c has to wait.
    let mixed = Tree::of(&["a", "b", "c: a"]).config("softdep a pre: b\nsoftdep b pre: c\n");
    assert_eq!(plan(&mixed, &["a"]), ["b", "a ~b", "c <a"]);
    let hard = Tree::of(&["a: b", "b: a"]);
    assert_eq!(plan(&hard, &["a"]).len(), 2);
}

#[test]
fn a_disabled_module_is_a_step_that_says_so() {
    let tree = virtio().config("install virtio /bin/false\n").cmdline("module_blacklist=virtio_ring");
    let tables = tree.tables();
    let mut planner = Planner::new(&tables);
    planner.want("virtio_blk", Blacklist::Aliases);
    let shown: Vec<String> = planner.finish().steps.iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], "# virtio_ring: module_blacklist= of the kernel command line");
    assert_eq!(shown[1], "install /bin/false ");
    assert!(shown[2].starts_with("insmod "));
}

#[test]
fn lookups_go_in_the_order_of_modprobe() {
    let tree = Tree::of(&["real", "other"])
        .aliases(&["real other", "thing real", "thing other"])
        .config("alias configured other\nalias gone off\n");
    tree.write("modules/modules.builtin", "kernel/fs/ext4/ext4.ko\n");
    tree.write("modules/modules.builtin.modinfo", "unix.alias=net-pf-1\0");
    tree.write("modules/modules.symbols", "alias symbol:some_call real\n");
    let tables = tree.tables();
    let by_alias = |names: &[&str]| Found::ByAlias(names.iter().map(|name| ModuleName::new(name)).collect());
    assert_eq!(tables.lookup("real"), Found::Module(ModuleName::new("real")));
    assert_eq!(tables.lookup("configured"), by_alias(&["other"]));
    assert_eq!(tables.lookup("thing"), by_alias(&["real", "other"]));
    assert_eq!(tables.lookup("symbol:some_call"), by_alias(&["real"]));
    assert_eq!(tables.lookup("ext4"), Found::Builtin);
    assert_eq!(tables.lookup("nothing"), Found::Nothing);
    assert!(tables.is_builtin_alias("net-pf-1") && !tables.is_builtin_alias("net-pf-2"));
    assert!(plan(&tree, &["gone"]).is_empty());
}

#[test]
fn missing_tables_are_named() {
    let tree = Tree::new();
    std::fs::remove_file(tree.path().join("modules/modules.dep")).unwrap();
    let complaints: Vec<String> = tree.tables().complaints().iter().map(ToString::to_string).collect();
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].contains("modules/modules.dep: cannot be read: No such file"), "{complaints:?}");
    std::fs::remove_dir_all(tree.path().join("modules")).unwrap();
    assert_eq!(tree.tables().complaints(), []);
}
