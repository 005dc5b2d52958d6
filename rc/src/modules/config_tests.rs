// SPDX-License-Identifier: Apache-2.0
//! Tests of modprobe.d's statements.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> (Config, Vec<String>) {
    let mut config = Config::default();
    let mut complaints = Vec::new();
    config.parse("/etc/modprobe.d/x.conf", text, &mut complaints);
    (config, complaints.iter().map(ToString::to_string).collect())
}

fn name(text: &str) -> ModuleName {
    ModuleName::new(text)
}

#[test]
fn every_statement() {
    let (config, complaints) = parse(
        "# a comment \\\n\
         options virtio_blk skipped=1\n\
         \t options virtio-blk queue_depth=8\n\
         options virtio_blk num=2 \\\n   foo=\"a b\"\n\
         alias my-blk virtio-blk\n\
         alias pci:v0000[1-2]* off\n\
         options my_blk viaalias=1\n\
         blacklist   virtio-net \n\
         install vsock /bin/false\n\
         install snd* /usr/bin/true # no sound\n\
         softdep virtio-blk ignored pre: crypto-crc32c a post: b pre: c\n\
         weakdep a b\n",
    );
    assert!(complaints.is_empty(), "{complaints:?}");
    let blk = name("virtio_blk");
    assert_eq!(config.options(&blk, Some("virtio_blk")), "queue_depth=8 num=2    foo=\"a b\"");
    assert_eq!(config.options(&blk, Some("my_blk")), "queue_depth=8 num=2    foo=\"a b\" viaalias=1");
    assert_eq!(config.options(&name("other"), None), "");
    assert_eq!(config.aliases("my_blk").collect::<Vec<_>>(), [&blk]);
    assert_eq!(config.aliases("pci:v00002").collect::<Vec<_>>(), [&name("off")]);
    assert!(config.is_blacklisted(&name("virtio_net")) && !config.is_blacklisted(&blk));
    assert_eq!(config.disabled(&name("vsock")).unwrap().command, "/bin/false");
    assert_eq!(config.disabled(&name("snd_hda")).unwrap().origin.to_string(), "/etc/modprobe.d/x.conf:11");
    assert!(config.disabled(&blk).is_none());
    let softdep: Vec<_> = config.softdeps(&blk).collect();
    assert_eq!(softdep[0].pre, ["crypto_crc32c", "a", "c"]);
    assert_eq!(softdep[0].post, ["b"]);
}

#[test]
fn a_bad_line_is_named_and_the_rest_counts() {
    let (config, complaints) = parse(
        "options nosuch\nbad line\nblacklist\nalias x\ninstall\nsoftdep a\n\
         install usb-storage /sbin/modprobe --ignore-install usb-storage && echo 1\n\
         remove a \\\n  /bin/true\nblacklist good\nalias pci:[0-9 m\n",
    );
    assert!(config.is_blacklisted(&name("good")));
    assert!(config.disabled(&name("usb_storage")).is_none() && config.disabled(&name("a")).is_none());
    let starts = [
        ":1: `options` needs a module and an option",
        ":2: `bad` is no statement of modprobe.d",
        ":3: `blacklist` needs a module;",
        ":4: `alias` needs an alias and a module",
        ":5: `install` needs a module and a command",
        ":6: `softdep` needs",
        ":7: `install` commands are not run; usb-storage is handled as if",
        ":8: `remove` commands are not run; a is",
        ":11: the alias has brackets without a counterpart",
    ];
    assert_eq!(complaints.len(), starts.len(), "{complaints:#?}");
    for (complaint, start) in complaints.iter().zip(starts) {
        assert!(complaint.starts_with(&format!("/etc/modprobe.d/x.conf{start}")), "{complaint}");
    }
}

#[test]
fn the_kernel_command_line() {
    let mut config = Config::default();
    config.read_cmdline(&Cmdline::parse(
        r#"quiet virtio-blk.queue_depth=4 modprobe.blacklist=a-b,,c module_blacklist=kvm loop.flag x.y="p q" .z= w."#,
    ));
    assert_eq!(config.options(&name("virtio_blk"), None), "queue_depth=4");
    assert_eq!(config.options(&name("loop"), None), "flag");
    assert_eq!(config.options(&name("x"), None), "y=\"p q\"");
    assert!(config.is_blacklisted(&name("a_b")) && config.is_blacklisted(&name("c")));
    assert_eq!(
        config.disabled(&name("kvm")).unwrap().origin.to_string(),
        "module_blacklist= of the kernel command line"
    );
}

#[test]
fn the_earlier_directory_wins_and_names_give_the_order() {
    let root = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = root.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (etc, lib, absent) = (directory("etc"), directory("lib"), root.path().join("absent"));
    std::fs::write(etc.join("b.conf"), "options m from=etc-b\n").unwrap();
    std::fs::write(lib.join("b.conf"), "options m from=lib-b\n").unwrap();
    std::fs::write(lib.join("a.conf"), "options m from=lib-a\n").unwrap();
    std::fs::write(lib.join("c.txt"), "options m from=txt\n").unwrap();
    std::fs::create_dir(lib.join("d.conf")).unwrap();
    let mut config = Config::default();
    let mut complaints = Vec::new();
    config.read_directories(&[etc, absent, lib.clone()], &mut complaints);
    assert_eq!(config.options(&name("m"), None), "from=lib-a from=etc-b");
    assert_eq!(complaints.len(), 1);
    assert!(
        complaints[0].to_string().starts_with(&format!("{}: cannot be read", lib.join("d.conf").display()))
    );
}

#[test]
fn a_damaged_file_is_few_lines_and_none_that_a_terminal_acts_upon() {
    let word = format!("\u{1b}[2J{}", "x".repeat(500));
    let (_, complaints) = parse(&format!("{word}\n").repeat(100));
    assert_eq!(complaints.len(), MISTAKES, "{complaints:?}");
    let last = complaints.last().unwrap().to_string();
    assert!(last.ends_with("left out, and so are 90 more of this file"), "{last}");
    assert!(last.len() < 200 && !last.contains('\u{1b}'), "{last:?}");
}

proptest! {
    #[test]
    fn any_text_is_read(text in "([a-z]{0,8}|alias|options|install|softdep|pre:|[ \t\n\\\\#*]){0,40}") {
        let lines = text.lines().count();
        let (_, complaints) = parse(&text);
        prop_assert!(complaints.len() <= lines);
    }
}
