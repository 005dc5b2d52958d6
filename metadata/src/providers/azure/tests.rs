// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::http::Deadline;
use crate::testing::{Reply, Server, expected, fetch, files, guess, surroundings};
use std::sync::atomic::{AtomicUsize, Ordering};

const DOCUMENT: &str = r#"{
    "compute": {"vmId": "02aab8a4-74ef", "name": "vm-resource", "vmSize": "Standard_D2s_v5", "location": "westeurope",
      "zone": "", "userData": "aGVs\r\nbG8=", "customData": "", "resourceGroupName": "rg",
      "osProfile": {"adminUsername": "a", "computerName": "azhost", "disablePasswordAuthentication": true},
      "publicKeys": [{"keyData": "ssh-rsa AAAA\r\nBBBB a\r\n", "path": "/home/a/.ssh/authorized_keys"},
                     {"keyData": "-----BEGIN CERTIFICATE-----\r\nx y", "path": "/p"}],
      "tagsList": [], "isHostCompatibilityLayerVm": "false"},
    "network": {"interface": [
      {"macAddress": "000D3AF806ED", "ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.9", "publicIpAddress": ""}],
        "subnet": [{"address": "10.0.0.0", "prefix": "24"}]}, "ipv6": {"ipAddress": []}},
      {"macAddress": "000D3AF806EC", "ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4",
        "publicIpAddress": "192.0.2.4"}]}, "ipv6": {"ipAddress": []}}]},
    "extended": {"compute": {"hasCustomData": false, "ppsType": "None"}}
}"#;

const GOAL: &str = "<GoalState><Incarnation>7</Incarnation><Container><ContainerId>c</ContainerId>
    <RoleInstanceList><RoleInstance><InstanceId>r</InstanceId></RoleInstance></RoleInstanceList>
    </Container></GoalState>";

fn imds(request: &crate::testing::Received, document: &str) -> Reply {
    assert_eq!(request.field("x-forwarded-for"), None);
    match (request.path.as_str(), request.field("metadata")) {
        (INSTANCE, Some("true")) => Reply::json(document),
        _ => Reply::status(400),
    }
}

fn report_to(server: &Server, outcome: &Outcome) -> Result<(), ProviderError> {
    let surroundings = surroundings(&ROW, server, Facts::default());
    report(&Session::alone(&ROW, surroundings, Deadline::after(Duration::from_secs(20))), outcome)
}

#[test]
fn a_machine() {
    let server = Server::start(|request| imds(request, DOCUMENT));
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(
        files(&found),
        expected(&[
            ("provider", "Azure"),
            ("userdata", "hello"),
            ("hostname", "azhost"),
            ("instance_id", "02aab8a4-74ef"),
            ("instance_type", "Standard_D2s_v5"),
            ("region", "westeurope"),
            ("local_ipv4", "10.0.0.9"),
            ("ssh/authorized_keys", "ssh-rsa AAAABBBB a\n"),
        ])
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_addresses_are_those_of_the_default_route() {
    let document = Document::parse(DOCUMENT.as_bytes()).unwrap();
    let files = document.files(Some("00:0d:3a:f8:06:ec"));
    assert!(files.contains(&("local_ipv4", "10.0.0.4")) && files.contains(&("public_ipv4", "192.0.2.4")));
}

#[test]
fn an_older_host_is_asked_in_an_older_way() {
    let server = Server::start(|request| match request.path.as_str() {
        INSTANCE_OLD => Reply::json(DOCUMENT),
        _ => Reply::status(400),
    });
    assert_eq!(fetch(&ROW, &server).unwrap().files.get("hostname").unwrap(), b"azhost");
}

#[test]
fn early_in_a_boot_the_service_needs_patience() {
    let mut codes = vec![500, 429, 410, 404];
    let server = Server::start(move |request| match codes.pop() {
        Some(code) => Reply::status(code),
        None => imds(request, DOCUMENT),
    });
    fetch(&ROW, &server).unwrap();
    // On a mere guess 404 is an answer.
    let server = Server::start(|_| Reply::status(404));
    assert!(guess(&ROW, &server).is_err());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_refusal_is_final() {
    let server = Server::start(|_| Reply::status(403));
    assert!(fetch(&ROW, &server).is_err());
    // What follows is the word that nothing came of it, if there is a network.
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("GET ")).count(), 1);
    let server = Server::start(|request| imds(request, "{}"));
    assert!(fetch(&ROW, &server).err().unwrap().to_string().ends_with("it has no compute.vmId"));
}

#[test]
fn the_newer_report_is_tried_first() {
    let server = Server::start(|_| Reply::status(200));
    report_to(&server, &Outcome::default()).unwrap();
    let failed = Outcome { failures: vec!["no room".into()] };
    report_to(&server, &failed).unwrap();
    let requests = server.requests();
    assert_eq!(server.lines(), ["POST /provisioning/health"; 2]);
    assert_eq!(requests[0].body, br#"{"state":"Ready"}"#);
    assert_eq!(requests[0].field("content-type"), Some("application/json"));
    assert!(requests[0].field("x-ms-guest-agent-name").is_some());
    let body: serde_json::Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!(body["details"]["subStatus"], "ProvisioningFailed");
    assert_eq!(body["details"]["description"], "no room");
}

#[test]
fn the_older_report_follows_the_goal_state() {
    let reports = AtomicUsize::new(0);
    let server = Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/machine/?comp=goalstate") => {
            assert_eq!(request.field("x-ms-version"), Some("2012-11-30"));
            Reply::text(GOAL).field("Content-Type", "text/xml")
        }
        ("POST", "/machine?comp=health") => {
            assert_eq!(request.field("content-type"), Some("text/xml;charset=utf-8"));
            // The first time the goal state has just changed.
            Reply::status(if reports.fetch_add(1, Ordering::SeqCst) == 0 { 410 } else { 200 })
        }
        _ => Reply::status(404),
    });
    report_to(&server, &Outcome::default()).unwrap();
    assert_eq!(
        server.lines(),
        [
            "POST /provisioning/health",
            "GET /machine/?comp=goalstate",
            "POST /machine?comp=health",
            "GET /machine/?comp=goalstate",
            "POST /machine?comp=health"
        ]
    );
    let body = String::from_utf8(server.requests().pop().unwrap().body).unwrap();
    for part in ["<GoalStateIncarnation>7<", "<ContainerId>c<", "<InstanceId>r<", "<State>Ready<"] {
        assert!(body.contains(part), "{body}");
    }
}

#[test]
fn custom_data_that_has_no_disk_is_missed_loudly() {
    let document = DOCUMENT.replace("\"hasCustomData\": false", "\"hasCustomData\": \"true\"");
    let server = Server::start(move |request| imds(request, &document));
    let mut own = surroundings(&ROW, &server, Facts::default());
    own.patience = Some(Duration::from_millis(600));
    let deadline = own.deadline(&ROW);
    let found = ROW.provider.fetch(&Session::alone(&ROW, own, deadline)).unwrap();
    let problem = &found.problems[0];
    assert!(
        problem.essential && problem.text.contains("no provisioning disk has appeared"),
        "{}",
        problem.text
    );
}

#[test]
fn the_second_service_is_where_dhcp_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("eth0"), "OPTION_245=7f000001\n").unwrap();
    let server = Server::start(|_| Reply::status(200));
    let mut own = surroundings(&ROW, &server, Facts::default());
    own.leases = vec![dir.path().to_owned()];
    own.addresses = std::sync::Arc::default();
    let session = Session::alone(&ROW, own.clone(), Deadline::after(Duration::from_secs(1)));
    assert_eq!(wireserver_client(&session).url("/x"), "http://127.0.0.1/x");
    own.leases.clear();
    let session = Session::alone(&ROW, own, Deadline::after(Duration::from_secs(1)));
    assert_eq!(wireserver_client(&session).url("/x"), "http://168.63.129.16/x");
}

#[test]
fn null_is_nothing() {
    let text = br#"{"compute": {"vmId": "v", "zone": null, "osProfile": null, "publicKeys": null},
        "network": {"interface": [{"macAddress": null, "ipv4": {"ipAddress": null}}, {"ipv4": null}]},
        "extended": null}"#;
    let document = Document::parse(text).unwrap();
    assert_eq!((document.hostname(), document.keys().len(), document.has_custom_data()), ("", 0, false));
    assert_eq!(Document::parse(br#"{"compute": null}"#).unwrap_err(), "it has no compute.vmId");
}
