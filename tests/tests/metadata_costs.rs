// SPDX-License-Identifier: Apache-2.0
//! What metadata costs: the program that goes into images, in a network of
//! this test's own. It prints every figure with its limit; `make
//! bench-metadata` runs it alone.

#[path = "../../metadata/tests/support/namespace.rs"]
mod namespace;
#[path = "../../metadata/tests/support/server.rs"]
mod server;
#[path = "../../metadata/tests/support/tls.rs"]
mod tls;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use namespace::{address, dead_end, inside, replace};
use server::{Received, Reply, Server};
use tests::paths;

const MIB: f64 = 1_048_576.0;

/// The program as images have it.
fn program() -> PathBuf {
    let path = paths::target().join("x86_64-unknown-linux-gnu/guest/metadata");
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}: run `make images`", path.display()))
}

/// What the program is shown of a machine.
struct Shown(tempfile::TempDir);

impl Shown {
    fn new(fields: &[(&str, &str)], cmdline: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dmi = dir.path().join("sys/class/dmi/id");
        for path in [&dmi, &dir.path().join("sys/class/block"), &dir.path().join("dev")] {
            fs::create_dir_all(path).unwrap();
        }
        fields.iter().for_each(|(name, value)| fs::write(dmi.join(name), format!("{value}\n")).unwrap());
        fs::write(dir.path().join("cmdline"), cmdline).unwrap();
        Self(dir)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.0.path().join(name).display().to_string();
        let mut words: Vec<String> = vec!["--no-hostname".into(), "--no-network".into()];
        for (option, name) in [
            ("--config-dir", "config"),
            ("--sysfs", "sys"),
            ("--cmdline", "cmdline"),
            ("--dev", "dev"),
            ("--leases", "leases"),
        ] {
            words.extend([option.to_owned(), path(name)]);
        }
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    }

    /// From exec to the end, when all files are there.
    fn time(&self, more: &[&str]) -> Duration {
        let start = Instant::now();
        let output = Command::new(program()).args(self.arguments(more)).output().unwrap();
        let time = start.elapsed();
        assert!(output.status.success(), "{output:?}");
        time
    }

    /// The most memory it had at once, in bytes, by GNU time: a child of this
    /// process would have this one's own peak counted to it.
    fn peak(&self, more: &[&str]) -> f64 {
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%M"]).arg(program()).args(self.arguments(more));
        let output = command.output().expect("/usr/bin/time (package time)");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let kib: f64 =
            text.lines().last().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        kib * 1024.0
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join("config").join(name)).unwrap_or_default()
    }
}

fn figure(what: &str, found: f64, limit: f64, unit: &str) {
    eprintln!("  {what}: {found:.2} {unit} (at most {limit} {unit})");
    assert!(found <= limit, "{what}: {found:.2} {unit}, more than {limit} {unit}");
}

const LEAVES: &[&str] = &[
    "hostname",
    "local-hostname",
    "public-ipv4",
    "local-ipv4",
    "placement/availability-zone",
    "instance-type",
    "instance-id",
    "public-keys/",
    "public-keys/0/openssh-key",
];

/// EC2's service, which takes this long for each answer.
fn ec2(request: &Received, delay: Duration) -> Reply {
    let reply = match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => Reply::text("TOKEN"),
        (_, _) if request.field("x-aws-ec2-metadata-token") != Some("TOKEN") => Reply::status(401),
        (_, "/latest/meta-data/public-keys/") => Reply::text("0=key"),
        (_, "/latest/meta-data/public-keys/0/openssh-key") => Reply::text("ssh-rsa AAAA key"),
        (_, "/latest/user-data") => Reply::text("x".repeat(16 << 10)),
        (_, path) if path.starts_with("/latest/meta-data/") => Reply::text("value"),
        _ => Reply::status(404),
    };
    reply.after(delay)
}

const EC2: &[(&str, &str)] = &[("sys_vendor", "Amazon EC2")];

/// The service's own time for one instance, without a client to speak of: a
/// token, then everything at once, each over a connection of its own.
fn own_time() -> Duration {
    let ask = |request: String| {
        let mut stream = TcpStream::connect("169.254.169.254:80").unwrap();
        stream.write_all(format!("{request}\r\nX-aws-ec2-metadata-token: TOKEN\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    let start = Instant::now();
    ask("PUT /latest/api/token HTTP/1.1".to_owned());
    let paths = LEAVES.iter().map(|leaf| format!("meta-data/{leaf}")).chain(["user-data".to_owned()]);
    std::thread::scope(|scope| {
        paths.for_each(|path| drop(scope.spawn(move || ask(format!("GET /latest/{path} HTTP/1.1")))));
    });
    start.elapsed()
}

#[test]
fn the_program_is_small() {
    figure("size of the program", fs::metadata(program()).unwrap().len() as f64 / MIB, 3.5, "MiB");
}

#[test]
fn aws_takes_little_more_than_its_services_own_time() {
    inside(|| {
        address("169.254.169.254/32");
        for millis in [5, 20] {
            let delay = Duration::from_millis(millis);
            let _server = Server::at("169.254.169.254:80", move |request| ec2(request, delay));
            let shown = Shown::new(EC2, "quiet");
            // In turns, so that whatever else the machine does slows both. Where
            // it does much, the least of fifteen may be one that was disturbed.
            let mut runs: Vec<(Duration, Duration)> = Vec::new();
            let least_of = |runs: &[(Duration, Duration)]| {
                let own = runs.iter().map(|run| run.0).min().unwrap_or_default();
                runs.iter().map(|run| run.1).min().unwrap_or_default().div_duration_f64(own)
            };
            while runs.is_empty() || (runs.len() < 60 && least_of(&runs) > 1.5) {
                runs.extend((0..15).map(|_| (own_time(), shown.time(&[]))));
            }
            assert_eq!(shown.file("provider"), "AWS");
            let least = |times: &dyn Fn(&(Duration, Duration)) -> Duration| {
                let mut times: Vec<Duration> = runs.iter().map(times).collect();
                times.sort();
                (times[0].as_secs_f64() * 1e3, times[times.len() / 2].as_secs_f64() * 1e3)
            };
            let (own, own_median) = least(&|run| run.0);
            let (ours, ours_median) = least(&|run| run.1);
            eprintln!(
                "  AWS, {millis} ms for each answer, {} turns: the service's own time {own:.1} ms, exec to files {ours:.1} ms; medians {own_median:.1} and {ours_median:.1} ms",
                runs.len()
            );
            figure(
                &format!("AWS, {millis} ms for each answer"),
                ours / own,
                1.5,
                "times the service's own time",
            );
        }
    });
}

#[test]
fn little_memory_is_used() {
    inside(|| {
        address("169.254.169.254/32");
        let _server = Server::at("169.254.169.254:80", |request| ec2(request, Duration::ZERO));
        figure("peak memory, AWS", Shown::new(EC2, "quiet").peak(&[]) / MIB, 8.0, "MiB");
        // Nothing is known, so all are asked at once.
        figure("peak memory, all providers at once", Shown::new(&[], "quiet").peak(&[]) / MIB, 8.0, "MiB");

        let dir = tempfile::tempdir().unwrap();
        replace("/etc/hosts", dir.path(), "127.0.0.1 metadata.platformequinix.com\n");
        let pages = [("metadata", r#"{"id": "m-1", "hostname": "metal"}"#), ("userdata", "x")];
        let _tls = tls::server(dir.path(), "DNS:metadata.platformequinix.com", "127.0.0.1:443", &pages);
        let roots = authorities(dir.path());
        replace("/etc/ssl/certs/ca-certificates.crt", dir.path(), &roots);
        let shown = Shown::new(&[], "quiet");
        figure("peak memory, Equinix over TLS", shown.peak(&["packet"]) / MIB, 8.0, "MiB");
        assert_eq!(shown.file("hostname"), "metal");
    });
}

/// The authorities of this machine, a hundred and more, and the test's own.
fn authorities(dir: &Path) -> String {
    const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
    let system = fs::read_to_string(BUNDLE)
        .unwrap_or_else(|error| panic!("{BUNDLE}: {error} (package ca-certificates)"));
    let count = system.matches("BEGIN CERTIFICATE").count() + 1;
    eprintln!("  authorities that are read: {count}");
    // With a handful the figure would say nothing.
    assert!(count > 100, "{BUNDLE} has {count} authorities");
    system + &fs::read_to_string(dir.join(tls::AUTHORITY)).unwrap()
}

#[test]
fn nobody_is_waited_for_long() {
    let none = Shown::new(&[], "metadata.provider=none");
    let least = (0..9).map(|_| none.time(&[])).min().unwrap_or_default();
    figure("known to have no service", least.as_secs_f64() * 1e3, 50.0, "ms");
    let private = Shown::new(&[("sys_vendor", "innotek GmbH"), ("product_name", "VirtualBox")], "quiet");
    let least = (0..9).map(|_| private.time(&[])).min().unwrap_or_default();
    figure("a private virtual machine", least.as_secs_f64() * 1e3, 50.0, "ms");
    for (arp, what) in [("off", "packets are swallowed"), ("on", "the link is up and nothing answers")] {
        inside(move || {
            dead_end(arp);
            let shown = Shown::new(&[], "quiet");
            // The best of some: the machine may be busy with other things.
            let least = (0..3).map(|_| shown.time(&[])).min().unwrap_or_default();
            figure(what, least.as_secs_f64(), 2.1, "s");
            assert!(least > Duration::from_millis(1900), "it did not wait at all");
        });
    }
}
