// SPDX-License-Identifier: Apache-2.0
//! The boot and the supervisor of lkinit: `rc.init`, `rc.shutdown` and
//! `service`, one program by several names.

pub mod engine;
pub mod modules;
pub mod process;
pub mod reaper;
pub mod supervise;
pub mod uevent;
pub mod watch;
