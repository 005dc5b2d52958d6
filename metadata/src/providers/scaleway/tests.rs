// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::http::Deadline;
use crate::providers::Outcome;
use crate::testing::{Reply, Server, expected, fetch, files, surroundings};
use std::time::Duration;

const JSON: &str = r#"{"id": "5fc1-ab", "hostname": "scw", "commercial_type": "DEV1-S", "location": {"zone_id": "par1"},
    "private_ip": null, "public_ip": {"address": "192.0.2.7"}, "ssh_public_keys": [{"key": "ssh-rsa AAAA a"}]}"#;

fn scaleway(json: bool) -> Server {
    Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", CONF) if json => Reply::json(JSON),
        ("GET", CONF_LINES) => Reply::text("ID=5fc1-ab\nHOSTNAME=scw\n"),
        ("GET", USER_DATA) if request.peer.port() < 1024 => Reply::text("#!/bin/sh\n"),
        ("GET", USER_DATA) => Reply::status(403),
        ("PATCH", "/state") if request.body == br#"{"state_detail":"booted"}"# => Reply::status(200),
        _ => Reply::status(404),
    })
}

/// Whether this user may do what the test needs: only root may.
fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("LEFT OUT: ports below 1024 take root");
    }
    root
}

#[test]
fn user_data_is_asked_for_from_a_privileged_port() {
    if !privileged() {
        return;
    }
    let server = scaleway(true);
    let mut found = fetch(&ROW, &server).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", "Scaleway"),
            ("userdata", "#!/bin/sh\n"),
            ("hostname", "scw"),
            ("instance_id", "5fc1-ab"),
            ("instance_location", "par1"),
            ("public_ip", "192.0.2.7"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\n"),
        ])
    );
    let surroundings = surroundings(&ROW, &server, Facts::default());
    let session = Session::alone(&ROW, surroundings, Deadline::after(Duration::from_secs(5)));
    let tell = found.afterwards.pop().unwrap();
    (tell.act)(&session, &Outcome::default()).unwrap();
    assert_eq!(server.lines().last().unwrap(), "PATCH /state");
}

#[test]
fn the_older_form_will_do() {
    if !privileged() {
        return;
    }
    let found = fetch(&ROW, &scaleway(false)).unwrap();
    assert_eq!(found.files.get("instance_id").unwrap(), b"5fc1-ab");
}
