// SPDX-License-Identifier: Apache-2.0
//! vsudd as a service of a booted image: over vsock's loopback inside the
//! machine, and between the machine and its host.
//!
//! `LKINIT_SOAK=N` makes N times as many connections of everything, and 500 N
//! of those that are to leave nothing behind (`make soak`: 25,000).

use std::fs;
use std::io::Read as _;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pkg::tree::Content;
use socket2::Socket;
use tests::examples::image;
use tests::image::Image;
use tests::inside::Inside as _;
use tests::load::client::{Plan, stress};
use tests::load::{Mode, Request, client, serve};
use tests::machine::Machine;
use tests::paths;
use tests::samples::yaml;
use tests::vhost::Device;
use tests::vm::{PATIENCE, Vm};

/// Without containerd: it is not what is tried here.
const DIRECT: &[&str] = &["lkinit/init", "lkinit/crun"];

/// How long something takes at most that takes an instant.
const LONG: Duration = tests::vm::PATIENCE;

/// What is forwarded to, in a service of its own that can be restarted; it
/// ends as in a crash.
const TARGET: &str = "
  - name: target
    image: lkinit/busybox
    binds: ['/run:/run', '/opt:/opt']
    command: [/opt/vsock-load, serve, 'unix:/run/load/target', 'vsock:1:5001']
    annotations:
      lkinit.stop-signal: SIGKILL
";

/// A vsudd without a PID namespace of its own is like any program; this one
/// has the defaults of its image.
const LOOPBACK: &str = "
services:
  - name: vsudd
    image: lkinit/vsudd
    binds: ['/run:/run']
    runtime:
      mkdir: [/run/load]
    command: [/vsudd, -inport, '5000:unix:/run/load/target', -outport, '/run/load/out:5001:local', -retry, 20s]
  - name: detached
    image: lkinit/vsudd
    binds: ['/run:/run']
    command: [/vsudd, --detach, --pidfile=/run/detached.pid, -inport,
      '00001392-facb-11e6-bd58-64006a7986d3:unix:/run/load/target']
";

/// Both ways over the host's device; ready when the host takes its word.
const HOST: &str = "
services:
  - name: vsudd
    image: lkinit/vsudd
    binds: ['/run:/run']
    runtime:
      mkdir: [/run/load]
    command: [/vsudd, -v, -inport, '5000:unix:/run/load/target', -outport, '/run/load/out:6000', -ready, '6001',
      -syslog, '6002:/run/load/log', -retry, 20s]
    annotations:
      lkinit.ready: exec:/vsudd -ready 6003 -retry 1s
      lkinit.ready-timeout: 240s
";

/// How many times as much as a test in a hurry does.
fn soak() -> u32 {
    std::env::var("LKINIT_SOAK").ok().and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// An image with vsudd, these services, and the programs that load it.
fn machine(name: &str, init: &[&str], services: &str) -> Result<Machine> {
    let image = Image::new(&yaml(init, &format!("{services}{}", TARGET.trim_start_matches('\n'))))?;
    let image = image.change(|root| {
        for (path, program) in [
            ("opt/vsock-load", env!("CARGO_BIN_EXE_vsock-load")),
            ("opt/forwarding", env!("CARGO_BIN_EXE_vsudd-forwarding")),
        ] {
            root.file(path, 0o755, Content::from_path(program.as_ref())?)?;
        }
        Ok(())
    })?;
    image.machine(name)
}

/// The numbers of a line of `vsock-load`: `NAME=NUMBER`.
fn number(text: &str, name: &str) -> Result<u64> {
    let words = text.split_whitespace().filter_map(|word| word.split_once('='));
    let found = words.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok());
    found.with_context(|| format!("no {name}= in {text:?}"))
}

/// The process of the service `name`, once there is one.
fn pid(vm: &mut Vm, name: &str) -> Result<String> {
    let status = vm.sh("service status")?;
    let line =
        status.lines().find(|line| line.split_whitespace().next() == Some(name)).context(status.clone())?;
    // The process is the program itself: its end is the service's.
    let pids = vm.sh(&format!("for p in $(pidof {name}); do echo $p; done"))?;
    let mut pids = pids.split_whitespace();
    let pid = pids.find(|pid| line.split_whitespace().any(|word| word == *pid));
    Ok(pid.with_context(|| format!("{name} does not run: {line}"))?.to_owned())
}

#[test]
fn vsudd_forwards_over_loopback_as_a_service() -> Result<()> {
    let name = "vsock-loopback";
    let machine = machine(name, DIRECT, LOOPBACK)?.append("lkinit.engine=direct");
    Vm::run(name, machine, |vm| {
        for _ in 0..3 {
            vm.expect(r"^lkinit: .* service (vsudd|detached|target): running")?;
        }
        settled(vm, &["vsock:1:5000", "unix:/run/load/out", "vsock:1:5010"])?;
        vm.check("it is confined", confined);
        vm.check("in, with ends of all kinds", |vm| whole(vm, "vsock:1:5000"));
        vm.check("out, with ends of all kinds", |vm| whole(vm, "unix:/run/load/out"));
        vm.check("detached, by a GUID", |vm| {
            // The first of its own namespace: it may not leave its place.
            let pid = vm.sh("cat /run/detached.pid")?;
            ensure!(pid == "1", "the pid file says {pid:?}");
            whole(vm, "vsock:1:5010")
        });
        vm.check("each way a connection ends", cases);
        vm.check("while services restart", restarts);
        vm.check("after it was killed", killed);
        Ok(())
    })
}

/// Waits until every place serves: a service runs a while before its socket
/// does, and the first socket of a kind waits for the kernel's modules.
fn settled(vm: &mut Vm, places: &[&str]) -> Result<()> {
    let once = "until /opt/vsock-load stress $place 1 1 10 | grep -q whole=1; do sleep 0.2; done";
    vm.sh(&format!("for place in {}; do {once}; done", places.join(" "))).map(drop)
}

/// The state of the service's own process, as the kernel has it.
fn confined(vm: &mut Vm) -> Result<()> {
    let pid = pid(vm, "vsudd")?;
    let status = vm.sh(&format!("cat /proc/{pid}/status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        ensure!(field(set) == Some("0000000000000000"), "{set} {:?}", field(set));
    }
    ensure!(field("NoNewPrivs:") == Some("1") && field("Seccomp:") == Some("2"), "{status}");
    ensure!(field("Threads:") == Some("1"), "{status}");
    let log = vm.sh("cat /var/log/vsudd.log")?;
    ensure!(log.contains("forward vsock::5000 to unix:/run/load/target"), "{log}");
    Ok(())
}

/// Connections of all kinds to a place, none of which may break.
fn whole(vm: &mut Vm, place: &str) -> Result<()> {
    let connections = 100 * soak();
    let outcome = vm.sh(&format!("/opt/vsock-load stress {place} {connections} 8 400000"))?;
    eprintln!("    {connections} connections to {place}: {}", outcome.trim());
    ensure!(number(&outcome, "broken")? == 0, "{outcome}");
    let all = number(&outcome, "whole")? + number(&outcome, "abandoned")?;
    ensure!(all == u64::from(connections) && number(&outcome, "bytes")? > 0, "{outcome}");
    Ok(())
}

/// The tests of `vsudd/tests/forwarding`, which elsewhere run over unix
/// sockets, with this image's program over vsock.
fn cases(vm: &mut Vm) -> Result<()> {
    // A copy of the tests is run as another user; not from /tmp, which is noexec.
    vm.sh("mount -t tmpfs cases /mnt")?;
    forwarding(vm, 300, "")?;
    match soak() {
        1 => Ok(()),
        times => forwarding(vm, 500 * times, "many_connections"),
    }
}

/// Those with this in their name, one of which makes so many connections.
fn forwarding(vm: &mut Vm, connections: u32, filter: &str) -> Result<()> {
    let program = vm.sh("ls /containers/services/vsudd/*/vsudd | head -n 1")?;
    let on = format!("VSUDD_ON_VSOCK={} VSUDD_CONNECTIONS={connections}", program.trim());
    // It is many tests in one, and five minutes on a host with a load of twenty.
    let output = vm.try_sh_within(&format!("TMPDIR=/mnt {on} /opt/forwarding {filter}"), 5 * PATIENCE)?;
    let shown = output.text.lines().filter(|line| line.starts_with("test ") || line.starts_with("    "));
    shown.for_each(|line| eprintln!("    {line}"));
    ensure!(output.status == 0 && output.text.contains(" 0 failed"), "{}", output.text);
    ensure!(output.text.contains("cases over vsock, "), "{}", output.text);
    Ok(())
}

/// Whatever ends, no byte is wrong, and everything works again afterwards.
fn restarts(vm: &mut Vm) -> Result<()> {
    let connections = 300 * soak();
    let load = |place: &str, file: &str| {
        format!("/opt/vsock-load stress {place} {connections} 4 100000 >/run/{file} 2>&1 &")
    };
    vm.sh(&format!("{} {}", load("vsock:1:5000", "in"), load("unix:/run/load/out", "out")))?;
    for name in ["target", "vsudd", "target"] {
        vm.sh(&format!("service restart {name}"))?;
    }
    vm.sh("while pidof vsock-load | grep -q ' '; do sleep 0.2; done")?;
    for file in ["in", "out"] {
        let outcome = vm.sh(&format!("cat /run/{file}"))?;
        eprintln!("    {file}, while target, vsudd and target restarted: {}", outcome.trim());
        ensure!(!outcome.contains("WRONG") && number(&outcome, "whole")? > 0, "{outcome}");
    }
    ensure!(!vm.sh("cat /var/log/target.log")?.contains("WRONG"));
    whole(vm, "vsock:1:5000")?;
    whole(vm, "unix:/run/load/out")
}

fn killed(vm: &mut Vm) -> Result<()> {
    let before = pid(vm, "vsudd")?;
    vm.sh(&format!("kill -9 {before}"))?;
    vm.expect(r"^lkinit: .* service vsudd: failed: exit status 137")?;
    vm.expect(r"^lkinit: .* service vsudd: running")?;
    settled(vm, &["vsock:1:5000"])?;
    ensure!(pid(vm, "vsudd")? != before);
    whole(vm, "vsock:1:5000")
}

#[test]
fn vsudd_joins_host_and_guest() -> Result<()> {
    let name = "vsock-host";
    let device = Device::start(name)?;
    let machine = device.attach(machine(name, DIRECT, HOST)?);
    let ready = host(&device, 6001)?;
    let messages = device.host(6002).listen()?;
    Vm::run(name, machine, |vm| {
        vm.expect(r"^lkinit: .* service target: running")?;
        vm.check("the host is told when everything is in place", |_| {
            let said = ready.recv_timeout(LONG).context("nothing was said")?;
            ensure!(said == b"READY=1\n", "{:?}", String::from_utf8_lossy(&said));
            Ok(())
        });
        vm.check("lkinit.ready asks the host", |vm| {
            vm.until("service status | grep '^vsudd .* readying '")
                .context("nobody listens on the host's port yet")?;
            let asked = host(&device, 6003)?;
            let said = asked.recv_timeout(LONG).context("nothing was said")?;
            ensure!(said == b"READY=1\n", "{:?}", String::from_utf8_lossy(&said));
            vm.expect(r"^lkinit: .* service vsudd: ready after ").map(drop)
        });
        vm.check("from the host", |_| from_host(&device));
        vm.check("to the host", |vm| to_host(vm, &device));
        vm.check("messages, and the last again", |vm| syslog(vm, &messages));
        vm.check("nothing was said to be wrong", |vm| {
            ensure!(!vm.sh("cat /var/log/target.log")?.contains("WRONG"));
            Ok(())
        });
        Ok(())
    })
    .with_context(|| format!("the device has said:\n{}", device.log()))
}

/// What the first connection to a port of the host says.
fn host(device: &Device, port: u32) -> Result<mpsc::Receiver<Vec<u8>>> {
    let listener = device.host(port).listen()?;
    let (said, hears) = mpsc::channel();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept()?;
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes)?;
        let _ = said.send(bytes);
        std::io::Result::Ok(())
    });
    Ok(hears)
}

fn from_host(device: &Device) -> Result<()> {
    let guest = device.guest(5000);
    let plan = Plan { connections: 100 * soak(), at_once: 4, most: 400_000, ends: false };
    let outcome = stress(&guest, plan)?;
    eprintln!("    {} connections: {outcome}", plan.connections);
    ensure!(outcome.whole == plan.connections, "{outcome}");
    let bytes = 64 << 20;
    let start = Instant::now();
    client::connection(&guest, Request { mode: Mode::Duplex, seed: 3, there: bytes, back: bytes })?;
    eprintln!("    {bytes} bytes each way at the same time in {:.1} s", start.elapsed().as_secs_f32());
    let nobody = device.guest(5999).connect();
    ensure!(nobody.is_err(), "a port nobody listens on answers");
    Ok(())
}

fn to_host(vm: &mut Vm, device: &Device) -> Result<()> {
    let listener = device.host(6000).listen()?;
    thread::spawn(move || serve::serve_on(&listener));
    let connections = 100 * soak();
    let outcome =
        vm.sh(&format!("/opt/vsock-load stress unix:/run/load/out {connections} 4 400000 whole"))?;
    eprintln!("    {connections} connections: {}", outcome.trim());
    ensure!(number(&outcome, "whole")? == u64::from(connections), "{outcome}");
    Ok(())
}

#[test]
fn the_example_gives_containerd_to_the_host() -> Result<()> {
    let name = "example-vsudd-containerd";
    let device = Device::start(name)?;
    device.bridge("containerd.sock", 2374)?;
    let machine = device.attach(image("vsudd-containerd")?.machine(name)?);
    Vm::run(name, machine, |vm| {
        for _ in 0..2 {
            vm.expect(r"^lkinit: .* service (vsudd|getty): running")?;
        }
        reached(&device)?;
        vm.check("content goes there and back", |_| content(&device));
        vm.check("a container that the host starts", |vm| container(vm, &device));
        vm.check("after containerd was killed", |vm| {
            vm.sh("kill -9 $(pidof containerd)")?;
            vm.expect("^lkinit: .* containerd: .* ready in")?;
            ensure!(tasks(&device, "apps")?.lines().any(|line| line.starts_with("probe ")));
            Ok(())
        });
        Ok(())
    })
    .with_context(|| format!("the device has said:\n{}", device.log()))
}

/// Waits until vsudd listens, which is a moment after it runs.
fn reached(device: &Device) -> Result<()> {
    let end = Instant::now() + LONG;
    while let Err(error) = ctr(device, &["version"]) {
        ensure!(Instant::now() < end, "not within {LONG:?}: {error:#}");
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Debian's `ctr`, on the host, of the package that the image's containerd
/// comes from; what it prints.
fn ctr(device: &Device, words: &[&str]) -> Result<Vec<u8>> {
    let ctr = paths::target().join("debian/bookworm/root-containerd/usr/bin/ctr").canonicalize()?;
    let mut command = Command::new(ctr);
    command.current_dir(device.folder()).args(["--address", "containerd.sock"]).args(words);
    if words.contains(&"ingest") {
        command.stdin(fs::File::open(device.folder().join("blob"))?);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn tasks(device: &Device, namespace: &str) -> Result<String> {
    Ok(String::from_utf8(ctr(device, &["--namespace", namespace, "tasks", "ls"])?)?)
}

/// More than fits into one message of any layer.
fn content(device: &Device) -> Result<()> {
    ensure!(String::from_utf8(ctr(device, &["version"])?)?.contains("Server:"));
    let tasks = tasks(device, "services.linuxkit")?;
    for name in ["vsudd", "getty"] {
        ensure!(tasks.lines().any(|line| line.starts_with(name) && line.contains("RUNNING")), "{tasks}");
    }
    let blob: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(device.folder().join("blob"), &blob)?;
    ctr(device, &["content", "ingest", "--expected-size", "3000000", "blob"])?;
    let listed = String::from_utf8(ctr(device, &["content", "ls", "-q"])?)?;
    let digest = listed.lines().find(|line| line.starts_with("sha256:")).context(listed.clone())?;
    let back = ctr(device, &["content", "get", digest])?;
    ensure!(back == blob, "{} bytes came back", back.len());
    Ok(())
}

/// Of what is in the machine: the root of getty's container.
fn container(vm: &mut Vm, device: &Device) -> Result<()> {
    let root = "/containers/services/getty/rootfs";
    let words = ["run", "--detach", "--null-io", "--rootfs", root, "probe", "/bin/sleep", "4711"];
    ctr(device, &[&["--namespace", "apps"][..], &words].concat())?;
    let tasks = tasks(device, "apps")?;
    let line = tasks.lines().find(|line| line.starts_with("probe ")).context(tasks.clone())?;
    let pid = line.split_whitespace().nth(1).context(tasks.clone())?;
    ensure!(line.contains("RUNNING"), "{line}");
    // It is the runtime's until its own program has begun.
    vm.until(&format!("tr '\\0' ' ' </proc/{pid}/cmdline | grep '^/bin/sleep 4711'")).map(drop)
}

/// Messages of a datagram socket arrive with their length before them; when
/// the host has closed and takes a connection again, the last one once more.
fn syslog(vm: &mut Vm, listener: &Socket) -> Result<()> {
    let say = |vm: &mut Vm, messages: &str| vm.sh(&format!("/opt/vsock-load say /run/load/log {messages}"));
    listener.set_read_timeout(Some(LONG))?;
    say(vm, "one 'number two'")?;
    let first = listener.accept()?.0;
    expect(&first, "3 one10 number two")?;
    drop(first);
    let second = listener.accept()?.0;
    expect(&second, "10 number two")?;
    say(vm, "three")?;
    expect(&second, "5 three")
}

/// Reads exactly this.
fn expect(mut socket: &Socket, text: &str) -> Result<()> {
    socket.set_read_timeout(Some(LONG))?;
    let mut bytes = vec![0; text.len()];
    socket.read_exact(&mut bytes)?;
    ensure!(bytes == text.as_bytes(), "{:?} instead of {text:?}", String::from_utf8_lossy(&bytes));
    Ok(())
}
