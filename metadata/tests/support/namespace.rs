// SPDX-License-Identifier: Apache-2.0
//! A network of the test's own: a thread that is alone in a network and a
//! mount namespace, with the loopback interface up. Servers and programs that
//! it starts are in there with it, and nothing leaves.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `test` in there; says loudly if that takes root and is left out.
pub fn inside(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("LEFT OUT: a network namespace of one's own takes root");
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount::<str, str, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None).unwrap();
        init::net::loopback_up().unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// ip(8) with these words.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives the loopback interface another address, as services on the link have.
pub fn address(address: &str) {
    ip(&format!("address add {address} dev lo nodad"));
}

/// A link that is up, with an address and a default route, at whose other end
/// nobody answers. With `arp` off packets leave for an address nobody has.
pub fn dead_end(arp: &str) {
    ip("link add here type veth peer name there");
    ip("link set there up");
    ip(&format!("link set here up arp {arp}"));
    ip("address add 10.0.0.2/24 dev here");
    ip("route add default via 10.0.0.1");
}

/// Puts a file in place of another for everybody in there.
pub fn replace(path: &str, dir: &Path, text: &str) {
    let own = dir.join(path.replace('/', "-"));
    fs::write(&own, text).unwrap();
    mount::<Path, str, str, str>(Some(&own), path, None, MsFlags::MS_BIND, None).unwrap();
}
