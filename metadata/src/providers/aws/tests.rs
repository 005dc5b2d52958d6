// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::facts::dmi::Dmi;
use crate::testing::{Reply, Server, expected, fetch, fetch_with, files, guess, page};
use std::time::Instant;

const PAGES: &[(&str, &str)] = &[
    ("/latest/meta-data/hostname", "ip-10-0-0-5.ec2.internal"),
    ("/latest/meta-data/local-hostname", "ip-10-0-0-5.ec2.internal"),
    ("/latest/meta-data/local-ipv4", "10.0.0.5"),
    ("/latest/meta-data/placement/availability-zone", "eu-west-1a"),
    ("/latest/meta-data/instance-type", "t3.micro"),
    ("/latest/meta-data/instance-id", "i-0123456789abcdef0"),
    ("/latest/meta-data/public-keys/", "0=first\n7=second\nx=third\n../8=fourth"),
    ("/latest/meta-data/public-keys/0/openssh-key", "ssh-rsa AAAA first"),
    ("/latest/meta-data/public-keys/7/openssh-key", "ssh-rsa BBBB second\n"),
    ("/latest/user-data", "#!/bin/sh\n"),
];

const FILES: &[(&str, &str)] = &[
    ("provider", "AWS"),
    ("userdata", "#!/bin/sh\n"),
    ("hostname", "ip-10-0-0-5.ec2.internal"),
    ("local_hostname", "ip-10-0-0-5.ec2.internal"),
    ("local_ipv4", "10.0.0.5"),
    ("availability_zone", "eu-west-1a"),
    ("instance_type", "t3.micro"),
    ("instance_id", "i-0123456789abcdef0"),
    ("ssh/authorized_keys", "ssh-rsa AAAA first\nssh-rsa BBBB second\n"),
];

/// A service of version 2, whose answer to the PUT is the test's affair.
fn version_two(mut put: impl FnMut() -> Reply + Send + 'static) -> Server {
    Server::start(move |request| {
        if request.method == "PUT" && request.path == "/latest/api/token" {
            assert!(request.field("x-aws-ec2-metadata-token-ttl-seconds").is_some());
            assert_eq!(request.field("content-length"), Some("0"));
            return put();
        }
        match request.field("x-aws-ec2-metadata-token") {
            Some("TOKEN==") => page(PAGES, request),
            _ => Reply::status(401),
        }
    })
}

#[test]
fn version_two_with_a_token() {
    let server = version_two(|| Reply::text("TOKEN=="));
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(files(&found), expected(FILES));
    assert!(found.problems.is_empty());
    assert!(server.lines().iter().all(|line| !line.contains("..") && !line.contains("/x/")));
}

#[test]
fn version_one_where_tokens_are_unknown() {
    for status in [404, 405, 501] {
        let server = Server::start(move |request| match request.method.as_str() {
            "PUT" => Reply::status(status),
            _ => page(PAGES, request),
        });
        assert_eq!(files(&fetch(&ROW, &server).unwrap()), expected(FILES));
    }
}

#[test]
fn a_service_that_is_switched_off_is_not_asked_further() {
    let server = Server::start(|_| Reply::status(403));
    let error = fetch(&ROW, &server).err().unwrap().to_string();
    assert!(error.ends_with("/latest/api/token: status 403: the service is switched off"), "{error}");
    assert_eq!(server.lines(), ["PUT /latest/api/token"]);
}

#[test]
fn a_bad_request_is_no_reason_for_version_one() {
    let server = Server::start(|request| match request.method.as_str() {
        "PUT" => Reply::status(400),
        _ => page(PAGES, request),
    });
    assert!(fetch(&ROW, &server).is_err());
    assert_eq!(server.lines(), ["PUT /latest/api/token"]);
}

#[test]
fn a_token_that_never_comes_hints_at_the_hop_limit() {
    let server = version_two(|| Reply::text("").after(Duration::from_secs(30)));
    let start = Instant::now();
    let error = guess(&ROW, &server).err().unwrap().to_string();
    assert!(error.contains("HttpPutResponseHopLimit"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_token_that_never_comes_is_not_needed_by_all() {
    let server = Server::start(|request| match request.method.as_str() {
        "PUT" => Reply::text("").after(Duration::from_secs(30)),
        _ => page(PAGES, request),
    });
    assert_eq!(files(&guess(&ROW, &server).unwrap()), expected(FILES));
}

#[test]
fn a_sign_in_page_is_neither_token_nor_instance() {
    let server = Server::start(|_| Reply::text("<html>\n<body>Sign in, please</body></html>"));
    assert!(fetch(&ROW, &server).err().unwrap().to_string().ends_with("the answer is no token"));
    let server = Server::start(|request| match request.method.as_str() {
        "PUT" => Reply::status(405),
        _ => Reply::text("<html>Sign in</html>"),
    });
    assert!(fetch(&ROW, &server).err().unwrap().to_string().ends_with("the answer is not EC2's"));
}

#[test]
fn nothing_optional_is_missed() {
    let server = Server::start(|request| match request.path.as_str() {
        "/latest/api/token" => Reply::text("T"),
        "/latest/meta-data/instance-id" => Reply::text("i-1"),
        _ => Reply::status(404),
    });
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(files(&found), expected(&[("provider", "AWS"), ("instance_id", "i-1")]));
    assert!(found.problems.is_empty());
}

#[test]
fn what_cannot_be_had_is_said_and_the_rest_is_there() {
    let server = Server::start(|request| match request.path.as_str() {
        "/latest/api/token" => Reply::text("T"),
        "/latest/user-data" | "/latest/meta-data/hostname" => Reply::status(418),
        _ => page(PAGES, request),
    });
    let found = fetch(&ROW, &server).unwrap();
    assert!(found.files.get("instance_id").is_some() && found.files.get("hostname").is_none());
    let essential: Vec<bool> = found.problems.iter().map(|problem| problem.essential).collect();
    assert_eq!(essential, [true, false]);
    assert!(found.problems[0].text.contains("/latest/user-data: status 418"), "{}", found.problems[0].text);
}

#[test]
fn keys_that_are_too_many_are_counted() {
    let server = Server::start(|request| match request.path.strip_prefix("/latest/meta-data/public-keys/") {
        _ if request.method == "PUT" => Reply::text("T"),
        Some("") => Reply::text((0..66).map(|at| format!("{at}=name\n")).collect::<String>()),
        Some(key) => Reply::text(format!("ssh-rsa AAAA {key}")),
        None => Reply::status(404),
    });
    let found = fetch(&ROW, &server).unwrap();
    assert_eq!(files(&found)["ssh/authorized_keys"].lines().count(), 64);
    assert_eq!(found.problems[0].text, "2 SSH keys are left out: more than 64");
}

#[test]
fn user_data_is_bytes() {
    let server = Server::start(|request| match request.path.as_str() {
        "/latest/api/token" => Reply::text("T"),
        "/latest/user-data" => Reply::text([0, 0xFF, b'\r', b'\n']),
        _ => page(PAGES, request),
    });
    assert_eq!(fetch(&ROW, &server).unwrap().userdata.unwrap(), [0, 0xFF, b'\r', b'\n']);
}

#[test]
fn requests_go_out_together() {
    let delay = Duration::from_millis(200);
    let server = Server::start(move |request| match request.path.as_str() {
        "/latest/api/token" => Reply::text("T").after(delay),
        _ => page(&PAGES[..PAGES.len() - 3], request).after(delay),
    });
    let start = Instant::now();
    fetch(&ROW, &server).unwrap();
    // One round for the token, one for everything, one for the second key; one
    // after the other it would be twelve.
    assert!(start.elapsed() < delay * 7, "{:?}", start.elapsed());
}

fn with_dmi(dmi: Dmi) -> Facts {
    Facts { dmi: Some(dmi), ..Facts::default() }
}

fn uuid(text: &str) -> Facts {
    with_dmi(Dmi { product_uuid: Some(text.to_owned()), ..Dmi::default() })
}

#[test]
fn amazons_machines_are_known() {
    for text in [
        "EC2E1916-9099-7CAF-FD21-012345ABCDEF",
        "ec2e1916-9099-7caf-fd21-012345abcdef",
        "45E12AEC-DCD1-B213-94ED-012345ABCDEF",
    ] {
        assert!(evidence(&uuid(text)).is_some(), "{text}");
    }
    for text in ["45E12ABC-DCD1-B213-94ED-012345ABCDEF", "45E1zzEC-0", "2AEC", "", "DEC2E191-9099-7CAF"] {
        assert_eq!(evidence(&uuid(text)), None, "{text}");
    }
    let xen = Facts { hypervisor_uuid: Some("ec2f58af-2dad-c57e".into()), ..Facts::default() };
    assert!(evidence(&xen).is_some());
    let nitro = with_dmi(Dmi { sys_vendor: Some("Amazon EC2".into()), ..Dmi::default() });
    assert!(evidence(&nitro).is_some());
    let container = Facts { container: Some("docker".into()), ..nitro };
    assert_eq!(evidence(&container), None, "the SMBIOS of a container is not its own");
}

#[test]
fn imitators_are_not_asked_for_tokens() {
    let outscale = Dmi {
        sys_vendor: Some("3DS Outscale".into()),
        product_name: Some("3DS Outscale VM".into()),
        ..Dmi::default()
    };
    assert!(evidence(&with_dmi(outscale.clone())).is_some());
    let server = Server::start(|request| page(PAGES, request));
    let found = fetch_with(&ROW, &server, with_dmi(outscale)).unwrap();
    assert_eq!(files(&found), expected(FILES));
    assert!(server.lines().iter().all(|line| line.starts_with("GET ")));
}
