// SPDX-License-Identifier: Apache-2.0
//! modprobe's output and outcome, against a kernel that notes what it is given.

use std::sync::Mutex;

use nix::errno::Errno;

use super::*;
use crate::modules::testing::Tree;

#[derive(Default)]
struct Noted {
    inserted: Mutex<Vec<String>>,
    live: Vec<&'static str>,
    refused: Vec<(&'static str, Errno)>,
}

impl ModuleKernel for Noted {
    fn is_live(&self, name: &ModuleName) -> bool {
        self.live.contains(&name.as_str())
    }

    fn insert(&self, step: &Step) -> Result<(), InsertError> {
        match self.refused.iter().find(|(name, _)| *name == step.name.as_str()) {
            Some((_, errno)) => Err(InsertError::Kernel { path: step.file.clone(), source: (*errno).into() }),
            None => {
                self.inserted.lock().unwrap().push(format!("{} {}", step.name, step.options));
                Ok(())
            }
        }
    }
}

fn tree() -> Tree {
    let tree = Tree::of(&["virtio_ring", "virtio: virtio_ring", "virtio_blk: virtio virtio_ring", "dummy"])
        .aliases(&["net-pf-40 dummy", "net-pf-40 virtio_blk"]);
    tree.write("modules/modules.builtin", "kernel/net/unix/unix.ko\n");
    tree.write("modules/modules.builtin.modinfo", "unix.alias=net-pf-1\0");
    tree
}

/// Standard output with the tree's path cut off, and whether it failed.
fn run(tree: &Tree, kernel: &Noted, words: &str) -> (String, bool) {
    let Ok(Parsed::Run(args)) = parse(words.split(' ').map(OsString::from)) else { panic!("{words}") };
    let mut log = Log { to_kernel_log: false, failed: false };
    let place = tree.place();
    let mut modprobe =
        Modprobe { args: &args, tables: Tables::read(&place), sys: &place.sys, kernel, log: &mut log };
    let mut out = Vec::new();
    modprobe.run(&mut out);
    let out = String::from_utf8(out).unwrap().replace(&format!("{}/", tree.path().display()), "");
    (out, log.failed)
}

const SHOWN: &str = "insmod modules/kernel/virtio_ring.ko \ninsmod modules/kernel/virtio.ko \n\
    insmod modules/kernel/virtio_blk.ko a=1\n";

#[test]
fn loads_in_order_with_options() {
    let kernel = Noted { live: vec!["virtio_ring"], ..Noted::default() };
    assert_eq!(run(&tree(), &kernel, "virtio-blk a=1 b=2"), (String::new(), false));
    assert_eq!(*kernel.inserted.lock().unwrap(), ["virtio ", "virtio_blk a=1 b=2"]);
    let (out, failed) =
        run(&tree(), &Noted { live: vec!["virtio_ring", "virtio"], ..Noted::default() }, "-v virtio_blk");
    assert_eq!((out.as_str(), failed), ("insmod modules/kernel/virtio_blk.ko \n", false));
}

#[test]
fn showing_changes_nothing() {
    let kernel = Noted::default();
    assert_eq!(run(&tree(), &kernel, "-D virtio_blk a=1"), (SHOWN.to_owned(), false));
    assert_eq!(run(&tree(), &kernel, "-nv virtio_blk a=1"), (SHOWN.to_owned(), false));
    assert_eq!(run(&tree(), &kernel, "-n virtio_blk"), (String::new(), false));
    assert_eq!(run(&tree(), &kernel, "-D unix"), ("builtin unix\n".to_owned(), false));
    assert_eq!(run(&tree(), &kernel, "-R net-pf-40"), ("dummy\nvirtio_blk\n".to_owned(), false));
    assert!(kernel.inserted.lock().unwrap().is_empty());
}

#[test]
fn what_is_not_there() {
    let kernel = Noted::default();
    assert!(run(&tree(), &kernel, "-q -- nope").1);
    assert!(run(&tree(), &kernel, "-aq nope dummy").1);
    assert_eq!(*kernel.inserted.lock().unwrap(), ["dummy "], "the others of -a are loaded");
    assert!(!run(&tree(), &kernel, "unix").1 && !run(&tree(), &kernel, "net-pf-1").1);
    assert!(run(&tree(), &kernel, "-r unix").1);
}

#[test]
fn a_need_that_fails_fails_the_command_and_a_soft_one_does_not() {
    let kernel = Noted { refused: vec![("virtio", Errno::ENOEXEC)], ..Noted::default() };
    assert!(run(&tree(), &kernel, "virtio_blk").1);
    assert_eq!(*kernel.inserted.lock().unwrap(), ["virtio_ring "]);
    let soft = tree().config("softdep dummy pre: virtio post: virtio_blk\n");
    assert!(!run(&soft, &kernel, "dummy").1);
}

#[test]
fn switched_off_modules() {
    let tree = tree().config("install dummy /bin/true\ninstall virtio_blk /bin/false\nblacklist virtio\n");
    let kernel = Noted::default();
    assert!(!run(&tree, &kernel, "dummy").1);
    assert!(run(&tree, &kernel, "virtio_blk").1);
    assert_eq!(run(&tree, &kernel, "-D dummy"), ("install /bin/true \n".to_owned(), false));
    assert!(!run(&tree, &kernel, "-b virtio").1);
    assert_eq!(*kernel.inserted.lock().unwrap(), ["virtio_ring ", "virtio "], "as needs of virtio_blk");
    assert!(!run(&tree, &kernel, "-i dummy").1);
    assert_eq!(kernel.inserted.lock().unwrap()[2], "dummy ");
}

#[test]
fn removal_looks_at_the_users_first() {
    let tree = tree();
    for (module, count) in [("virtio_blk", "0\n"), ("virtio", "1\n"), ("dummy", "2\n")] {
        tree.write(&format!("sys/module/{module}/refcnt"), count);
    }
    tree.write("sys/module/virtio_ring/parameters/x", "");
    let kernel = Noted::default();
    assert_eq!(run(&tree, &kernel, "-rnv virtio_blk"), ("rmmod virtio_blk\n".to_owned(), false));
    assert!(run(&tree, &kernel, "-rn dummy").1, "in use");
    assert!(run(&tree, &kernel, "-rn virtio_ring").1, "built in");
    assert!(run(&tree, &kernel, "-rn nope").1);
}
