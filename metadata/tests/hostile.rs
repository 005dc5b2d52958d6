// SPDX-License-Identifier: Apache-2.0
//! Servers and disks that do what they should not. Each costs the program one
//! line that says so, a bounded time and little memory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use support::namespace::inside;
use support::program::{Machine, Run, expected};
use support::server::{Reply, Server};

/// What a server sends, whatever it was asked.
#[derive(Clone)]
enum Answer {
    /// These bytes, and then it hangs up.
    Bytes(Vec<u8>),
    /// These, and then nothing more.
    Stall(Vec<u8>),
    /// These, one at a time, with so many milliseconds between them.
    Drip(Vec<u8>, u64),
    /// The first once, then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
}

use Answer::{Bytes, Drip, Endless, Stall};

fn serve(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || send(stream, &answer));
        }
    });
    address
}

fn send(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut request = [0; 4096];
    assert!(stream.read(&mut request)? > 0);
    match answer {
        Bytes(bytes) => stream.write_all(bytes),
        Stall(bytes) => {
            stream.write_all(bytes)?;
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Drip(bytes, pause) => bytes.iter().try_for_each(|byte| {
            std::thread::sleep(Duration::from_millis(*pause));
            stream.write_all(&[*byte])
        }),
        Endless(head, piece) => {
            stream.write_all(head)?;
            let many = piece.repeat(65_536 / piece.len());
            loop {
                stream.write_all(&many)?;
            }
        }
    }
}

/// An answer of Google's, as far as its head goes.
fn google(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\n{fields}\r\n{body}").into_bytes()
}

fn sized(body: &str) -> Vec<u8> {
    google(&format!("Content-Length: {}\r\n", body.len()), body)
}

/// What is sent, and what is said of it.
fn answers() -> Vec<(Answer, &'static str)> {
    let raw = |text: &str| text.as_bytes().to_vec();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let deep = format!(r#"{{"instance": {{"id": {}"#, "[".repeat(100_000));
    vec![
        (Bytes(raw("")), "the connection was closed before an answer"),
        (Stall(raw("")), "timed out"),
        (Stall(raw("HTTP/1.1 200 OK\r\nMetadata-Fl")), "timed out"),
        (Stall(google("Content-Length: 10\r\n", "{}")), "timed out"),
        (Drip(sized(&"x".repeat(1000)), 10), "timed out"),
        (Drip(google("", &"x".repeat(1000)), 10), "timed out"),
        (Endless(raw("HTTP/1.1 200 OK\r\n"), raw("A: b\r\n")), "too many header fields"),
        (Endless(raw("HTTP/1.1 200 OK\r\nA: "), raw("b")), "the head has more than 16384 bytes"),
        (Endless(google("", ""), raw("x")), "the body has more than 4194304 bytes"),
        (
            Endless(google(chunked, ""), raw(&format!("400\r\n{}\r\n", "x".repeat(1024)))),
            "the body has more than 4194304 bytes",
        ),
        // Four million of them may take longer than there is time.
        (Endless(google(chunked, ""), raw("1\r\nx\r\n")), ""),
        (Endless(google(chunked, "1;"), raw("x")), "a chunk without its size"),
        (Endless(google(chunked, "0\r\n"), raw("a: b\r\n")), "the head has more than 16384 bytes"),
        (Bytes(google("Content-Length: 10\r\n", "{}")), "closed in the middle of the answer"),
        (Bytes(google("Content-Length: 1\r\n", "{}")), "EOF while parsing an object"),
        (Bytes(google("Content-Length: 2\r\nContent-Length: 3\r\n", "{}")), "its length is not one number"),
        (Bytes(google("Content-Length: -2\r\n", "{}")), "its length is not one number"),
        (Bytes(google("Content-Length: 18446744073709551615\r\n", "{}")), "the body has more than"),
        (Bytes(google(chunked, "zz\r\n{}")), "a chunk without its size"),
        (Bytes(google(chunked, "-1\r\n{}")), "a chunk without its size"),
        (Bytes(google(chunked, "ffffffffffffffff\r\n{}")), "the body has more than"),
        (Bytes(google(chunked, "1\r\n{}\r\n0\r\n\r\n")), "a chunk longer than its size"),
        (Bytes(google("Transfer-Encoding: gzip\r\n", "{}")), "a transfer encoding that was not asked for"),
        (
            Bytes(raw("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n")),
            "redirects are not followed",
        ),
        (Bytes(raw("HTTP/1.1 503 Busy\r\nRetry-After: 99999\r\nContent-Length: 0\r\n\r\n")), "status 503"),
        (Bytes(raw("HTTP/1.1 429 Slow\r\nContent-Length: 5\r\n\r\na\0\x1b\nb")), "status 429: a"),
        (Endless(Vec::new(), raw("HTTP/1.1 100 Continue\r\n\r\n")), "too many interim answers"),
        (Bytes(raw("HTTP/1.1 101 Switch\r\n\r\n")), "it changes the protocol"),
        (Bytes(raw("SSH-2.0-OpenSSH_9.2\r\n")), "its head cannot be read"),
        (Bytes(raw("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n")), "its head cannot be read"),
        (Bytes(raw("HTTP/1.1 200 OK\r\n\r\n<html>sign in</html>")), "this is not Google's metadata service"),
        (Bytes(sized("<html>sign in</html>")), "expected value"),
        (Bytes(sized(&deep)), "recursion limit exceeded"),
        (Bytes(sized(r#"{"instance": {"attributes": {"user-data": ["a secret"]}}}"#)), "expected a string"),
        (Bytes(sized(r#"{"instance": {"id": 1, "id": 2}}"#)), "duplicate field `id`"),
        (Bytes(sized("{}")), "the instance has no id"),
    ]
}

/// One line with provider, address and reason, and no more.
fn check(run: &Run, address: SocketAddr, said: &str) {
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!((run.status, lines.len()), (1, 2), "{said}: {run:?}");
    let url = format!("http://{address}/computeMetadata/v1/?recursive=true&alt=json: ");
    assert!(lines[0].starts_with("gcp: ") && lines[0].contains(&url), "{said}: {run:?}");
    assert!(lines[0].contains(said) && lines[0].len() < 400, "{said}: {run:?}");
    assert!(!lines[0].contains("a secret"), "{run:?}");
    assert_eq!(lines[1], "No metadata/userdata found. Bye");
}

#[test]
fn whatever_a_server_sends_costs_one_line_and_little_else() {
    for (answer, said) in answers() {
        let address = serve(answer);
        let machine = Machine::new();
        let url = format!("--metadata-url=gcp=http://{address}");
        // What ends by itself has time to, on a machine that does other things.
        let waits = ["timed out", "status 503", ""].contains(&said);
        let (run, cost) = machine.run_measured(&["gcp", "--timeout", if waits { "1" } else { "20" }, &url]);
        check(&run, address, said);
        assert!(machine.tree().is_empty(), "{said}: {:?}", machine.tree());
        assert!(!waits || run.time < Duration::from_millis(2500), "{said}: {run:?}");
        // The largest document that is taken has 4 MiB.
        assert!(cost.mebibytes < 16.0 && cost.seconds < 2.0, "{said}: {cost:?}");
    }
}

/// The same where the platform is known: it is asked again, and that ends.
#[test]
fn a_known_platform_that_misbehaves_is_given_up_in_time() {
    for answer in [
        Stall(b"HTTP/1.1 2".to_vec()),
        Bytes(Vec::new()),
        Bytes(b"HTTP/1.1 503 Busy\r\nRetry-After: 99999\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ] {
        let address = serve(answer);
        let machine = Machine::new().cmdline("metadata.provider=gcp");
        let run = machine.run(&["--timeout", "2", &format!("--metadata-url=gcp=http://{address}")]);
        assert_eq!((run.status, run.stderr.lines().count()), (0, 2), "{run:?}");
        assert!((1500..2900).contains(&run.time.as_millis()), "{run:?}");
    }
}

fn ec2(user_data: Vec<u8>, hostname: &'static str) -> (Server, String) {
    let server = Server::start(move |request| match request.path.as_str() {
        "/latest/api/token" => Reply::text("T"),
        "/latest/meta-data/instance-id" => Reply::text("i-1"),
        "/latest/meta-data/hostname" => Reply::text(hostname),
        "/latest/user-data" => Reply::text(&user_data),
        _ => Reply::status(404),
    });
    let url = format!("--metadata-url=aws={}", server.base());
    (server, url)
}

#[test]
fn user_data_may_be_any_bytes_up_to_its_limit() {
    let bytes: Vec<u8> =
        (0..10_u32 << 20).map(|at| if at % 3 == 0 { 0 } else { at.to_le_bytes()[1] }).collect();
    let (_server, url) = ec2(bytes[..3 << 20].to_vec(), "a\nb");
    let machine = Machine::new();
    let (run, cost) = machine.run_measured(&["aws", &url]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(fs::read(machine.config().join("userdata")).unwrap() == bytes[..3 << 20], "it was changed");
    assert_eq!(machine.file("hostname").as_deref(), Some("a\nb"), "as it was served");
    assert!(cost.mebibytes < 16.0, "{cost:?}");

    let (_server, url) = ec2(bytes, "h");
    let machine = Machine::new();
    let (run, more) = machine.run_measured(&["aws", &url]);
    assert_eq!(machine.files(), expected(&[("provider", "AWS"), ("hostname", "h"), ("instance_id", "i-1")]));
    assert_eq!((run.status, run.stderr.lines().count()), (1, 2), "{run:?}");
    assert!(run.stderr.contains("/latest/user-data: the body has more than 4194304 bytes"), "{run:?}");
    assert!(more.mebibytes < 16.0, "{more:?}");
}

/// Trees that are made to be slow, large, or long to tell of.
#[test]
fn a_tree_costs_little_whatever_is_in_it() {
    let nested = |depth| format!("{}{{}}{}", r#"{"d":{"entries":"#.repeat(depth), "}}".repeat(depth));
    let list =
        |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let cases = [
        (
            format!("{{\"d\":{{{}}}}}", list(150_000, &|i| format!(r#""entries":{{"{i}":null}}"#))),
            "more than 16384 entries",
        ),
        (format!("{{{}}}", list(300_000, &|i| format!(r#""{i}":{{}}"#))), "more than 16384 entries"),
        (format!("{{{}}}", list(200_000, &|_| r#""same":{}"#.to_owned())), "more than 16384 entries"),
        (nested(100_000), "recursion limit exceeded"),
        ("[".repeat(4_000_000), "EOF while parsing a list"),
        (format!(r#"{{"{}":{{"content":""}}}}"#, "n".repeat(4_000_000)), "nnn"),
        (format!(r#"{{"{}":{{"content":""}}}}"#, "n/".repeat(2_000_000)), "n/n/n"),
        (format!(r#"{{"a":{{"content":"","perm":"{}"}}}}"#, "7".repeat(4_000_000)), "is not an octal number"),
    ];
    for (document, said) in cases {
        let machine = Machine::new();
        fs::write(machine.path("input"), document).unwrap();
        let (run, cost) = machine.run_measured(&[&format!("file={}", machine.path("input").display())]);
        assert_eq!(run.status, 0, "{said}: {run:?}");
        let lines: Vec<&str> = run.stderr.lines().collect();
        let told = |line: &&str| !line.starts_with("Trying file") && !line.contains("Probe succeeded");
        let told: Vec<&str> = lines.into_iter().filter(told).collect();
        assert!(told.len() == 1 && told[0].contains(said) || told[0].len() == 1003, "{said}: {run:?}");
        assert!(cost.mebibytes < 40.0 && cost.seconds < 4.0, "{said}: {cost:?}");
        eprintln!("  {said}: {cost:?}");
    }
}

/// Every name that is no place in the tree, and what is beside it.
#[test]
fn hostile_names_are_refused_one_by_one() {
    let machine = Machine::new();
    let outside = machine.path("outside").display().to_string();
    let document = serde_json::json!({
        "../outside": {"content": "x"}, "..": {"entries": {"outside": {"content": "x"}}},
        "a/../../outside": {"content": "x"}, (outside.clone()): {"content": "x"},
        "": {"content": "x"}, ".": {"content": "x"}, "/": {"content": "x"}, "n\0l": {"content": "x"},
        "line\nbreak": {"content": "kept"}, "last": {"content": "written"},
    });
    fs::write(machine.path("input"), document.to_string()).unwrap();
    let run = machine.run(&[&format!("file={}", machine.path("input").display())]);
    assert_eq!((run.status, run.stderr.lines().count()), (0, 8 + 2), "{run:?}");
    assert!(!machine.path("outside").exists());
    let own: Vec<String> = machine.files().into_keys().collect();
    assert_eq!(own, ["last", "line\nbreak", "provider", "userdata"]);
}

fn tmpfs(at: &Path, options: &str) {
    fs::create_dir_all(at).unwrap();
    mount::<str, Path, str, str>(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

fn with_input(text: &str) -> (Machine, String) {
    let machine = Machine::new();
    fs::write(machine.path("input"), text).unwrap();
    let argument = format!("file={}", machine.path("input").display());
    (machine, argument)
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_half_files() {
    inside(|| {
        // The user data itself does not fit.
        let (machine, argument) = with_input(&"x".repeat(100_000));
        tmpfs(&machine.config(), "size=64k");
        let run = machine.run(&[&argument]);
        let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("ENOSPC")).collect();
        assert_eq!((run.status, lines.len()), (1, 1), "{run:?}");
        assert!(lines[0].contains("/config/userdata: cannot write the file: ENOSPC"), "{run:?}");
        assert_eq!(machine.files().into_keys().collect::<Vec<_>>(), ["provider"]);

        // What it asks for does not: the first that does not fit is the last.
        let big = "x".repeat(30_000);
        let tree = serde_json::json!({"a": {"content": "1"}, "b": {"content": big}, "c": {"content": "3"}});
        let (machine, argument) = with_input(&tree.to_string());
        tmpfs(&machine.config(), "size=64k");
        let run = machine.run(&[&argument]);
        let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("ENOSPC")).collect();
        assert_eq!((run.status, lines.len()), (1, 1), "{run:?}");
        assert!(lines[0].starts_with("Could not extract user data: "), "{run:?}");
        assert!(lines[0].ends_with("; what follows is not tried"), "{run:?}");
        assert_eq!(machine.files().into_keys().collect::<Vec<_>>(), ["a", "provider", "userdata"]);
        // Files without bytes still take an inode.
        let tree: serde_json::Map<_, _> =
            (0..500).map(|at| (format!("f{at}"), serde_json::json!({"content": ""}))).collect();
        let (machine, argument) = with_input(&serde_json::Value::from(tree).to_string());
        tmpfs(&machine.config(), "size=64k,nr_inodes=100");
        let run = machine.run(&[&argument]);
        assert_eq!((run.status, run.stderr.matches("ENOSPC").count()), (1, 1), "{run:?}");
    });
}

#[test]
fn a_base_that_is_read_only_or_a_link() {
    inside(|| {
        let (machine, argument) = with_input(r#"{"f": {"content": "x"}}"#);
        tmpfs(&machine.config(), "ro");
        let run = machine.run(&[&argument]);
        assert_eq!(run.status, 1, "{run:?}");
        // One for each of provider, userdata and f.
        assert_eq!(run.stderr.matches("EROFS: Read-only file system").count(), 3, "{run:?}");

        // The base is the caller's own: it may be a link, and nothing beneath it may.
        let (machine, argument) = with_input(r#"{"f": {"content": "x"}}"#);
        fs::create_dir(machine.path("real")).unwrap();
        symlink(machine.path("real"), machine.config()).unwrap();
        let run = machine.run(&[&argument]);
        assert_eq!(
            (run.status, fs::read(machine.path("real/f")).unwrap().as_slice()),
            (0, b"x".as_slice()),
            "{run:?}"
        );

        // A link that leads nowhere is no place for files.
        let (machine, argument) = with_input("x");
        symlink(machine.path("nowhere"), machine.config()).unwrap();
        let run = machine.run(&[&argument]);
        assert_eq!((run.status, run.stderr.lines().count()), (1, 1), "{run:?}");
        assert!(run.stderr.contains("cannot make or open the directory"), "{run:?}");
    });
}

/// What is no file does not hold the program up.
#[test]
fn files_that_are_none() {
    let machine = Machine::new();
    let pipe = machine.path("pipe").display().to_string();
    nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let directory = machine.path("dev").display().to_string();
    for (path, said) in [
        (pipe.as_str(), "it is a pipe"),
        (&directory, "Is a directory"),
        ("/dev/zero", "it has more than 4194304 bytes"),
        ("/nonexistent", "there is no such file"),
        ("", "there is no such file"),
    ] {
        let run = machine.run(&[&format!("file={path}")]);
        assert_eq!((run.status, run.stderr.lines().count()), (1, 3), "{run:?}");
        assert!(run.stderr.contains(&format!("\n{path}: {said}")), "{run:?}");
        assert!(run.time < Duration::from_secs(2), "{run:?}");
    }
}

/// Somebody who stops reading is no reason to fall over.
#[test]
fn nobody_has_to_read_what_is_printed() {
    let machine = Machine::new();
    for argument in ["--help", "--explain"] {
        let mut command = machine.command(&[argument]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        let run = support::program::run_as_it_is(command);
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{run:?}");
    }
}
