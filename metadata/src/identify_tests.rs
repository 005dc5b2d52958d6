// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::facts::dmi::Dmi;
use crate::facts::media::Medium;
use init::cmdline::Cmdline;

fn names(identification: &Identification) -> Vec<&'static str> {
    identification.candidates.iter().map(|candidate| candidate.row.name).collect()
}

fn on(line: &str) -> Facts {
    Facts { cmdline: Cmdline::parse(line), ..Facts::default() }
}

fn vendor(sys_vendor: &str, product_name: &str) -> Facts {
    let dmi = Dmi {
        sys_vendor: Some(sys_vendor.into()),
        product_name: Some(product_name.into()),
        ..Dmi::default()
    };
    Facts { dmi: Some(dmi), ..Facts::default() }
}

fn labelled(label: &str) -> Medium {
    Medium { device: "/dev/sdb".into(), labels: vec![("iso9660".into(), label.into())], ..Medium::default() }
}

#[test]
fn the_kernel_command_line_has_the_last_word() {
    let names_on = |line: &str| names(&identify(&on(line)));
    assert_eq!(names_on("metadata.provider=gcp ds=ec2"), ["gcp"]);
    assert_eq!(names_on("ds=ec2"), ["aws"]);
    assert_eq!(names_on("ds=nocloud;s=http://x/"), ["cdrom"]);
    assert_eq!(names_on("ci.ds=OpenStack"), ["openstack"]);
    assert_eq!(names_on("ignition.platform.id=packet"), ["equinixmetal"]);
    assert_eq!(names_on("metadata.provider= ds=azure"), ["azure"]);
    assert_eq!(names_on("ds=somethingelse"), [""; 0]);
    let hetzner = Facts { cmdline: Cmdline::parse("ds=ec2"), ..vendor("Hetzner", "vServer") };
    assert_eq!(names(&identify(&hetzner)), ["aws"]);
}

#[test]
fn nobody_is_an_answer_too() {
    for line in ["metadata.provider=none", "ds=None"] {
        let known = identify(&on(line));
        assert!(known.none.as_ref().unwrap().nothing && !known.wants_media(), "{line}");
    }
    let metal = Facts { media: Some(vec![labelled("cidata")]), ..on("ignition.platform.id=metal") };
    assert_eq!(names(&identify(&metal)), ["cdrom"], "a disk is no service");
    let virtualbox = vendor("innotek GmbH", "VirtualBox");
    assert!(identify(&virtualbox).none.is_some() && identify(&virtualbox).wants_media());
    let with_disk = Facts { media: Some(vec![labelled("CIDATA")]), ..virtualbox };
    assert_eq!(names(&identify(&with_disk)), ["cdrom"]);
    assert!(identify(&vendor("Microsoft Corporation", "Virtual Machine")).none.is_some());
    assert_eq!(identify(&vendor("QEMU", "Standard PC (Q35 + ICH9, 2009)")).none, None);
}

#[test]
fn each_vendor_is_known() {
    for (sys_vendor, product, name) in [
        ("Amazon EC2", "t3.micro", "aws"),
        ("Google", "Google Compute Engine", "gcp"),
        ("Hetzner", "vServer", "hetzner"),
        ("DigitalOcean", "Droplet", "digitalocean"),
        ("Vultr", "VC2", "vultr"),
        ("Scaleway", "SCW-DEV1-S", "scaleway"),
        ("OpenStack Foundation", "OpenStack Nova", "openstack"),
        ("VMware, Inc.", "VMware7,1", "vmware"),
    ] {
        assert_eq!(names(&identify(&vendor(sys_vendor, product))), [name]);
    }
    let azure = Dmi { chassis_asset_tag: Some("7783-7084-3265-9085-8269-3286-77".into()), ..Dmi::default() };
    assert_eq!(names(&identify(&Facts { dmi: Some(azure), ..Facts::default() })), ["azure"]);
}

#[test]
fn vendors_go_before_patterns_and_disks() {
    let mut facts = vendor("Hetzner", "vServer");
    facts.dmi.as_mut().unwrap().product_uuid = Some("ec2e1916-9099-7caf-fd21-012345abcdef".into());
    assert_eq!(names(&identify(&facts)), ["hetzner", "aws"]);
    let mut facts = vendor("DigitalOcean", "Droplet");
    facts.media = Some(vec![labelled("config-2"), labelled("cidata")]);
    assert_eq!(names(&identify(&facts)), ["digitalocean", "openstack", "cdrom"]);
}

#[test]
fn a_container_sees_somebody_elses_smbios() {
    let facts = Facts { container: Some("docker".into()), ..vendor("Hetzner", "vServer") };
    assert_eq!(names(&identify(&facts)), [""; 0]);
}

#[test]
fn disks_are_looked_at_only_where_they_may_help() {
    assert!(identify(&Facts::default()).wants_media());
    assert!(!identify(&vendor("Hetzner", "vServer")).wants_media());
    assert!(identify(&vendor("OpenStack Foundation", "OpenStack Nova")).wants_media());
    assert!(!identify(&on("metadata.provider=gcp")).wants_media());
}

#[test]
fn an_optical_disk_without_a_label_counts_by_its_files() {
    let disk = |files: Vec<&'static str>, optical| Facts {
        media: Some(vec![Medium { device: "/dev/sr0".into(), files, optical, ..Medium::default() }]),
        ..Facts::default()
    };
    assert_eq!(names(&identify(&disk(vec!["config"], true))), ["cdrom"]);
    assert_eq!(names(&identify(&disk(vec!["ovf-env.xml"], true))), [""; 0]);
    assert_eq!(names(&identify(&disk(vec!["config"], false))), [""; 0]);
}
