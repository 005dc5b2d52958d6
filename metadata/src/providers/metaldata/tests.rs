// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::testing::{expected, fetch, files, serving};

#[test]
fn a_machine() {
    let server = serving(&[
        (HOSTNAME, "m1.example"),
        (KEYS, "ssh-rsa AAAA a\nssh-rsa BBBB b"),
        ("/get/meta/public-ipv4", "192.0.2.1"),
        ("/get/meta/private-ipv4", "10.0.0.1"),
        ("/get/meta/failure-domain", "rack-1"),
        ("/get/meta/machine-id", "77"),
        ("/get/meta/machine-type", "big"),
        (USER_DATA, ""),
    ]);
    assert_eq!(
        files(&fetch(&ROW, &server).unwrap()),
        expected(&[
            ("provider", "metaldata"),
            ("userdata", ""),
            ("hostname", "m1.example"),
            ("public_ipv4", "192.0.2.1"),
            ("private_ipv4", "10.0.0.1"),
            ("failure_domain", "rack-1"),
            ("machine_id", "77"),
            ("machine_type", "big"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\nssh-rsa BBBB b\n"),
        ])
    );
}

#[test]
fn a_sign_in_page_is_no_machine() {
    assert!(fetch(&ROW, &serving(&[(HOSTNAME, "<html>Sign in</html>")])).is_err());
    assert!(fetch(&ROW, &serving(&[])).is_err());
}
