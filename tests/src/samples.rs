// SPDX-License-Identifier: Apache-2.0
//! YAML that many tests begin with.

/// The `init:` images of most tests.
pub const CONTAINERD: &[&str] = &["lkinit/init", "lkinit/runc", "lkinit/containerd"];

/// What a service does that has nothing to do and ends as soon as it is asked
/// to. YAML that goes through [`yaml`] has it as `command: POLITE`.
const POLITE: &str = "[/bin/sh, -c, 'trap \"exit 0\" TERM; sleep 100000 & wait']";

/// An image with Debian 12's kernel, these `init:` images, and `rest`: the
/// sections `onboot`, `services`, `files`, `volumes`.
pub fn yaml(init: &[&str], rest: &str) -> String {
    with_kernel("6.1", init, rest)
}

/// The same with another kernel: a tag of `lkinit/kernel`.
pub fn with_kernel(kernel: &str, init: &[&str], rest: &str) -> String {
    let rest = rest.replace("command: POLITE", &format!("command: {POLITE}"));
    let init: String = init.iter().map(|image| format!("  - {image}\n")).collect();
    format!("kernel:\n  image: lkinit/kernel:{kernel}\n  cmdline: console=ttyS0\ninit:\n{init}{rest}")
}

/// Two onboot containers and two services, each of which leaves a trace.
pub const TYPICAL: &str = "
onboot:
  - name: sysctl
    image: lkinit/sysctl
    binds: ['/etc/sysctl.d:/etc/sysctl.d']
  - name: hello
    image: lkinit/busybox
    command: [/bin/sh, -c, 'echo hello from onboot; echo to stderr >&2']
onshutdown:
  - name: bye
    image: lkinit/busybox
    command: [/bin/echo, goodbye from onshutdown]
services:
  - name: talker
    image: lkinit/busybox
    command: [/bin/sh, -c, 'trap \"exit 0\" TERM; echo talker out; echo talker err >&2; sleep 100000 & wait']
  - name: sleeper
    image: lkinit/busybox
    command: POLITE
files:
  - path: etc/sysctl.d/10-test.conf
    contents: 'kernel.panic_on_oops = 1'
";
