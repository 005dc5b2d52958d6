// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::testing::{expected, fetch, files, serving};
use init::cmdline::Cmdline;

#[test]
fn an_instance() {
    let server = serving(&[
        (
            PATH,
            r#"{"bgp": {"ipv4": {"my-address": ""}}, "hostname": "v", "instanceid": "35", "instance-v2-id": "x",
            "interfaces": [
              {"ipv4": {"additional": [], "address": "10.7.0.3", "gateway": "", "netmask": "255.255.0.0"},
               "mac": "5a:00:00:00:00:02", "network-type": "private"},
              {"ipv4": {"additional": [], "address": "192.0.2.3", "gateway": "192.0.2.1", "netmask": "255.255.254.0"},
               "ipv6": {"address": "2001:db8::3"}, "mac": "5a:00:00:00:00:01", "network-type": "public"}],
            "public-keys": ["ssh-rsa AAAA a"], "region": {"countrycode": "US", "regioncode": "ATL"},
            "user-data": [], "user-defined": []}"#,
        ),
        (USER_DATA, "text"),
    ]);
    assert_eq!(
        files(&fetch(&ROW, &server).unwrap()),
        expected(&[
            ("provider", "Vultr"),
            ("userdata", "text"),
            ("hostname", "v"),
            ("instance_id", "35"),
            ("public_ipv4", "192.0.2.3"),
            ("private_ipv4", "10.7.0.3"),
            ("private_netmask", "255.255.0.0"),
            ("region_code", "ATL"),
            ("ssh/authorized_keys", "ssh-rsa AAAA a\n"),
        ])
    );
}

#[test]
fn the_first_interface_is_public_where_nothing_else_is_said() {
    let server = serving(&[(
        PATH,
        r#"{"instanceid": "35", "public-keys": "ssh-rsa AAAA a\nssh-rsa BBBB b\n",
            "interfaces": [{"ipv4": {"address": "192.0.2.3"}}, {"ipv4": {"address": "10.7.0.3"}}]}"#,
    )]);
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(found.files.get("public_ipv4").unwrap(), b"192.0.2.3");
    assert_eq!(found.files.get("private_ipv4").unwrap(), b"10.7.0.3");
    assert_eq!(found.files.get("ssh/authorized_keys").unwrap(), b"ssh-rsa AAAA a\nssh-rsa BBBB b\n");
    assert_eq!(found.userdata, None);
}

#[test]
fn vultrs_machines_are_known() {
    let line = |text| Facts { cmdline: Cmdline::parse(text), ..Facts::default() };
    assert!(evidence(&line("quiet vultr x=y")).is_some());
    assert_eq!(evidence(&line("vultr=1 vultrx")), None);
    assert!(evidence(&Facts { markers: vec!["/etc/vultr"], ..Facts::default() }).is_some());
}

#[test]
fn null_is_nothing() {
    const DOCUMENT: &str = r#"{"instanceid": "35", "hostname": null, "public-keys": null, "region": null,
        "interfaces": [{"ipv4": null, "network-type": null}]}"#;
    let found = fetch(&ROW, &serving(&[(PATH, DOCUMENT)])).unwrap();
    assert_eq!(files(&found), expected(&[("provider", "Vultr"), ("instance_id", "35")]));
}
