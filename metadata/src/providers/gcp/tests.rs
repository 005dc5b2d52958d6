// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::facts::dmi::Dmi;
use crate::testing::{Reply, Server, expected, fetch, files};

const DOCUMENT: &str = r#"{
    "instance": {
        "id": 4720351563921087001, "name": "vm", "hostname": "vm.europe-west1-b.c.p.internal",
        "zone": "projects/1/zones/europe-west1-b",
        "attributes": {"user-data": "IyEvYmlu\nL3NoCg==", "user-data-encoding": "base64", "ssh-keys": "u:ssh-rsa AAAA x"},
        "networkInterfaces": [{"ip": "10.0.0.2", "accessConfigs": [{"externalIp": ""}]}],
        "serviceAccounts": {"default": {"scopes": ["a"]}}
    },
    "project": {"projectId": "p", "attributes": {"ssh-keys": "v:ssh-rsa BBBB y\nnobody"}},
    "oslogin": {}
}"#;

fn google(document: &'static str) -> Server {
    Server::start(move |request| {
        if request.field("metadata-flavor") != Some("Google") {
            return Reply::status(403);
        }
        match request.path.as_str() {
            PATH => Reply::json(document).field("Metadata-Flavor", "Google"),
            _ => Reply::status(404),
        }
    })
}

#[test]
fn one_request_brings_everything() {
    let server = google(DOCUMENT);
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", "GCP"),
            ("hostname", "vm.europe-west1-b.c.p.internal"),
            ("userdata", "#!/bin/sh\n"),
            ("ssh/authorized_keys", "ssh-rsa AAAA x\nssh-rsa BBBB y\n"),
        ])
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn user_data_as_it_is() {
    let server = google(r#"{"instance": {"id": 1, "attributes": {"user-data": "aGk="}}}"#);
    assert_eq!(fetch(&ROW, &server).unwrap().userdata.unwrap(), b"aGk=");
    let broken =
        r#"{"instance": {"id": 1, "attributes": {"user-data": "?!", "user-data-encoding": "base64"}}}"#;
    let server = google(broken);
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!((found.userdata.unwrap().as_slice(), found.problems.len()), (b"?!".as_slice(), 1));
}

#[test]
fn others_do_not_say_that_they_are_google() {
    let server = Server::start(|_| Reply::json(DOCUMENT));
    let error = fetch(&ROW, &server).err().unwrap().to_string();
    assert!(error.ends_with("this is not Google's metadata service"), "{error}");
    let server = google("<html>");
    assert!(fetch(&ROW, &server).is_err());
    let server = google("{}");
    assert!(fetch(&ROW, &server).err().unwrap().to_string().ends_with("the instance has no id"));
}

#[test]
fn googles_machines_are_known() {
    let facts = |name: &str, serial: &str| {
        let dmi =
            Dmi { product_name: Some(name.into()), product_serial: Some(serial.into()), ..Dmi::default() };
        Facts { dmi: Some(dmi), ..Facts::default() }
    };
    assert!(evidence(&facts("Google Compute Engine", "")).is_some());
    assert!(evidence(&facts("Google", "")).is_some());
    assert!(evidence(&facts("x", "GoogleCloud-0123")).is_some());
    assert_eq!(evidence(&facts("Googlex", "NotGoogleCloud-")), None);
}

#[test]
fn null_is_nothing() {
    let document = r#"{"instance": {"id": 7, "hostname": null, "attributes": null}, "project": null}"#;
    let found = fetch(&ROW, &google(document)).unwrap();
    assert_eq!(files(&found), expected(&[("provider", "GCP")]));
}
