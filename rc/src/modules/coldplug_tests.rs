// SPDX-License-Identifier: Apache-2.0
//! Cold plug against a kernel that brings up devices when modules load.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use init::sys::uevent::Received;
use nix::errno::Errno;

use super::*;
use crate::modules::insert::{InsertError, ModuleKernel};
use crate::modules::name::ModuleName;
use crate::modules::plan::Step;
use crate::modules::report::Outcome;
use crate::modules::testing::Tree;

/// A kernel that loads nothing, and what it was asked for.
#[derive(Default)]
struct Inner {
    log: Mutex<Vec<String>>,
    called: Condvar,
    live: Mutex<Vec<String>>,
    queue: Mutex<VecDeque<Vec<u8>>>,
    /// Module: the errno it fails with.
    faults: Mutex<Vec<(&'static str, Errno)>>,
    /// Module: the modalias of the device it brings up.
    brings: Vec<(&'static str, &'static str)>,
    /// Where such a device is written to; by default its uevent is queued.
    sys: Option<PathBuf>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Inner>);

impl Fake {
    fn of(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    /// What was loaded once there are so many, or after a deadline. The last
    /// of them may still be about to be written down as loaded.
    fn wait_for(&self, count: usize) -> Vec<String> {
        let log = self.0.log.lock().unwrap();
        let (log, _) =
            self.0.called.wait_timeout_while(log, Duration::from_secs(120), |log| log.len() < count).unwrap();
        log.clone()
    }

    fn uevent(&self, action: &str, modalias: &str, rest: &str) {
        let message = format!("{action}@/devices/x\0ACTION={action}\0MODALIAS={modalias}\0{rest}");
        self.0.queue.lock().unwrap().push_back(message.into_bytes());
    }

    fn start(&self, tree: &Tree, names: &[&str]) -> ColdPlug {
        self.observed(tree, names, |_| {})
    }

    fn observed(
        &self,
        tree: &Tree,
        names: &[&str],
        observer: impl Fn(&Event<'_>) + Send + Sync + 'static,
    ) -> ColdPlug {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let socket: io::Result<Box<dyn UeventSource>> = match self.0.sys {
            Some(_) => Err(Errno::EPROTONOSUPPORT.into()),
            None => Ok(Box::new(Queue(self.clone(), File::open("/dev/null").unwrap()))),
        };
        ColdPlug(Pool::start(tree.place(), names, Box::new(self.clone()), socket, Box::new(observer)))
    }
}

impl ModuleKernel for Fake {
    fn is_live(&self, name: &ModuleName) -> bool {
        self.0.live.lock().unwrap().iter().any(|live| live == name.as_str())
    }

    fn insert(&self, step: &Step) -> Result<(), InsertError> {
        let name = step.name.as_str();
        for need in &step.needs {
            assert!(self.is_live(need), "{name} before {need}");
        }
        // Give the other threads a chance to do something wrong.
        std::thread::yield_now();
        let fault =
            self.0.faults.lock().unwrap().iter().find(|(module, _)| *module == name).map(|(_, errno)| *errno);
        let result = match fault {
            Some(errno) => Err(InsertError::Kernel { path: step.file.clone(), source: errno.into() }),
            None => {
                for (_, modalias) in self.0.brings.iter().filter(|(module, _)| *module == name) {
                    match &self.0.sys {
                        None => self.uevent("add", modalias, ""),
                        Some(sys) => {
                            let device = sys.join("bus/new/devices").join(name);
                            std::fs::create_dir_all(&device).unwrap();
                            std::fs::write(device.join("modalias"), modalias).unwrap();
                        }
                    }
                }
                self.0.live.lock().unwrap().push(name.to_owned());
                Ok(())
            }
        };
        self.0.log.lock().unwrap().push(name.to_owned());
        self.0.called.notify_all();
        result
    }
}

struct Queue(Fake, File);

impl UeventSource for Queue {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        match self.0.0.queue.lock().unwrap().pop_front() {
            Some(message) if message.is_empty() => Ok(Received::Overrun),
            Some(message) => {
                buffer[..message.len()].copy_from_slice(&message);
                Ok(Received::Message(message.len()))
            }
            None => Ok(Received::Empty),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }
}

fn machine() -> Tree {
    let tree = Tree::of(&[
        "virtio_ring",
        "virtio: virtio_ring",
        "virtio_pci: virtio virtio_ring",
        "virtio_blk: virtio virtio_ring",
        "scsi_mod",
        "sd_mod: scsi_mod",
        "late",
        "overlay",
        "kvm",
        "kvm_amd: kvm",
    ])
    .aliases(&[
        "pci:v1* virtio_pci",
        "virtio:blk virtio_blk",
        "scsi:disk sd_mod",
        "usb:late late",
        "cpu:* kvm_amd",
    ]);
    tree.write("sys/bus/pci/devices/a/modalias", "pci:v1af4\n");
    tree.write("sys/bus/pci/devices/b/modalias", "pci:v1af4\n");
    tree
}

const CHAIN: [(&str, &str); 2] = [("virtio_pci", "virtio:blk"), ("virtio_blk", "scsi:disk")];
const LOADED: [&str; 6] = ["virtio_ring", "virtio", "virtio_pci", "virtio_blk", "scsi_mod", "sd_mod"];

fn names<'a>(events: impl Iterator<Item = &'a crate::modules::ModuleEvent>) -> Vec<&'a str> {
    events.map(|event| event.name.as_str()).collect()
}

#[test]
fn devices_that_modules_bring_up_are_driven_before_it_is_settled() {
    let kernel = Fake::of(Inner { brings: CHAIN.to_vec(), ..Inner::default() });
    let tree = machine();
    let report = kernel.start(&tree, &[]).settle();
    assert_eq!(kernel.log(), LOADED);
    assert_eq!(names(report.loaded()), LOADED);
    assert_eq!((report.modaliases, report.failed().count(), report.complaints.len()), (3, 0, 0));
}

#[test]
fn without_a_socket_the_devices_are_read_again() {
    let tree = machine();
    let sys = Some(tree.path().join("sys"));
    let kernel = Fake::of(Inner { brings: CHAIN.to_vec(), sys, ..Inner::default() });
    let report = kernel.start(&tree, &[]).settle();
    assert_eq!(kernel.log(), LOADED);
    assert_eq!(report.complaints.len(), 1);
    assert!(
        report.complaints[0].to_string().starts_with("uevent socket: Protocol not supported"),
        "{:?}",
        report.complaints
    );
}

#[test]
fn a_lost_message_makes_the_devices_be_read_again() {
    let tree = machine();
    let kernel = Fake::default();
    let cold_plug = kernel.start(&tree, &[]);
    cold_plug.settle();
    tree.write("sys/bus/new/devices/x/modalias", "usb:late");
    kernel.0.queue.lock().unwrap().push_back(Vec::new());
    cold_plug.handle_readable();
    assert_eq!(kernel.wait_for(4)[3..], ["late"]);
}

#[test]
fn later_devices_and_names() {
    let kernel = Fake::default();
    let tree = machine();
    let cold_plug = kernel.start(&tree, &["overlay"]);
    assert!(names(cold_plug.settle().loaded()).contains(&"overlay"));
    kernel.uevent("remove", "usb:late", "");
    kernel.uevent("add", "scsi:disk", "");
    cold_plug.handle_readable();
    assert_eq!(kernel.wait_for(6)[4..], ["scsi_mod", "sd_mod"]);
    // Until then a device that comes again finds its module under way.
    cold_plug.settle();
    // Somebody has removed the module, and the device comes a second time;
    // that an "add" was asked for is no reason to load it again.
    kernel.0.live.lock().unwrap().retain(|name| name != "sd_mod");
    kernel.uevent("add", "scsi:disk", "SYNTH_UUID=0\0");
    cold_plug.handle_readable();
    kernel.uevent("add", "usb:late", "SYNTH_UUID=0\0");
    cold_plug.handle_readable();
    assert_eq!(kernel.wait_for(7)[6..], ["late"]);
    kernel.uevent("add", "scsi:disk", "");
    cold_plug.handle_readable();
    assert_eq!(kernel.wait_for(8)[7..], ["sd_mod"]);
    cold_plug.request(["kvm".to_owned()]);
    assert_eq!(kernel.wait_for(9)[8..], ["kvm"]);
}

#[test]
fn faults_are_told_and_hold_up_nothing_else() {
    let tree = machine().config("install scsi_mod /bin/false\nbroken\n");
    tree.write("sys/bus/cpu/devices/cpu0/modalias", "cpu:type:x86\n");
    let faults = Mutex::new(vec![("virtio", Errno::ENOENT), ("kvm_amd", Errno::ENODEV)]);
    let kernel = Fake::of(Inner { faults, ..Inner::default() });
    let report = kernel.start(&tree, &["sd_mod"]).settle();
    let of = |name: &str| report.modules.iter().find(|event| event.name.as_str() == name).unwrap();
    assert!(matches!(of("virtio").outcome, Outcome::Failed(_)));
    assert!(
        of("virtio_pci")
            .to_string()
            .starts_with("module virtio_pci: not loaded: it needs virtio, which is not loaded; ")
    );
    assert!(matches!(of("kvm_amd").outcome, Outcome::NoDevice) && !of("kvm_amd").is_fault());
    assert!(of("scsi_mod").to_string().ends_with("etc/test.conf:1"), "{}", of("scsi_mod"));
    assert!(!of("sd_mod").is_fault());
    assert_eq!(names(report.failed()), ["virtio", "virtio_pci"]);
    assert_eq!(report.complaints.len(), 1);
}

/// The tables are read again for it, and have the same fault.
#[test]
fn a_complaint_is_not_repeated_for_a_device_that_comes_late() {
    let kernel = Fake::default();
    let tree = machine().config("broken\n");
    let complaints = Arc::new(Mutex::new(0));
    let count = Arc::clone(&complaints);
    let cold_plug = kernel.observed(&tree, &["overlay"], move |event| {
        *count.lock().unwrap() += usize::from(matches!(event, Event::Complaint(_)));
    });
    let before = cold_plug.settle().loaded().count();
    for (number, modalias) in (1..).zip(["scsi:disk", "usb:late"]) {
        // Until its threads have ended, which forget the tables.
        while Arc::strong_count(&cold_plug.0) > 1 {
            std::thread::yield_now();
        }
        kernel.uevent("add", modalias, "");
        cold_plug.handle_readable();
        kernel.wait_for(before + number);
    }
    assert_eq!(*complaints.lock().unwrap(), 1);
}

#[test]
fn a_failed_module_has_another_chance_with_the_next_device() {
    let kernel = Fake::of(Inner { faults: Mutex::new(vec![("sd_mod", Errno::ENODEV)]), ..Inner::default() });
    let tree = machine();
    let cold_plug = kernel.start(&tree, &["sd_mod"]);
    cold_plug.settle();
    let before = kernel.log().len();
    kernel.0.faults.lock().unwrap().clear();
    kernel.uevent("add", "scsi:disk", "");
    cold_plug.handle_readable();
    assert_eq!(kernel.wait_for(before + 1)[before..], ["sd_mod"]);
}

#[test]
fn a_plan_shows_what_would_be_loaded() {
    let (plan, complaints) = plan(&machine().config("options virtio_pci force_legacy=1\n").place(), &[]);
    let shown: Vec<String> = plan.steps.iter().map(|step| step.to_string()).collect();
    assert!(shown[2].ends_with("modules/kernel/virtio_pci.ko force_legacy=1"), "{shown:?}");
    assert_eq!((shown.len(), complaints.len()), (3, 0));
}
