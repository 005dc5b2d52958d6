// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::testing::{expected, fetch_with, files, serving};
use init::cmdline::Cmdline;

fn seed(line: String) -> Facts {
    Facts { cmdline: Cmdline::parse(&line), ..Facts::default() }
}

#[test]
fn a_seed_on_a_server() {
    let server = serving(&[
        ("/seed/x-user-data", "#!/bin/sh\n"),
        ("/seed/x-meta-data", "instance-id: i-1\nlocal-hostname: h\npublic-keys: [ssh-rsa AAAA a]\n"),
    ]);
    let from = format!("{}/seed/x-", server.base());
    let found = fetch_with(&ROW, &server, seed(format!("\"ds=nocloud;s={from};h=other\""))).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", &format!("NoCloud {from}")),
            ("userdata", "#!/bin/sh\n"),
            ("hostname", "h"),
            ("instance_id", "i-1"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\n"),
        ])
    );
    let nothing = format!("ds=nocloud;s={}/none/", server.base());
    assert!(fetch_with(&ROW, &server, seed(nothing)).is_err());
}

#[test]
fn a_seed_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    std::fs::write(dir.path().join("user-data"), "u").unwrap();
    std::fs::write(dir.path().join("meta-data"), "{\"instance-id\": \"i-2\"}").unwrap();
    let server = serving(&[]);
    for from in [format!("{path}/"), format!("file://{path}/")] {
        let found = fetch_with(&ROW, &server, seed(format!("ds=nocloud;s={from};h=h"))).unwrap();
        let provider = format!("NoCloud {from}");
        let files_expected =
            [("provider", provider.as_str()), ("userdata", "u"), ("instance_id", "i-2"), ("hostname", "h")];
        assert_eq!(files(&found), expected(&files_expected));
    }
    std::fs::remove_file(dir.path().join("user-data")).unwrap();
    std::fs::remove_file(dir.path().join("meta-data")).unwrap();
    assert!(fetch_with(&ROW, &server, seed(format!("ds=nocloud;s={path}/"))).is_err());
}

#[test]
fn keys_in_every_shape() {
    for text in [
        "public-keys: ssh-rsa AAAA a",
        "public-keys:\n  - ssh-rsa AAAA a\n",
        "public-keys: {a: {openssh-key: ssh-rsa AAAA a}}",
        "public_keys: {\"a\": \"ssh-rsa AAAA a\"}",
    ] {
        let mut found = Found::default();
        meta_data(&mut found, text.as_bytes());
        assert_eq!(found.files.get("ssh/authorized_keys").unwrap(), b"ssh-rsa AAAA a\n", "{text}");
    }
    let mut found = Found::default();
    meta_data(&mut found, b"a: [");
    assert!(found.problems[0].text.starts_with("meta-data: "));
    assert!(found.files.nodes().is_empty());
}
