// SPDX-License-Identifier: Apache-2.0
//! Kernel modules: cold plug at boot, devices that come later, and the
//! `modprobe` command. docs/modules.md has the rules.
//!
//! ```text
//! modaliases, names -> Tables::lookup -> Planner -> Plan -> Graph -> threads -> finit_module(2)
//! ```

mod alias;
mod applet;
mod coldplug;
mod complaint;
mod config;
mod dep;
mod glob;
mod graph;
mod insert;
mod name;
mod plan;
mod pool;
mod report;
mod sysfs;
mod tables;
#[cfg(test)]
mod testing;
mod unpack;

pub use applet::modprobe_main;
pub use coldplug::{ColdPlug, brought_up_by, plan};
pub use complaint::{Complaint, Origin};
pub use insert::{InsertError, ModuleKernel, RunningKernel};
pub use name::ModuleName;
pub use plan::{Plan, Step};
pub use report::{Event, ModuleEvent, Outcome, Report};
pub use tables::Place;
