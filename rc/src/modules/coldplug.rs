// SPDX-License-Identifier: Apache-2.0
//! Cold plug: a module for every device that is there when we start, for those
//! that appear while modules load, and for those that come later.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use init::sys::uevent::UeventSocket;

use super::complaint::Complaint;
use super::insert::RunningKernel;
use super::name::ModuleName;
use super::plan::{Blacklist, Plan, Planner};
use super::pool::Pool;
use super::report::{Event, Report};
use super::sysfs;
use super::tables::{Place, Tables};
use crate::uevent::UeventSource;

/// Cold plug under way, and after [`settle`](Self::settle) the listener for
/// devices that come later.
pub struct ColdPlug(Arc<Pool>);

impl ColdPlug {
    /// Opens the uevent socket, then begins to read devices and load modules
    /// on threads of its own. `/sys` must be mounted. `names` are modules or
    /// aliases that are wanted besides (`overlay`, `fs-ext4`). `observer` is
    /// told of each module and each complaint when it happens, on whatever
    /// thread that is.
    pub fn start(
        place: Place,
        names: Vec<String>,
        observer: impl Fn(&Event<'_>) + Send + Sync + 'static,
    ) -> Self {
        let kernel = Box::new(RunningKernel::new(&place.sys));
        let socket = UeventSocket::open().map(|socket| Box::new(socket) as Box<dyn UeventSource>);
        Self(Pool::start(place, names, kernel, socket, Box::new(observer)))
    }

    /// Returns when every modalias that has been seen is handled, those of
    /// devices among them that the loaded modules brought up; the calling
    /// thread works along meanwhile.
    pub fn settle(&self) -> Report {
        self.0.settle()
    }

    /// Has the kernel send an "add" for every device there is, in the
    /// background: for programs that listen, and were not there at the first.
    pub fn trigger(&self) {
        self.0.trigger();
    }

    /// Has modules loaded, by name or alias, in the background.
    pub fn request(&self, names: impl IntoIterator<Item = String>) {
        self.0.request(names);
    }

    /// Becomes readable when the kernel has something to say about devices;
    /// none if its socket could not be opened.
    pub fn uevents(&self) -> Option<BorrowedFd<'_>> {
        self.0.socket().map(UeventSource::descriptor)
    }

    /// To be called when [`uevents`](Self::uevents) is readable, and
    /// afterwards it is not: takes what is queued, starts a thread if a module
    /// is wanted, and returns at once.
    pub fn handle_readable(&self) {
        self.0.handle_readable();
    }
}

/// Which module brought each device up whose driver is a module: its modalias,
/// and the module of the device above.
pub fn brought_up_by(sys: &Path) -> Vec<(String, ModuleName)> {
    let found = sysfs::brought_up_by(sys).into_iter();
    found.map(|(modalias, module)| (modalias, ModuleName::new(&module))).collect()
}

/// What cold plug would load for the devices that are there now and for these
/// names or aliases, with what is wrong with the configuration. Devices that the modules bring up are not in it.
pub fn plan(place: &Place, names: &[&str]) -> (Plan, Vec<Complaint>) {
    let tables = Tables::read(place);
    let mut planner = Planner::new(&tables);
    for modalias in sysfs::modaliases(&place.sys) {
        planner.want(&modalias, Blacklist::Aliases);
    }
    for name in names {
        planner.want(name, Blacklist::Aliases);
    }
    (planner.finish(), tables.complaints().to_vec())
}

#[cfg(test)]
#[path = "coldplug_tests.rs"]
mod tests;
