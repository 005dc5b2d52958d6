// SPDX-License-Identifier: Apache-2.0
//! OpenSSL's own server, with a certificate by an authority of the test's.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that is killed when this is dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The file in the server's directory with the authority's certificate.
pub const AUTHORITY: &str = "ca.crt";

/// A server at `address` for whoever `subject` says (`DNS:name`, `IP:address`).
/// Its files, authority and keys are in `dir`.
pub fn server(dir: &Path, subject: &str, address: &str, pages: &[(&str, &str)]) -> Killed {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out {AUTHORITY} \
           -days 2 -subj /CN=CA -addext basicConstraints=critical,CA:TRUE
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=server
         printf 'subjectAltName={subject}\\nbasicConstraints=CA:FALSE\\n' > ext
         openssl x509 -req -in tls.csr -CA {AUTHORITY} -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.crt"
    );
    let output = Command::new("sh").args(["-ec", &script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    for (name, body) in pages {
        let text =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        std::fs::write(dir.join(name), text).unwrap();
    }
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", address, "-cert", "tls.crt", "-key", "tls.key", "-HTTP", "-quiet"]);
    let child = server.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let child = Killed(child);
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "openssl s_server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}
