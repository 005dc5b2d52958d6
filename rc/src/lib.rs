// SPDX-License-Identifier: Apache-2.0
//! The boot and the supervisor of lkinit: `rc.init`, `rc.shutdown` and
//! `service`, one program by several names.

pub mod boot;
pub mod bundle;
pub mod cli;
pub mod control;
pub mod engine;
pub mod idle;
pub mod journal;
pub mod launch;
pub mod leftovers;
pub mod linger;
pub mod logs;
pub mod modules;
pub mod paths;
pub mod process;
pub mod progress;
pub mod reaper;
pub mod shell;
pub mod shutdown;
pub mod stages;
pub mod supervise;
pub mod system;
pub mod timeline;
pub mod uevent;
pub mod watch;
