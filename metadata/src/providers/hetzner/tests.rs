// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::facts::dmi::Dmi;
use crate::testing::{Reply, Server, expected, fetch, fetch_with, files, page, serving};

const PAGES: &[(&str, &str)] = &[
    ("/hetzner/v1/metadata/instance-id", "4711"),
    ("/hetzner/v1/metadata/hostname", "my-server"),
    ("/hetzner/v1/metadata/public-ipv4", "192.0.2.9"),
    ("/hetzner/v1/metadata/local-ipv4", ""),
    ("/hetzner/v1/metadata/public-keys", r#"["ssh-rsa AAAA a","ssh-ed25519 BBBB b"]"#),
    ("/hetzner/v1/userdata", "{}"),
];

#[test]
fn a_server() {
    let found = fetch(&ROW, &serving(PAGES)).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", "Hetzner"),
            ("userdata", "{}"),
            ("hostname", "my-server"),
            ("instance_id", "4711"),
            ("public_ipv4", "192.0.2.9"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\nssh-ed25519 BBBB b\n"),
        ])
    );
}

#[test]
fn no_user_data_is_said_in_two_ways() {
    for status in [204, 200] {
        let server = Server::start(move |request| match request.path.as_str() {
            USER_DATA => Reply::status(status),
            _ => page(PAGES, request),
        });
        let found = fetch(&ROW, &server).unwrap();
        assert_eq!((found.userdata, found.problems.len()), (None, 0));
    }
}

#[test]
fn another_servers_id_is_noticed() {
    let facts = |serial: &str| {
        let dmi =
            Dmi { sys_vendor: Some("Hetzner".into()), product_serial: Some(serial.into()), ..Dmi::default() };
        Facts { dmi: Some(dmi), ..Facts::default() }
    };
    assert!(evidence(&facts("")).is_some());
    assert!(fetch_with(&ROW, &serving(PAGES), facts("4711")).unwrap().problems.is_empty());
    let found = fetch_with(&ROW, &serving(PAGES), facts("1")).unwrap();
    assert_eq!(found.problems[0].text, "instance 4711 answers, and this machine is 1");
}

#[test]
fn others_have_no_number() {
    assert!(fetch(&ROW, &serving(&[(INSTANCE_ID, "i-0123")])).is_err());
    assert!(fetch(&ROW, &serving(&[])).is_err());
}
