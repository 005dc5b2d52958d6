// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::testing::{expected, fetch, files, guess, serving};

const META: &str = r#"{"uuid": "d8e02d56", "hostname": "vm.novalocal", "name": "vm", "availability_zone": "nova",
    "public_keys": {"b": "ssh-rsa BBBB b\n", "a": "ssh-rsa AAAA a\n"}, "keys": [], "random_seed": "x",
    "launch_index": 0, "project_id": "p", "devices": [], "meta": {"k": "v"}}"#;

#[test]
fn both_forms_of_the_service_are_used() {
    let server = serving(&[
        ("/openstack/latest/meta_data.json", META),
        ("/openstack/latest/user_data", "#!/bin/sh\n"),
        ("/latest/meta-data/local-hostname", "vm.novalocal"),
        ("/latest/meta-data/local-ipv4", "10.0.0.3"),
        ("/latest/meta-data/public-ipv4", ""),
        ("/latest/meta-data/instance-type", "m1.small"),
        ("/latest/meta-data/instance-id", "i-00000042"),
    ]);
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", "openstack"),
            ("userdata", "#!/bin/sh\n"),
            ("hostname", "vm.novalocal"),
            ("local_hostname", "vm.novalocal"),
            ("availability_zone", "nova"),
            ("local_ipv4", "10.0.0.3"),
            ("instance_type", "m1.small"),
            ("instance_id", "i-00000042"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\nssh-rsa BBBB b\n"),
        ])
    );
    assert!(found.problems.is_empty());
}

#[test]
fn the_uuid_will_do_where_there_is_no_other_id() {
    let server =
        serving(&[("/openstack/latest/meta_data.json", r#"{"uuid": "d8e02d56", "public_keys": null}"#)]);
    let found = guess(&ROW, &server).unwrap();
    assert_eq!(files(&found), expected(&[("provider", "openstack"), ("instance_id", "d8e02d56")]));
}

#[test]
fn the_name_will_do_where_there_is_no_host_name() {
    const DOCUMENT: &str = r#"{"uuid": "d8e02d56", "hostname": "", "name": "vm"}"#;
    let found = fetch(&ROW, &serving(&[("/openstack/latest/meta_data.json", DOCUMENT)])).unwrap();
    assert_eq!(found.files.get("hostname"), Some(b"vm".as_slice()));
}

#[test]
fn others_have_no_such_document() {
    assert!(fetch(&ROW, &serving(&[])).is_err());
    assert!(fetch(&ROW, &serving(&[("/openstack/latest/meta_data.json", "{}")])).is_err());
    assert!(fetch(&ROW, &serving(&[("/openstack/latest/meta_data.json", "[1]")])).is_err());
}
