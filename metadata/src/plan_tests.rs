// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::facts::Facts;
use crate::facts::dmi::Dmi;
use crate::facts::media::Medium;
use crate::identify::identify;
use crate::providers::by_name;
use init::cmdline::Cmdline;

/// The steps, one word or list of words each.
fn steps(line: &str, named: &[&str]) -> Vec<String> {
    steps_of(&Facts { cmdline: Cmdline::parse(line), ..Facts::default() }, named)
}

fn steps_of(facts: &Facts, named: &[&str]) -> Vec<String> {
    let mut wanted = Named::default();
    for name in named {
        match name.strip_prefix("file=") {
            Some(path) => wanted.files.push(path.into()),
            None => wanted.rows.push(by_name(name).unwrap()),
        }
    }
    let plan = plan(&identify(facts), &wanted);
    let show = |step: &Step| match step {
        Step::Ask(row, _) => format!("ask {}", row.name),
        Step::Race { rows, ordered } => {
            let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
            format!("race{} {}", if *ordered { " in order" } else { "" }, names.join(" "))
        }
        Step::File(path) => format!("file {}", path.display()),
    };
    plan.steps.iter().map(show).collect()
}

#[test]
fn a_known_platform_is_asked_alone() {
    assert_eq!(steps("ds=ec2", &[]), ["ask aws"]);
    assert_eq!(steps("ds=ec2", &["gcp", "aws"]), ["ask aws"]);
}

#[test]
fn an_unknown_platform_is_guessed_at() {
    assert_eq!(
        steps("", &[]),
        ["race azure gcp hetzner digitalocean vultr scaleway openstack aws equinixmetal"]
    );
}

#[test]
fn a_hypervisor_with_nothing_to_say_is_no_reason_not_to_ask_the_network() {
    let vmware = |line: &str| Facts {
        cmdline: Cmdline::parse(line),
        hypervisor: Some("VMwareVMware".into()),
        ..Facts::default()
    };
    let steps = steps_of(&vmware(""), &[]);
    assert_eq!(steps[0], "ask vmware");
    assert!(steps[1].starts_with("race azure gcp "), "{steps:?}");
    assert_eq!(steps_of(&vmware("metadata.provider=vmware"), &[]), ["ask vmware"]);
    assert_eq!(steps_of(&vmware(""), &["aws", "vmware"]), ["ask vmware", "race in order aws"]);
}

#[test]
fn nobody_is_not_asked() {
    assert_eq!(steps("metadata.provider=none", &[]), [""; 0]);
}

#[test]
fn names_are_heeded_in_their_order_and_class_by_class() {
    assert_eq!(
        steps("", &["file=/x", "cdrom", "metaldata", "vmware", "aws", "file=/y"]),
        ["race in order metaldata aws", "ask cdrom", "ask vmware", "file /x", "file /y"]
    );
    assert_eq!(steps("", &["file=/x"]), ["file /x"]);
    // The user knows better than the command line.
    assert_eq!(steps("ds=ec2", &["gcp"]), ["race in order gcp"]);
    assert_eq!(steps("metadata.provider=none", &["gcp"]), ["race in order gcp"]);
}

#[test]
fn a_disk_says_nothing_about_a_network_that_is_known_to_have_no_service() {
    let disc =
        Medium { device: "/dev/sr0".into(), files: vec!["config"], optical: true, ..Medium::default() };
    let mut facts = Facts { media: Some(vec![disc]), ..Facts::default() };
    assert_eq!(steps_of(&facts, &[]).len(), 2, "a disk may have nothing to say, and a service beside it");
    facts.cmdline = Cmdline::parse("ignition.platform.id=qemu");
    assert_eq!(steps_of(&facts, &[]), ["ask cdrom"]);
    facts.cmdline = Cmdline::default();
    let (vendor, product) = (Some("innotek GmbH".into()), Some("VirtualBox".into()));
    facts.dmi = Some(Dmi { sys_vendor: vendor, product_name: product, ..Dmi::default() });
    assert_eq!(steps_of(&facts, &[]), ["ask cdrom"]);
    // The user knows better.
    assert_eq!(steps_of(&facts, &["gcp", "cdrom"]), ["ask cdrom", "race in order gcp"]);
}
