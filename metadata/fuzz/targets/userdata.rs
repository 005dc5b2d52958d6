// SPDX-License-Identifier: Apache-2.0
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use metadata::tree::Node;

// User data that asks for files: whatever it is, no path leaves the base.
fuzz_target!(|input: &[u8]| {
    let Ok(steps) = metadata::userdata::parse(input, Path::new("/base")) else { return };
    for node in steps.into_iter().flatten() {
        let names = node.path().names();
        assert!(names.iter().all(|name| !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0'])));
        let (Node::Dir { mode, .. } | Node::File { mode, .. }) = node;
        assert_eq!(mode & !0o777, 0);
    }
});
