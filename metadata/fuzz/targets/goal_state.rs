// SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use metadata::providers::azure::wireserver::{GoalState, Report};

// Azure's goal state, and the report that is made of it: it must be XML that
// says what it was given.
fuzz_target!(|input: &[u8]| {
    if let Ok(goal) = GoalState::parse(input) {
        let report = goal.report(&Report::NotReady(String::from_utf8_lossy(input).into_owned()));
        assert!(report.ends_with("</Container></Health>"));
    }
});
