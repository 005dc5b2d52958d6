// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::facts::Facts;
use crate::http::Deadline;
use crate::providers::Outcome;
use crate::testing::{Reply, Server, expected, fetch, files, serving, surroundings};

const DOCUMENT: &str = r#"{"id": "4a0f-1", "hostname": "metal", "iqn": "iqn", "plan": "c3.small.x86", "facility": "ny5",
    "ssh_keys": ["ssh-rsa AAAA a", "ssh-rsa BBBB b"], "tags": [], "specs": {}, "storage": {},
    "network": {"bonding": {"mode": 4, "link_aggregation": "mlag", "mac": "b4:96:91:00:00:01"}, "interfaces": [],
    "addresses": []}, "spot": {}, "phone_home_url": "http://tinkerbell.ny5.packet.net/phone-home"}"#;

#[test]
fn a_machine() {
    let server = serving(&[(METADATA, DOCUMENT), (USER_DATA, "#cloud-config\n")]);
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", "EquinixMetal"),
            ("userdata", "#cloud-config\n"),
            ("hostname", "metal"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\nssh-rsa BBBB b\n"),
        ])
    );
    let what: Vec<&str> = found.afterwards.iter().map(|afterwards| afterwards.what).collect();
    assert_eq!(what, ["phone home"], "the tests' sessions leave the network alone");
}

#[test]
fn an_unknown_caller_is_told_so_in_several_ways() {
    let server = Server::start(|_| Reply::status(404).with_body(r#"{"message":"resource not found"}"#));
    assert!(fetch(&ROW, &server).err().unwrap().to_string().ends_with("the machine is not known"));
    for body in [r#"{"message":"x"}"#, r#"{"error":"x"}"#, "{}", "[]", "<html>"] {
        let server = Server::start(move |_| Reply::json(body));
        assert!(fetch(&ROW, &server).is_err(), "{body}");
    }
}

#[test]
fn an_error_is_no_user_data_and_neither_is_a_boot_script() {
    let server = Server::start(|request| match request.path.as_str() {
        METADATA => Reply::json(DOCUMENT),
        _ => Reply::status(404).with_body(r#"{"message":"resource not found"}"#),
    });
    assert_eq!(fetch(&ROW, &server).unwrap().userdata, None);
    let server = serving(&[(METADATA, DOCUMENT), (USER_DATA, "#!ipxe\nboot\n")]);
    assert_eq!(fetch(&ROW, &server).unwrap().userdata, None);
}

fn call(server: &Server, url: &str) -> Result<(), ProviderError> {
    let surroundings = surroundings(&ROW, server, Facts::default());
    phone_home(&Session::alone(&ROW, surroundings, Deadline::after(Duration::from_secs(5))), url)
}

#[test]
fn only_hosts_that_are_expected_are_called() {
    let server = Server::start(|_| Reply::status(200));
    call(&server, &format!("{}/phone-home", server.base())).unwrap();
    let request = server.requests().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/phone-home"));
    assert_eq!(request.field("content-length"), Some("0"));
    for url in
        ["http://evil.example/x", "http://evil-packet.net/", "http://169.254.169.254/x", "file:///x", ""]
    {
        assert!(call(&server, url).err().unwrap().to_string().starts_with("phone_home_url: "), "{url}");
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn what_is_found_can_be_reported() {
    let server = Server::start(|_| Reply::status(500));
    let surroundings = surroundings(&ROW, &server, Facts::default());
    let session = Session::alone(&ROW, surroundings, Deadline::after(Duration::from_millis(200)));
    let url = format!("{}/phone-home", server.base());
    let tell: super::super::Act = Box::new(move |session, _| phone_home(session, &url));
    assert!(tell(&session, &Outcome::default()).is_err());
}

#[test]
fn null_is_nothing() {
    let text = br#"{"id": "m", "hostname": null, "ssh_keys": null, "phone_home_url": null,
        "network": {"bonding": {"mode": null}, "interfaces": null, "addresses": null}}"#;
    let document = Document::parse(text).unwrap();
    assert!(document.ssh_keys.is_empty() && document.network.interfaces.is_empty());
    assert!(Document::parse(br#"{"id": "m", "network": null}"#).is_ok());
}
