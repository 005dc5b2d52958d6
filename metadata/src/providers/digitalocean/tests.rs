// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::testing::{expected, fetch, files, serving};

#[test]
fn a_droplet() {
    let server = serving(&[
        (
            PATH,
            r#"{"droplet_id": 2756294, "hostname": "d.example", "region": "nyc3", "vendor_data": "x", "user_data": "u",
            "public_keys": ["ssh-rsa AAAA a", "ssh-rsa BBBB b"],
            "interfaces": {"public": [{"ipv4": {"ip_address": "192.0.2.4", "netmask": "255.255.240.0"},
                "ipv6": {"ip_address": "2001:db8::1", "cidr": 64}, "mac": "04:01:2a:0f:2a:01", "type": "public"}],
              "private": [{"ipv4": {"ip_address": "10.132.0.4"}}]},
            "floating_ip": {"ipv4": {"active": false}}, "dns": {"nameservers": []}, "tags": null, "features": {}}"#,
        ),
        (USER_DATA, "#cloud-config\n"),
    ]);
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", "DigitalOcean"),
            ("userdata", "#cloud-config\n"),
            ("hostname", "d.example"),
            ("id", "2756294"),
            ("region", "nyc3"),
            ("public_ipv4", "192.0.2.4"),
            ("private_ipv4", "10.132.0.4"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\nssh-rsa BBBB b\n"),
        ])
    );
}

#[test]
fn a_droplet_with_the_least_there_can_be() {
    let server =
        serving(&[(PATH, r#"{"droplet_id": "7", "public_keys": "", "interfaces": {"public": [{}]}}"#)]);
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(files(&found), expected(&[("provider", "DigitalOcean"), ("id", "7")]));
    assert!(found.problems.is_empty());
}

#[test]
fn others_have_no_droplet_id() {
    for page in [r"{}", "<html>", r#"{"droplet_id": null}"#] {
        let pages: &'static [(&str, &str)] = Box::leak(Box::new([(PATH, page)]));
        assert!(fetch(&ROW, &serving(pages)).is_err(), "{page}");
    }
    assert!(fetch(&ROW, &serving(&[])).is_err());
}

#[test]
fn null_is_nothing() {
    const DOCUMENT: &str = r#"{"droplet_id": 7, "hostname": null, "region": null, "public_keys": null,
        "interfaces": {"public": null, "private": [{"ipv4": null}]}}"#;
    let found = fetch(&ROW, &serving(&[(PATH, DOCUMENT)])).unwrap();
    assert_eq!(files(&found), expected(&[("provider", "DigitalOcean"), ("id", "7")]));
}
